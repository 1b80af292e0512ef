"""Does the graph help? SR-GNN with its graph taken apart, one thing at a time, on the same cases.

Every line is SR-GNN with one change: no propagation or more of it, transitions shuffled within the
session, transitions without direction, other weights, other readouts. GCE-GNN adds the transitions
of all sessions, SGNN-HN a star node. The generator has a dial, the share of sessions that loop:
there the next click can be read off the session's graph and nowhere else.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.utils import coalesce

import graphseq as gs
from experiments.studies import study
from graphseq.comparison.verdicts import paired_tests
from graphseq.evaluation import Report
from graphseq.nn.dropout import dropout
from graphseq.nn.readouts import ReadoutKind

Edges = Literal["as they are", "shuffled", "without direction"]
BASE = "srgnn"
DATASETS = ("uci-eshop", "yoochoose1_64", "diginetica", "retailrocket", study.GENERATED)
SIZES = {
    "uci-eshop": (8000, 2500),
    "yoochoose1_64": (16_000, 3000),
    "diginetica": (20_000, 4000),
    "retailrocket": (16_000, 3000),
}


class NoPropagation(torch.nn.Module):
    """Stands where the graph layer stood: node states are the embeddings themselves."""

    def reset_parameters(self) -> None:
        """Has none."""

    def forward(self, h: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        return h


class AblatedSRGNN(gs.models.SRGNN):
    """SR-GNN with its graph changed or taken away; all else is the same.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width of states.
        num_layers: Steps of propagation; 0: none, and no graph is read.
        edges: ``"as they are"``; ``"shuffled"``: the ends of a session's transitions are permuted
            among them, in the same way whenever this session is read. ``"without direction"``:
            every transition goes both ways.
        edge_weight, half_life, half_life_unit, readout, hybrid, normalize, dropout: As of SR-GNN.
    """

    def __init__(
        self,
        num_items: int,
        hidden_channels: int = 64,
        num_layers: int = 1,
        *,
        edges: Edges = "as they are",
        edge_weight: Literal["count", "binary", "decayed"] = "count",
        half_life: float | None = None,
        half_life_unit: Literal["seconds", "clicks"] = "clicks",
        readout: ReadoutKind = "published",
        hybrid: bool = True,
        normalize: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            num_items,
            hidden_channels,
            max(num_layers, 1),
            edge_weight=edge_weight,
            half_life=half_life,
            half_life_unit=half_life_unit,
            readout=readout,
            hybrid=hybrid,
            normalize=normalize,
            dropout=dropout,
        )
        self.edges = edges
        if num_layers == 0:
            self.add_module("conv", NoPropagation())  # in the place of the graph layer

    def node_states(self, batch: Batch) -> Tensor:
        """The state of every node, [num_nodes, d]."""
        e = dropout(self.items.rows(batch.x), self.dropout, self.training)
        edge_index, weight = batch.edge_index, self.edge_weights(batch)
        if self.edges == "shuffled":
            edge_index = shuffled(edge_index, batch.x, batch.batch)
        if self.edges != "as they are":
            if self.edges == "without direction":
                edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
                weight = weight.repeat(2)
            edge_index, weight = coalesce(edge_index, weight, batch.num_nodes)
        h: Tensor = self.conv(e, edge_index, weight)
        return h


def shuffled(edge_index: Tensor, x: Tensor, session: Tensor) -> Tensor:
    """The transitions, with their ends permuted within each session.

    How often each item is left and reached stays. The order is a hash of the transition's items,
    so that a session is shuffled the same way in every batch.

    Args:
        edge_index: [2, num_edges].
        x: Item of each node, [num_nodes].
        session: Session of each node, [num_nodes].
    """
    source, target = edge_index
    mixed = (x[source] + 1) * 0x9E3779B1 + (x[target] + 1) * 0x85EBCA77
    mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0x7FFFFFFF
    by_session = session[source]
    start = torch.argsort(by_session, stable=True)
    drawn = torch.argsort(mixed, stable=True)
    drawn = drawn[torch.argsort(by_session[drawn], stable=True)]
    ends = torch.empty_like(target)
    ends[start] = target[drawn]
    return torch.stack([source, ends])


CHANGES: dict[str, dict[str, Any]] = {
    BASE: {},
    "0 layers": {"num_layers": 0},
    "2 layers": {"num_layers": 2},
    "3 layers": {"num_layers": 3},
    "4 layers": {"num_layers": 4},
    "edges shuffled": {"edges": "shuffled"},
    "no direction": {"edges": "without direction"},
    "binary weights": {"edge_weight": "binary"},
    "decayed weights": {"edge_weight": "decayed", "half_life": 2.0},
    "readout softmax": {"readout": "softmax"},
    "readout mean": {"readout": "mean"},
    "readout last": {"readout": "last"},
    "0 layers, readout last": {"num_layers": 0, "readout": "last"},
}
FEW = (BASE, "0 layers", "2 layers", "edges shuffled", "no direction", "readout last")
"""The lines on the generator, once for each place of its dial."""


def plan(options: argparse.Namespace) -> study.Plan:
    """The changes on one data set."""
    name = options.dataset
    fit = {"max_epochs": 3, "batch_size": 256, "learning_rate": 0.004, "schedule": "linear"}
    if name in ("diginetica", "retailrocket", "yoochoose1_64"):  # many items
        fit |= {"loss": {"name": "sampled_softmax", "num_negatives": 1024, "alpha": 0.75}}
    width = {"hidden_channels": 64}
    if name == study.GENERATED:
        number = 300 if options.quick else 5000
        fit["max_epochs"] = 3 if options.quick else 8
        log = gs.generate_sessions(
            number, 300, mean_length=8.0, pattern=0.0, loops=options.loops, repeats=0.1, seed=0
        )
        split = gs.session_split(log, test_fraction=0.25, seed=0)
        bounded = f"{number} generated sessions over 300 items, share of loops {options.loops}."
        changes = {line: CHANGES[line] for line in FEW}
    else:
        newest, targets = (300, 100) if options.quick else SIZES[name]
        split = study.bounded_split(options, newest, targets)
        bounded = f"The newest {newest:,} training sessions, and {targets:,} of the test, drawn."
        changes = CHANGES
    if options.quick:
        changes = {line: changes[line] for line in FEW[:4]}
    bounded += (
        f" Width 64, normalized, {fit['max_epochs']} epochs, one schedule for all lines of SR-GNN."
    )
    lines: dict[str, Any] = {
        line: (AblatedSRGNN, {"arguments": width | change, "fit": fit})
        for line, change in changes.items()
    }
    if name != study.GENERATED and not options.quick:
        lines["gce-gnn"] = ("gcegnn", {"arguments": width | {"dropout": 0.2}, "fit": fit})
        lines["sgnn-hn"] = ("sgnnhn", {"arguments": width | {"max_length": 20}, "fit": fit})
    fit = fit | {"batch_size": 64, "learning_rate": 0.005, "max_epochs": 4}
    lines["sasrec"] = (
        "sasrec", {"arguments": width | {"dropout": 0.1, "normalize": True}, "fit": fit},
    )  # fmt: skip
    lines["markov"] = "markov"
    facts = {line: {"family": line} for line in lines}
    pairs = [(line, BASE) for line in lines if line != BASE]
    shown = f"generated, {options.loops:.0%} loops" if name == study.GENERATED else name
    return study.Plan(split, lines, facts, pairs, bounded, name=shown)


def kinds_of_cases(split: gs.Split, report: Report) -> dict[str, np.ndarray]:
    """Name of a stratum -> which cases are in it, bool [num_cases].

    ``loop``: the clicks so far return to an item, so that the graph is not a path.
    """
    test = split.test
    session, position = (report.ranks[name].to_numpy() for name in ("session", "position"))
    items, ptr = np.asarray(test.items), test.ptr
    owner = test.session_index
    order = np.lexsort((items, owner))
    again = np.zeros(len(items), dtype=np.int64)
    same = (items[order][1:] == items[order][:-1]) & (owner[order][1:] == owner[order][:-1])
    again[order[1:]] = same
    before = np.concatenate([[0], np.cumsum(again)])
    loops = before[ptr[session] + position] - before[ptr[session]] > 0
    assert report.cases is not None
    repeat = report.cases["repeat"].to_numpy().astype(bool)
    return {
        "1 click": position == 1,
        "2-3 clicks": (position >= 2) & (position <= 3),
        "4-7 clicks": (position >= 4) & (position <= 7),
        "8 clicks or more": position >= 8,
        "path": ~loops & (position > 1),
        "loop": loops,
        "target is new": ~repeat,
        "target repeats": repeat,
    }


def finish(
    planned: study.Plan, content: dict[str, Any], reports: Mapping[str, list[Report]]
) -> None:
    """Adds the strata, the statistics of the test's graphs, and what every line costs."""
    kinds = kinds_of_cases(planned.split, next(iter(reports.values()))[0])
    content["strata"] = [
        {"stratum": kind, **test}
        for kind, inside in kinds.items()
        for test in paired_tests(reports, [planned.monitor], planned.pairs, inside)
    ]
    content["cases"] = {kind: int(inside.sum()) for kind, inside in kinds.items()}
    study.add_costs(planned, content)


