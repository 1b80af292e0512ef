"""New items: who recommends an item without a training click, and what it costs on known ones.

Each seed takes a share of the items out of the training part (--hold random), those whose first
click is latest (--hold time), or those that came out last (--hold year). Models are trained on the
rest, grown to the whole catalog (gs.grow), and ranked on the test part among all items. New targets
are also ranked among the new items alone: that says whether a model knows which new item comes
next, apart from whether it puts new items above known ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.results import fit_whole, said
from graphseq.evaluation.significance import mean_interval, paired_test
from graphseq.models import SessionModel
from graphseq.models.use.grow import Initial
from graphseq.models.use.inference import inference
from graphseq.random import stream

FEATURES: dict[str, list[Any]] = {
    "uci-eshop": ["colour", "location", "photography", "price", "page"],
    "movielens-small": [{"name": "genres", "kind": "multi_hot", "separator": "|"}, "year"],
    "ml-100k": [{"name": "genres", "kind": "multi_hot", "separator": "|"}, "year"],
    "ml-1m": [{"name": "genres", "kind": "multi_hot", "separator": "|"}, "year"],
    "beauty": [{"name": "attributes", "kind": "multi_hot", "separator": "|"}],
    "toys": [{"name": "attributes", "kind": "multi_hot", "separator": "|"}],
}
"""What items of a data set are told by."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies.cold_items", description=__doc__
    )
    parser.add_argument("--dataset", default="uci-eshop", choices=sorted(FEATURES))
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--hold", default="random", choices=["random", "time", "year"])
    parser.add_argument("--share", type=float, default=0.2, help="of the items, that are new")
    parser.add_argument("--targets", type=int, help="the last so many clicks of each history")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--max-length", type=int, default=50, help="clicks that SASRec sees")
    parser.add_argument("--sessions", type=int, help="only so many of the newest of training")
    parser.add_argument("--histories", type=int, help="only so many, drawn, for --targets")
    parser.add_argument("--unseen", action="store_true", help="items of the history leave the list")
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1, 2])
    parser.add_argument("--out", type=out_folder, default=Path("runs/cold_items"))
    options = parser.parse_args(argv)
    with said():
        if not 0 < options.share < 1:
            raise ValueError(f"--share lies between 0 and 1, got {options.share}.")
        if options.targets is None:
            split = gs.load_split(options.dataset, root=options.root)
        else:
            histories = gs.load_dataset(options.dataset, root=options.root)
            split = gs.leave_last_split(drawn(histories, options.histories), options.targets)
    train = split.train if options.sessions is None else split.train[-options.sessions :]
    benchmark = Benchmark.start(
        "experiments.studies.cold_items", argv, options.dataset, split.train
    )
    found: dict[str, list[Run]] = {}
    for seed in options.seeds:
        new = new_items(train, options.hold, options.share, seed)
        for name, model in models(train, new, options, seed).items():
            run = measured(model, split.test, exclude_seen=options.unseen)
            found.setdefault(name, []).append(run)
            print(f"seed {seed} {name}: {run.among_new.mean():.4f}", flush=True)
    for name, runs in found.items():
        benchmark.add(**row_of(options, name, runs, found["content kNN"], train.num_items))
        benchmark.write(options.out / "results.json")
    benchmark.finish(options.out / "results.json")


class Run(NamedTuple):
    """One model of one seed on the test part."""

    report: gs.evaluation.Report
    cold: NDArray[np.bool_]  # whether the target is a new item, [num_cases]
    known: NDArray[np.bool_]  # whether it was clicked in training, [num_cases]
    among_new: NDArray[np.float64]  # hr@20 of new targets among the new items, [num_cold]
    chance: float  # of a random order of the new items


def measured(model: SessionModel, test: gs.Sessions, *, exclude_seen: bool = False) -> Run:
    """The ranks of all targets among all items, and of new targets among new items."""
    assert model.catalog is not None
    test = model.catalog.encode(test)
    report = gs.evaluate(model, test, ks=(20,), exclude_seen=exclude_seen)
    codes = torch.from_numpy(np.flatnonzero(model.catalog.counts == 0))
    whole = gs.SessionGraphDataset(test, samples="prefixes")
    dataset = gs.SessionGraphDataset(test, samples="prefixes", max_length=model.max_length)
    targets = torch.from_numpy(dataset.targets())  # -1: an item of neither kind
    place = torch.full((model.num_items,), -1)
    place[codes] = torch.arange(len(codes))
    cold = (targets >= 0) & (place[targets] >= 0)
    hits = []
    with inference(model):
        for index in cold.nonzero().view(-1).split(256):
            scores = model.score(dataset.batch(index), codes)
            if exclude_seen:
                history = whole.batch(index)
                seen = place[history.x] >= 0
                scores[history.batch[seen], place[history.x[seen]]] = -torch.inf
            better, tied = gs.evaluation.rank_counts(scores, place[targets[index]])
            ranked = better.numpy(), tied.numpy()
            hits.append(gs.evaluation.metric_values("hr@20", *ranked, len(codes)))
    known = (targets >= 0) & ~cold
    return Run(report, cold.numpy(), known.numpy(), np.concatenate(hits), min(1, 20 / len(codes)))


