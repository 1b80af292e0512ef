"""Language: what titles add to clicks, on new films and on known ones.

A share of the films is taken out of training, as in the study of new items, and all that is known
of a film is its title. Word vectors are WordLlama's (extra 'language'). --encoder names the folder
of a sentence transformer, such as all-MiniLM-L6-v2: then its vectors of titles are measured too,
and the transformer that reads the history as one text, as it is and fine-tuned.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.results import said
from experiments.studies.cold_items import (
    Run,
    drawn,
    fitted,
    measured,
    new_items,
    per_cent,
    without,
)
from graphseq.evaluation.significance import mean_interval, paired_test
from graphseq.models import SessionModel
from graphseq.models.counting.counting import of_items
from graphseq.serving import SentenceEncoder, TextRecommender

DATASETS = ["ml-1m", "movielens-small", "ml-100k"]
NEAREST, SASREC = "nearest titles, word vectors", "SASRec"
CHANNELS = 128
"""Width of the word vectors."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies.language", description=__doc__
    )
    parser.add_argument("--dataset", default="movielens-small", choices=DATASETS)
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--encoder", help="folder of a sentence transformer")
    parser.add_argument("--text-only", action="store_true", help="no row of SASRec")
    parser.add_argument("--tuning", type=int, default=3, help="its epochs; 0: as it is alone")
    parser.add_argument("--titles", type=int, default=5, help="newest titles that it reads")
    parser.add_argument("--hold", default="random", choices=["random", "time", "year"])
    parser.add_argument("--share", type=float, default=0.2, help="of the films, that are new")
    parser.add_argument("--targets", type=int, default=5, help="the last films of each history")
    parser.add_argument("--histories", type=int, help="only so many, drawn")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--max-length", type=int, default=50, help="clicks that SASRec sees")
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1])
    parser.add_argument("--out", type=out_folder, default=Path("runs/language"))
    options = parser.parse_args(argv)
    with said():
        if not 0 < options.share < 1:
            raise ValueError(f"--share lies between 0 and 1, got {options.share}.")
        histories = gs.load_dataset(options.dataset, root=options.root)
        split = gs.leave_last_split(drawn(histories, options.histories), options.targets)
        encoder = None if options.encoder is None else SentenceEncoder(options.encoder)
    benchmark = Benchmark.start("experiments.studies.language", argv, options.dataset, split.train)
    train = with_vectors(split.train, encoder)
    found: dict[str, list[Run]] = {}
    for seed in options.seeds:
        new = new_items(train, options.hold, options.share, seed)
        for name, model in models(train, new, options, seed):
            run = measured(model, split.test, exclude_seen=True)
            found.setdefault(name, []).append(run)
            print(f"seed {seed} {name}: {run.among_new.mean():.4f}", flush=True)
    for name, runs in found.items():
        benchmark.add(**row_of(options.dataset, name, runs, found))
        benchmark.write(options.out / "results.json")
    benchmark.finish(options.out / "results.json")


def titles_of(sessions: gs.Sessions) -> list[str]:
    assert sessions.item_features is not None
    return [str(title) for title in sessions.item_features["title"]]


def with_vectors(train: gs.Sessions, encoder: SentenceEncoder | None) -> gs.Sessions:
    """The sessions with vectors of their titles as features of the items."""
    assert train.item_features is not None
    titles = titles_of(train)
    columns: dict[str, Any] = {"words": list(gs.data.text_vectors(titles, CHANNELS))}
    if encoder is not None:
        told = TextRecommender(dict(enumerate(titles)), encoder).item_vectors()
        columns["transformer"] = list(told.numpy())
    return replace(train, item_features=train.item_features.assign(**columns))


class TextModel(SessionModel):
    """A text recommender whose ids are the codes of a catalog, as a model that can be ranked."""

    samples = "counts"

    def __init__(self, text: TextRecommender, whole: gs.Sessions) -> None:
        super().__init__(whole.num_items)
        self.text = text
        self.attach(whole.catalog())

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        clicks, ptr = batch.click_item.tolist(), batch.click_ptr.tolist()
        return of_items(self.text.cosines([clicks[a:b] for a, b in pairwise(ptr)]), items)


