"""What the habits of the field are worth: the same trained models, read honestly and by habit.

One training for each data set, family and seed. After every epoch it is ranked on whole validation
sessions, on random prefixes that were held out of training sessions, and on the test; every choice
of an epoch is then read from the same curve. The graph over the whole batch is a training of its
own, in the order of the file, as its authors have it.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.utils import coalesce

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.parts import PARTS, part_of
from experiments.lib.results import fit_whole, said
from graphseq.comparison import Entry
from graphseq.comparison.record import write_json
from graphseq.data.graphs.dataset import NO_TARGET, Samples
from graphseq.data.graphs.session_graph import newest_clicks
from graphseq.evaluation.bootstrap import bootstrap_interval
from graphseq.evaluation.evaluate import rank_by_popularity
from graphseq.evaluation.metrics import metric_values
from graphseq.evaluation.targets import Targets
from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, new_figure, save_figure

Values = dict[str, NDArray[np.float64]]
"""A metric, case by case."""

METRICS = ("hr@20", "mrr@20")
HIDDEN = 0.05
"""Share of the training targets that are held out as random prefixes."""

MATES = 100
"""Prefixes in a batch of the graph over the batch, as in SR-GNN's code."""

SAMPLED = {"name": "sampled_softmax", "num_negatives": 512, "alpha": 0.75}
LEARNING = {"batch_size": 256, "learning_rate": 0.002, "weight_decay": 1e-5}
FAMILIES = {
    entry.name: entry
    for entry in (
        Entry(
            "SR-GNN",
            "srgnn",
            {"hidden_channels": 64, "normalize": True},
            {**LEARNING, "max_epochs": 8},
        ),
        Entry("GCE-GNN", "gcegnn", {"hidden_channels": 64}, {**LEARNING, "max_epochs": 8}),
        Entry(
            "SASRec",
            "sasrec",
            {"hidden_channels": 64, "num_layers": 1},
            {**LEARNING, "batch_size": 64, "max_epochs": 14},
        ),
    )
}
WIDE = ("SR-GNN", "GCE-GNN")
"""Families whose graph can span the batch."""

WIDE_EPOCHS = 3

HONEST = "honest"
HABITS = {
    HONEST: "honest: epoch by whole validation sessions",
    "test": "epoch chosen on the test",
    "two epochs": "best HR and best MRR, each of its own test epoch",
    "prefixes": "epoch chosen on random prefixes of training sessions",
    "their figure": "the figure of those random prefixes itself",
    "unseen": "seen items removed from the ranking",
    "uniform": "100 sampled candidates, uniformly drawn",
    "popularity": "100 sampled candidates, drawn by popularity",
    "batch graph": "one graph over the whole batch",
}
"""The habits, and how tables call them; the first is the figure that all are compared with."""