def drawn(histories: gs.Sessions, number: int | None) -> gs.Sessions:
    """So many of the histories, drawn; all where there are no more."""
    if number is None or number >= len(histories):
        return histories
    rows = stream("drawn_histories", 0).choice(len(histories), number, replace=False)
    return histories.select(np.sort(rows))


def new_items(train: gs.Sessions, hold: str, share: float, seed: int) -> NDArray[np.int64]:
    """Codes of the items that training is not to know."""
    clicked = np.unique(train.items[train.items >= 0]).astype(np.int64)
    number = max(1, round(share * len(clicked)))
    if hold == "random":
        return np.sort(stream("held_out_items", seed).choice(clicked, number, replace=False))
    if hold == "year":
        assert train.item_features is not None
        year = train.item_features["year"].to_numpy(np.float64, na_value=-np.inf)
        return np.sort(clicked[np.argsort(year[clicked], kind="stable")[-number:]])
    if train.time is None:
        raise SystemExit("--hold time needs a log with times: take --hold random or year.")
    first = np.full(train.num_items, np.inf)
    known = train.items >= 0
    np.minimum.at(first, train.items[known], np.asarray(train.time)[known])
    return np.sort(clicked[np.argsort(first[clicked], kind="stable")[-number:]])


def without(train: gs.Sessions, new: NDArray[np.int64]) -> tuple[gs.Sessions, gs.Sessions]:
    """Training without the new items, in a catalog without them, and in the whole catalog."""
    items = np.where(np.isin(train.items, new), -1, train.items)
    whole = replace(train, items=items.astype(train.items.dtype))  # clicks on them are unknown
    ids = np.delete(np.arange(train.num_items), new)
    return whole.with_vocabulary(gs.data.Vocabulary(train.vocabulary.ids[ids])), whole


def models(
    train: gs.Sessions, new: NDArray[np.int64], options: argparse.Namespace, seed: int
) -> dict[str, SessionModel]:
    """Models that never saw the new items, grown to the whole catalog."""
    known, whole = without(train, new)
    specs = gs.data.feature_specs(known, item=FEATURES[options.dataset])["item_features"]
    base = {"hidden_channels": 64, "num_layers": 1, "max_length": options.max_length}
    number = known.num_items
    builds: dict[str, tuple[Callable[[], SessionModel], Initial]] = {
        "popularity": (lambda: gs.models.Popularity(number), "mean"),
        "markov": (lambda: gs.models.MarkovChain(number), "mean"),
        "content kNN": (lambda: gs.models.ContentKNN(number, specs), "mean"),
        "SASRec, new rows: mean": (lambda: gs.models.SASRec(number, **base), "mean"),
        "SASRec, new rows: by features": (
            lambda: gs.models.SASRec(number, **base),
            "features",
        ),
        "SASRec with features": (
            lambda: gs.models.WithFeatures(
                number, specs, feature_channels=32, id_dropout=0.3, arguments=base
            ),
            "features",
        ),
    }
    grown: dict[str, SessionModel] = {}
    trained: SessionModel | None = None
    for name, (build, initial) in builds.items():
        same = trained is not None and type(trained) is gs.models.SASRec and "new rows" in name
        if not same:
            trained = fitted(build, known, options, seed)
        assert trained is not None
        grown[name] = gs.grow(trained, whole, initial=initial)
    return grown


def fitted(
    build: Callable[[], SessionModel], known: gs.Sessions, options: argparse.Namespace, seed: int
) -> SessionModel:
    """A new model, trained as the options say."""
    torch.manual_seed(seed)
    model = build()
    more: dict[str, Any] = {
        "max_epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
    }
    counted = isinstance(model, gs.models.CountingModel)
    fit_whole(model, known, seed=seed, progress=False, **({} if counted else more))
    return model


def row_of(
    options: argparse.Namespace, name: str, runs: list[Run], rivals: list[Run], num_items: int
) -> dict[str, Any]:
    """Metrics of new and of known targets in per cent, over all seeds, clustered by session."""
    row: dict[str, Any] = {"data": options.dataset, "model": name}
    cold = np.concatenate([r.report.cluster[r.cold] for r in runs])
    known = np.concatenate([r.report.cluster[r.known] for r in runs])
    among, rival = (np.concatenate([r.among_new for r in each]) for each in (runs, rivals))
    row["hr@20 of new among new"] = per_cent(among.mean(), *mean_interval(among, cold))
    test = paired_test(among, rival, cold)
    row["beyond content kNN"] = (
        "-" if runs is rivals else per_cent(test.difference, test.low, test.high, sign="+")
    )
    row["chance among new"] = f"{100 * runs[0].chance:.2f}"
    row["cases of new"] = len(cold)
    for kind, cluster in (("new", cold), ("known", known)):
        values = np.concatenate(
            [r.report.values("hr@20")[r.cold if kind == "new" else r.known] for r in runs]
        )
        low, high = mean_interval(values, cluster)
        row[f"hr@20 of {kind} among all"] = per_cent(values.mean(), max(low, 0), high)
    row["chance among all"] = f"{100 * 20 / num_items:.2f}"
    return row


def per_cent(value: float, low: float, high: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f} ({100 * low:{sign}.2f} to {100 * high:{sign}.2f})"


if __name__ == "__main__":
    main()