def models(
    train: gs.Sessions, new: NDArray[np.int64], options: argparse.Namespace, seed: int
) -> Iterator[tuple[str, SessionModel]]:
    """Models that never saw the new films, grown to the whole catalog, each with its name."""
    known, whole = without(train, new)
    number = known.num_items
    base = {"hidden_channels": 64, "num_layers": 1, "max_length": options.max_length}
    kinds = {"words": "word vectors", "transformer": "transformer"}
    assert train.item_features is not None
    told = {kind: name for kind, name in kinds.items() if kind in train.item_features}
    specs = {kind: gs.data.feature_specs(known, item=[kind])["item_features"] for kind in told}

    def grown(build: Callable[[], SessionModel], initial: Any = "mean") -> SessionModel:
        return gs.grow(fitted(build, known, options, seed), whole, initial=initial)

    yield "popularity", grown(lambda: gs.models.Popularity(number))
    yield "markov", grown(lambda: gs.models.MarkovChain(number))
    for kind, name in told.items():
        yield f"nearest titles, {name}", grown(partial(gs.models.ContentKNN, number, specs[kind]))
    if options.encoder is not None:
        text = TextRecommender(
            dict(enumerate(titles_of(train))),
            SentenceEncoder(options.encoder),
            max_history=options.titles,
        )
        yield "transformer reads the history", TextModel(text, whole)
        if options.tuning:
            lists = [[code for code in each if code >= 0] for each in coded(whole)]
            text.fit(lists, epochs=options.tuning, batch_size=32, learning_rate=5e-5, seed=seed)
            yield "transformer reads the history, fine-tuned", TextModel(text, whole)
    if options.text_only:
        return
    yield SASREC, grown(lambda: gs.models.SASRec(number, **base))
    first = grown(lambda: told_first(gs.models.SASRec(number, **base), known))
    yield "SASRec, first rows from titles", told_first(first, whole, start=number)
    for kind, name in told.items():
        build = partial(
            gs.models.WithFeatures,
            number,
            specs[kind],
            feature_channels=32,
            id_dropout=0.3,
            arguments=base,
        )
        yield f"SASRec, titles in the item table, {name}", grown(build, "features")


def coded(sessions: gs.Sessions) -> list[list[int]]:
    """The codes of the clicks of every session."""
    items, ptr = sessions.items.tolist(), sessions.ptr.tolist()
    return [items[a:b] for a, b in pairwise(ptr)]


def told_first(model: SessionModel, sessions: gs.Sessions, *, start: int = 0) -> SessionModel:
    """Gives items from a code on the vectors of their titles as rows, at the size of the others."""
    catalog = sessions.catalog() if model.catalog is None else model.catalog
    assert catalog.item_features is not None
    table = model.items.weight
    size = table[:start].norm(dim=1).mean() if start else table.norm(dim=1).mean()
    told = np.stack(catalog.item_features["words"].to_list())
    with torch.no_grad():  # the first channels stand for the whole vector
        rows = torch.from_numpy(told[start:, : table.size(1)])
        table[start:] = size * torch.nn.functional.normalize(rows)
    return model


def row_of(dataset: str, name: str, runs: list[Run], found: dict[str, list[Run]]) -> dict[str, Any]:
    """Hit rates on new and on known films in per cent, over all seeds, clustered by user."""
    nearest = found[NEAREST]
    base = SASREC if SASREC in found else "markov"
    cold = np.concatenate([r.report.cluster[r.cold] for r in runs])
    known = np.concatenate([r.report.cluster[r.known] for r in runs])
    among, rival = (np.concatenate([r.among_new for r in each]) for each in (runs, nearest))
    row: dict[str, Any] = {"data": dataset, "model": name}
    row["new: hr@20 among new"] = per_cent(among.mean(), *mean_interval(among, cold))
    test = paired_test(among, rival, cold)
    row["new: beyond nearest titles"] = (
        "-" if runs is nearest else per_cent(test.difference, test.low, test.high, sign="+")
    )
    warm, rival = (
        np.concatenate([r.report.values("hr@20")[r.known] for r in each])
        for each in (runs, found[base])
    )
    low, high = mean_interval(warm, known)
    row["known: hr@20 among all"] = per_cent(warm.mean(), max(low, 0), high)
    test = paired_test(warm, rival, known)
    row[f"known: beyond {base}"] = (
        "-" if runs is found[base] else per_cent(test.difference, test.low, test.high, sign="+")
    )
    row["chance among new"] = f"{100 * runs[0].chance:.2f}"
    row["cases of new, known"] = f"{len(cold):,}, {len(known):,}"
    return row


if __name__ == "__main__":
    main()