class WithoutHidden:
    """Batches whose hidden targets are no targets."""

    def __init__(self, loader: gs.SessionGraphLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            batch.y[batch.y_hidden > 0] = NO_TARGET
            yield batch


def hidden_of(train: gs.Sessions, seed: int) -> tuple[gs.Sessions, gs.Sessions]:
    """Training sessions that mark a share of their targets, and these as prefixes to rank."""
    position = np.arange(train.num_clicks) - np.repeat(train.ptr[:-1], train.lengths)
    draw = np.random.default_rng(seed).random(train.num_clicks) < HIDDEN
    mark = draw & (position >= np.repeat(train.targets_from, train.lengths)) & (position > 0)
    marked = replace(
        train,
        click_features={"hidden": mark.astype(np.float32)},
        feature_vocabularies={},
        item_features=None,
    )
    click = np.flatnonzero(mark)[:4000] if mark.sum() > 4000 else np.flatnonzero(mark)
    session = np.searchsorted(train.ptr, click, side="right") - 1
    end = position[click] + 1
    prefixes = replace(
        replace(train, session_ids=None).window(session, np.zeros_like(end), end),
        first_target=end - 1,
    )
    return marked, prefixes


class BatchConv(torch.nn.Module):
    """A layer on the graph of all sessions of a batch, where equal items are one node."""

    def __init__(self, conv: torch.nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.x: Tensor | None = None

    def forward(self, e: Tensor, edge_index: Tensor, *weight: Tensor) -> Tensor:
        assert self.x is not None
        _, node = torch.unique(self.x, return_inverse=True)
        size = int(node.max()) + 1
        first = node.new_full((size,), len(node)).scatter_reduce(
            0, node, torch.arange(len(node)), "amin"
        )
        count = weight[0] if weight else e.new_ones(edge_index.size(1))
        edges, count = coalesce(node[edge_index], count, size, reduce="sum")
        states: Tensor = self.conv(e[first], edges, *([count] if weight else []))
        return states[node]


def over_batches(model: gs.models.SessionModel) -> gs.models.SessionModel:
    """The model with one graph over each batch."""
    conv = BatchConv(model.conv)
    model.conv = conv
    model.dropout = 0.0

    def read(_: Any, arguments: tuple[Batch, ...]) -> tuple[Batch]:
        batch = arguments[0]
        if model.max_length is not None:
            batch = newest_clicks(batch, model.max_length)
        conv.x = batch.x
        return (batch,)

    model.register_forward_pre_hook(read)
    return model


def values_of(report: gs.evaluation.Report, words: str = "") -> Values:
    return {metric: report.values(words + metric) for metric in METRICS}


def run_cell(split: gs.Split, entry: Entry, seed: int) -> dict[str, Any]:
    """One training, and what every habit makes of it: values case by case."""
    validation = split.validation
    assert validation is not None  # as in all parts of data
    marked, prefixes = hidden_of(split.train, seed)
    model = entry.new_model(split.num_items, seed)
    model.attach(split.catalog, split.train)
    samples: Samples = "sessions" if model.samples == "sessions" else "prefixes"
    dataset = gs.SessionGraphDataset(marked, samples, target_fields=["hidden"])
    loader = gs.SessionGraphLoader(dataset, entry.fit["batch_size"], shuffle=True, seed=seed)
    loss = "cross_entropy" if split.num_items < 1000 else SAMPLED
    curve: list[dict[str, float]] = []
    tests: list[gs.evaluation.Report] = []
    held: list[gs.evaluation.Report] = []
    weights: list[dict[str, Tensor]] = []
    both = gs.evaluation.Protocol(seen="both")
    started = time.process_time()

    def measure(row: Mapping[str, float]) -> None:
        tests.append(gs.evaluate(model, split.test, ks=20, protocol=both))
        held.append(gs.evaluate(model, prefixes, ks=20))
        whole = gs.evaluate(model, validation, ks=20)
        weights.append(copy.deepcopy(model.state_dict()))
        parts = {"test": tests[-1], "prefixes": held[-1], "validation": whole}
        curve.append(
            {"epoch": row["epoch"], "loss": row["loss"]}
            | {f"{part} {m}": report.metrics[m] for part, report in parts.items() for m in METRICS}
        )

    settings = {**entry.fit, "loss": loss, "patience": None, "seed": seed}
    training = gs.training.TrainingSettings.from_dict(settings)
    fit_whole(model, WithoutHidden(loader), training, on_epoch=measure, progress=False)
    by = {
        name: int(np.argmax([row[f"{name} mrr@20"] for row in curve]))
        for name in ("validation", "prefixes", "test")
    }
    best_hr = int(np.argmax([row["test hr@20"] for row in curve]))
    honest = tests[by["validation"]]
    found = {
        "honest": values_of(honest),
        "test": values_of(tests[by["test"]]),
        "two epochs": {
            "hr@20": tests[best_hr].values("hr@20"),
            "mrr@20": tests[by["test"]].values("mrr@20"),
        },
        "prefixes": values_of(tests[by["prefixes"]]),
        "unseen": values_of(honest, "unseen "),
    }
    model.load_state_dict(weights[by["validation"]])
    for sampling in ("uniform", "popularity"):
        protocol = gs.evaluation.Protocol(candidates=100, sampling=sampling)
        found[sampling] = values_of(gs.evaluate(model, split.test, ks=20, protocol=protocol))
    own = held[by["prefixes"]]
    found["their figure"] = values_of(own)
    return {
        "values": found,
        "clusters": dict.fromkeys(found, honest.cluster) | {"their figure": own.cluster},
        "curve": curve,
        "epochs": {name: number + 1 for name, number in by.items()} | {"best HR": best_hr + 1},
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def run_wide(split: gs.Split, entry: Entry, seed: int) -> dict[str, Any]:
    """A training on graphs over the batch, and its test ranked in the order of the file."""
    model = over_batches(entry.new_model(split.num_items, seed))
    model.attach(split.catalog, split.train)
    dataset = gs.SessionGraphDataset(split.train, "prefixes")
    loader = gs.SessionGraphLoader(dataset, MATES, seed=seed)
    loss = "cross_entropy" if split.num_items < 1000 else SAMPLED
    settings = {**entry.fit, "max_epochs": WIDE_EPOCHS, "loss": loss, "seed": seed}
    started = time.process_time()
    training = gs.training.TrainingSettings.from_dict(settings)
    fit_whole(model, loader, training, progress=False)
    cases = Targets(split.test)
    case = np.flatnonzero(cases.history > 0)
    asked = gs.SessionGraphDataset(split.test, "prefixes")
    better = np.full(len(cases), split.num_items)
    tied = np.zeros(len(cases), dtype=np.int64)
    without = np.flatnonzero(cases.history == 0)  # ranked as gs.evaluate ranks them
    better[without], tied[without] = rank_by_popularity(model, cases.target[without])
    with torch.no_grad():
        for start in range(0, len(case), MATES):
            part = np.arange(start, min(start + MATES, len(case)))
            scores = model.score(asked.batch(part))
            target = torch.from_numpy(cases.target[case[part]])
            higher, level = gs.evaluation.rank_counts(scores, target)
            better[case[part]], tied[case[part]] = higher.numpy(), level.numpy()
    values = {m: metric_values(m, better, tied, split.num_items) for m in METRICS}
    return {
        "values": {"batch graph": values},
        "clusters": {"batch graph": cases.session},
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def saved(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the files of a training hold; they are made first if they are not there."""
    arrays = path.with_suffix(".npz")
    if not path.exists():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        named = {f"{h}/{m}": v for h, values in found["values"].items() for m, v in values.items()}
        named |= {f"{h}/cluster": cluster for h, cluster in found["clusters"].items()}
        np.savez_compressed(arrays, **named)
        write_json({k: v for k, v in found.items() if k not in ("values", "clusters")}, path)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    content |= {"values": {}, "clusters": {}}
    with np.load(arrays) as file:
        for name in file.files:
            habit, _, part = name.partition("/")
            if part == "cluster":
                content["clusters"][habit] = file[name]
            else:
                content["values"].setdefault(habit, {})[part] = file[name]
    return content


def rows_of(dataset: str, family: str, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of the table: each habit beside the honest figure, means over the seeds."""
    rows = []
    for habit, words in HABITS.items():
        own = [cell for cell in cells if habit in cell["values"]]
        if not own:
            continue
        row: dict[str, Any] = {"data": dataset, "family": family, "figure": words}
        for metric in METRICS:
            figures = [100 * cell["values"][habit][metric] for cell in own]
            value = float(np.mean([figure.mean() for figure in figures]))
            row[metric.upper()] = round(value, 2)
        row["seeds"] = len(own)
        for metric in METRICS:
            name = f"{metric.split('@')[0].upper()} more"
            if habit == HONEST:
                low, high = bootstrap_interval(
                    [100 * cell["values"][HONEST][metric] for cell in own],
                    own[0]["clusters"][HONEST],
                )
                row[name] = f"± {(high - low) / 2:.2f}"
                continue
            honest = [100 * cell["values"][HONEST][metric] for cell in own]
            figures = [100 * cell["values"][habit][metric] for cell in own]
            more = float(np.mean([figure.mean() for figure in figures]) - np.mean(honest))
            more = round(more, 2) + 0.0  # no minus before a zero
            if habit == "their figure":  # of other cases: nothing is paired
                row[name] = f"{more:+.2f}"
                continue
            cluster = own[0]["clusters"][habit]
            low, high = bootstrap_interval(np.subtract(figures, honest), cluster)
            row[name] = f"{more:+.2f} ± {(high - low) / 2:.2f}"
        rows.append(row)
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """How many times the honest MRR each habit shows, a panel for each data set."""
    datasets = list(dict.fromkeys(row["data"] for row in rows))
    habits = list(HABITS.values())[1:]
    figure = new_figure(3.0 + 2.7 * len(datasets), 4.2, constrained=True)
    panels = np.atleast_1d(figure.subplots(1, len(datasets), sharey=True, sharex=True))
    colors = dict(zip(FAMILIES, (BLUE, ORANGE, INK), strict=True))
    for ax, name in zip(panels, datasets, strict=True):
        for number, family in enumerate(FAMILIES):
            own = {
                row["figure"]: row["MRR@20"]
                for row in rows
                if (row["data"], row["family"]) == (name, family)
            }
            if not own:
                continue
            shown = [habit for habit in habits if habit in own]
            ratio = [own[habit] / own[HABITS[HONEST]] for habit in shown]
            place = [habits.index(habit) + 0.2 * (number - 1) for habit in shown]
            ax.plot(ratio, place, "o", color=colors[family], markersize=5, label=family)
        ax.axvline(1, color=GRAY, linewidth=1)
        ax.set_xscale("log")
        ticks = [1, 2, 3, 5, 10]
        ax.set_xticks(ticks, [f"{tick}x" for tick in ticks])
        ax.minorticks_off()
        ax.set_title(name, fontsize=11, color=INK)
        ax.grid(axis="x", color="#E5E8EB")
    panels[0].set_yticks(range(len(habits)), habits)
    panels[0].invert_yaxis()
    panels[-1].legend(frameon=False, fontsize=9)
    figure.supxlabel("MRR@20 shown / honest MRR@20", fontsize=10, color=INK)
    save_figure(figure, path)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.habits", description=__doc__)
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument(
        "--datasets",
        nargs="+",
        action=Once,
        default=["uci-eshop", "diginetica", "beauty"],
        choices=list(PARTS),
    )
    parser.add_argument(
        "--families", nargs="+", action=Once, default=list(FAMILIES), choices=list(FAMILIES)
    )
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1, 2])
    parser.add_argument("--out", type=out_folder, default=Path("runs/habits"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with said():
        content = Benchmark.start("experiments.habits", argv)
        content.content["note"] = (
            "Bounded parts of the data sets, means over the seeds; ± is half of the 95 % interval "
            "of the paired difference (of the honest figure: its own), drawn again by sessions "
            "and by seeds."
        )
        content.content["trainings"] = []
        for name in options.datasets:
            split = part_of(name, options.root)
            for family in options.families:
                cells = [
                    trained(split, name, FAMILIES[family], seed, options.out / "cells")
                    for seed in options.seeds
                ]
                for seed, cell in zip(options.seeds, cells, strict=True):
                    told = {k: v for k, v in cell.items() if k not in ("values", "clusters")}
                    line = {"data": name, "family": family, "seed": seed, **told}
                    content.content["trainings"].append(line)
                for row in rows_of(name, family, cells):
                    content.add(**row)
                content.write(options.out / "habits.json")
        content.finish(options.out / "habits.json")
        plot(content.content["rows"], options.out / "habits.png")


def trained(split: gs.Split, name: str, entry: Entry, seed: int, folder: Path) -> dict[str, Any]:
    """The training of a family, and where its graph can span the batch, that one's figures too."""
    path = folder / f"{name}-{entry.slug}-{seed}.json"
    cell = saved(path, lambda: run_cell(split, entry, seed))
    if entry.name in WIDE:
        wide = saved(
            folder / f"{name}-{entry.slug}-{seed}-batch.json", lambda: run_wide(split, entry, seed)
        )
        cell["values"] |= wide["values"]
        cell["clusters"] |= wide["clusters"]
        cell["cpu_seconds"] = round(cell["cpu_seconds"] + wide["cpu_seconds"], 1)
    return cell


if __name__ == "__main__":
    main()