SHOWN = ("0 layers", "edges shuffled", "2 layers", "gce-gnn", "sgnn-hn")
"""The changes whose strata the page shows."""


def page(content: Mapping[str, Any]) -> str:
    """Answers and tables of one data set."""
    metric = content["monitor"]
    tests = {t["model"]: t for t in content["tests"] if t["metric"] == metric}
    kinds = list(content["cases"])
    strata = {(t["stratum"], t["model"]): t for t in content["strata"]}
    shown = [line for line in SHOWN if line in tests]
    by_kind = [
        [
            f"{kind} ({content['cases'][kind]:,})",
            *(study.points(strata[kind, line]) if (kind, line) in strata else "" for line in shown),
        ]
        for kind in kinds
    ]
    parts = [
        "\n".join(f"- {line}" for line in findings(content)),
        study.page_against({**content, "protocol": {"note": ""}}, BASE).rstrip(),
        "The same difference by kind of case (cases in brackets):",
        study.table(["cases", *shown], by_kind),
        content["protocol"]["note"],
    ]
    return "\n\n".join(parts)


def findings(content: Mapping[str, Any]) -> list[str]:
    """What propagation, order and direction are worth, in words."""
    metric = content["monitor"]
    tests = {t["model"]: t for t in content["tests"] if t["metric"] == metric}
    cost = {row["model"]: row["train_ms"] for row in content["rows"]}
    words = {
        "0 layers": "Propagation over the graph",
        "edges shuffled": "Knowing which click follows which, against a shuffle,",
        "no direction": "The direction of transitions",
        "readout last": "The readout over all clicks, against the last click alone,",
    }
    said = []
    for line, what in words.items():
        if line not in tests:
            continue
        test = tests[line]
        low, high = -100 * test["high"], -100 * test["low"]
        verb = "is worth" if study.real(test) and test["difference"] < 0 else "costs"
        if not study.real(test):
            said.append(
                f"{what} changes {metric.upper()} by {-100 * test['difference']:+.1f} points "
                f"({low:.1f} to {high:.1f}), which is not beyond chance "
                f"(corrected p = {test['p_corrected']:.2f})."
            )
            continue
        low, high = (low, high) if verb == "is worth" else (-high, -low)
        said.append(
            f"{what} {verb} {abs(100 * test['difference']):.1f} points of {metric.upper()} "
            f"({low:.1f} to {high:.1f})."
        )
    deeper = [tests[name] for name in ("2 layers", "3 layers", "4 layers") if name in tests]
    better = [test["model"] for test in deeper if study.real(test) and test["difference"] > 0]
    if deeper:
        said.append(
            f"More steps: {' and '.join(better)} beat one layer."
            if better
            else "More steps of propagation do not beat one."
        )
    if cost.get("0 layers"):
        said.append(
            f"Training with the graph takes {cost[BASE] / cost['0 layers']:.1f} x the time."
        )
    return said


def main(argv: list[str] | None = None) -> None:
    parser = study.arguments("experiments.graph_ablation", __doc__, DATASETS)
    parser.add_argument("--loops", type=float, default=0.4, help="of generated sessions")
    options = parser.parse_args(argv)
    content = study.run("graph_ablation", "experiments.graph_ablation", options, argv, plan, finish)
    out = study.out_of("graph_ablation", options)
    study.plot_against(content, BASE, out / "graph_ablation.png")
    print(f"{out / 'results.json'}\n{out / 'graph_ablation.png'}")


if __name__ == "__main__":
    main()
