"""How many clicks should a model read? Quality and cost against the maximum length, all families.

Every family reads the newest L clicks before a target, for each L of one grid. Training never loses
a click: histories are cut into windows of L clicks, each of whose clicks is a target once. Cases,
seen items and the ranking are the same for every L.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch_geometric.data import Batch

import graphseq as gs
from experiments.studies import study
from graphseq.evaluation import Report
from graphseq.nn.ragged import packed_order
from graphseq.nn.windows import newest_states, states_of_windows
from graphseq.visualization.figures import new_figure, save_figure

LENGTHS = {"ml-100k": (5, 10, 20, 50, 100, 200), "uci-eshop": (1, 2, 3, 5, 10, 20)}
QUICK = {"ml-100k": (5, 20), "uci-eshop": (2, 5)}


class WindowedGRU4Rec(gs.models.GRU4Rec):
    """GRU4Rec that reads the newest ``max_length`` clicks alone, from a state of zeros.

    Args:
        num_items: Items of the catalog.
        hidden_channels: Width of states.
        max_length: Newest clicks read.
        dropout: As of GRU4Rec.
    """

    max_length: int

    def __init__(
        self, num_items: int, hidden_channels: int, *, max_length: int, dropout: float = 0.0
    ) -> None:
        super().__init__(num_items, hidden_channels, dropout=dropout)
        self.max_length = max_length

    def forward(self, batch: Batch) -> Tensor:
        """The state after the last click of every session, [num_sessions, d]."""
        encode = partial(self._encode, batch.click_item)
        return newest_states(encode, batch.click_ptr, self.max_length)

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, [num_clicks, d]."""
        encode = partial(self._encode, batch.click_item)
        return states_of_windows(encode, batch.click_ptr, self.max_length)

    def _encode(
        self, items: Tensor, click: Tensor, ptr: Tensor, query_index: Tensor | None = None
    ) -> Tensor:
        order, sizes = packed_order(ptr)
        states = self._upper(PackedSequence(self._input(items[click])[order], sizes))
        h = states.new_empty(states.shape).index_copy(0, order, states)
        return self.items.vectors(self._drop(h if query_index is None else h[query_index]))


def line_of(family: str, length: int, dataset: str) -> Any:
    """The model and settings of a family at a length."""
    movies = dataset == "ml-100k"
    causal: dict[str, Any] = {
        "max_epochs": 8 if movies else 4,
        "batch_size": 8 if movies else 64,
        "learning_rate": 0.005,
        "schedule": "linear",
    }
    if movies:
        causal["loss"] = {"name": "sampled_softmax", "num_negatives": 256, "alpha": 0.5}
    prefixes = causal | {"max_epochs": 2 if movies else 3, "batch_size": 256}
    cloze = causal | {"max_epochs": 16 if movies else 10}
    width: dict[str, Any] = {"hidden_channels": 32}
    if family == "markov":
        return "markov", {"arguments": {"order": min(length, 3)}, "fit": {}}
    if family in ("sequential rules", "v-sknn"):
        model = {"sequential rules": "sequential_rules", "v-sknn": "vsknn"}[family]
        return model, {"arguments": {"last_clicks": length}, "fit": {}}
    if family == "gru4rec":
        arguments = width | {"max_length": length, "dropout": 0.2}
        return WindowedGRU4Rec, {"arguments": arguments, "fit": causal}
    if family == "caser":
        heights = [height for height in (1, 2, 3, 4) if height <= length]
        arguments = width | {"max_length": length, "heights": heights, "dropout": 0.2}
        fewer = causal | {"max_epochs": 4}  # a window per click: its epochs cost the most
        return "caser", {"arguments": arguments | {"embedding": "tied"}, "fit": fewer}
    if family == "srgnn":
        arguments = width | {"max_length": length, "normalize": True}
        return "srgnn", {"arguments": arguments, "fit": prefixes}
    if family == "bert4rec":
        arguments = width | {"max_length": length + 1, "heads": 2}
        return "bert4rec", {"arguments": arguments, "fit": cloze}
    return family, {"arguments": width | {"max_length": length, "dropout": 0.2}, "fit": causal}


FAMILIES = (
    "markov", "sequential rules", "v-sknn", "gru4rec", "caser", "srgnn", "sasrec", "bert4rec",
)  # fmt: skip


def plan(options: argparse.Namespace) -> study.Plan:
    """The grid of families and lengths on one data set."""
    name = options.dataset
    lengths = (QUICK if options.quick else LENGTHS)[name]
    if name == "ml-100k":
        log = gs.load_dataset(name, options.root)
        split = gs.leave_last_split(log[:60] if options.quick else log, 10)
        bounded = "MovieLens 100K, the last 10 ratings of every user as targets."
    else:
        sizes = (300, 100) if options.quick else (8000, 2500)
        split = study.bounded_split(options, *sizes)
        bounded = f"The newest {sizes[0]:,} training sessions, and {sizes[1]:,} drawn of the test."
    bounded += " Width 32 and one schedule per family, not tuned per length."
    families = ("markov", "gru4rec", "sasrec") if options.quick else FAMILIES
    lines, facts, pairs = {}, {}, []
    for family in families:
        for length in lengths:
            lines[f"{family} {length}"] = line_of(family, length, name)
            facts[f"{family} {length}"] = {"family": family, "length": length}
            pairs += [(f"{family} {L}", f"{family} {length}") for L in lengths if L > length]
    return study.Plan(
        split,
        lines,
        facts,
        pairs,
        bounded,
        exclude_seen=name == "ml-100k",
        ks=(10, 20),
        monitor="ndcg@10",
    )


def finish(
    planned: study.Plan, content: dict[str, Any], reports: Mapping[str, list[Report]]
) -> None:
    """Adds what every line costs."""
    long = planned.exclude_seen  # histories of users
    study.add_costs(planned, content, train_sessions=24 if long else 200)


def curves(content: Mapping[str, Any], key: str) -> dict[str, tuple[list[int], np.ndarray]]:
    """Family -> its lengths, and of each the mean of a metric or a cost and, if known, its ends."""
    found: dict[str, tuple[list[int], np.ndarray]] = {}
    for family in dict.fromkeys(row["family"] for row in content["rows"]):
        rows = [row for row in content["rows"] if row["family"] == family]
        lengths = sorted({row["length"] for row in rows})
        table = []
        for length in lengths:
            here = [row for row in rows if row["length"] == length]
            if key in here[0]["metrics"]:
                ends = np.mean([row["intervals"][key] for row in here], axis=0)
                table.append([np.mean([row["metrics"][key] for row in here]), *ends])
            elif here[0][key] is not None:
                table.append([np.mean([row[key] for row in here])])
        if table:
            found[family] = (lengths, np.array(table))
    return found


def plot(content: Mapping[str, Any], path: Path, metric: str = "ndcg@10") -> Figure:
    """Quality against length on the left, processor time of one ranking on the right."""
    figure = new_figure(10.4, 4.4, constrained=True)
    left, right = figure.subplots(1, 2)
    families = list(dict.fromkeys(row["family"] for row in content["rows"]))
    colors = study.color_of(families)
    for family, (lengths, values) in curves(content, metric).items():
        left.plot(lengths, 100 * values[:, 0], marker="o", ms=4, color=colors[family], label=family)
        left.fill_between(
            lengths, 100 * values[:, 1], 100 * values[:, 2], color=colors[family], alpha=0.10, lw=0
        )
    for family, (lengths, values) in curves(content, "rank_ms").items():
        right.plot(lengths, values[:, 0], marker="o", ms=4, color=colors[family], label=family)
    for ax in (left, right):
        ax.set_xscale("log")
        ticks = sorted({row["length"] for row in content["rows"]})
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
    right.set_yscale("log")
    right.yaxis.set_major_formatter("{x:g}")
    words = "maximum length (clicks read)"
    name = content["data"]["name"]
    study.dress(left, f"{metric.upper()} on {name}, 95 % intervals", words, f"{metric.upper()} (%)")
    study.dress(right, "Cost of one ranking", words, "CPU milliseconds per history")
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=8, frameon=False, fontsize=9)
    save_figure(figure, path)
    return figure


def findings(content: Mapping[str, Any], metric: str = "ndcg@10") -> list[str]:
    """What each family gains by reading more, and where that ends, in words."""
    tests = {(t["model"], t["against"]): t for t in content["tests"] if t["metric"] == metric}
    sentences = []
    for family, (lengths, values) in curves(content, metric).items():
        means = 100 * values[:, 0]
        best = int(means.argmax())
        close = [L for L in lengths[: best + 1] if not _differ(tests, family, L, lengths[best])]
        least, shortest = close[0], lengths[0]
        said = f"**{family}**: {means[0]:.2f} at {shortest} {_clicks(shortest)}"
        if best == 0 or least == shortest:
            said += "; no longer window is better beyond chance"
        else:
            test = tests[f"{family} {lengths[best]}", f"{family} {shortest}"]
            said += (
                f", best {means[best]:.2f} at {lengths[best]} (a gain of "
                f"{100 * test['low']:.1f} to {100 * test['high']:.1f} points)"
            )
            if least < lengths[best]:
                said += f"; from {least} on it cannot be told from the best"
        if best < len(lengths) - 1 and _differ(tests, family, lengths[best], lengths[-1]):
            said += f"; {lengths[-1]} clicks are worse again ({means[-1]:.2f})"
        sentences.append(said + ".")
    return sentences


def _clicks(number: int) -> str:
    return "click" if number == 1 else "clicks"


def _differ(
    tests: Mapping[tuple[str, str], Mapping[str, Any]], family: str, one: int, other: int
) -> bool:
    """Whether two lengths of a family differ beyond chance."""
    longer, shorter = max(one, other), min(one, other)
    test = tests.get((f"{family} {longer}", f"{family} {shorter}"))
    return test is not None and test["p_corrected"] is not None and test["p_corrected"] < 0.05


def page(content: Mapping[str, Any]) -> str:
    """Answers and tables of one data set."""
    lengths = sorted({row["length"] for row in content["rows"]})
    k = content["protocol"]["ks"][0]

    def grid(key: str, form: str, scale: float = 1.0) -> str:
        rows = []
        for family, (mine, values) in curves(content, key).items():
            cells = dict(zip(mine, values, strict=True))
            shown = ["" if L not in cells else _cell(scale * cells[L], form) for L in lengths]
            rows.append([family, *shown])
        return study.table(["clicks read", *map(str, lengths)], rows)

    seeds = len({row["seed"] for row in content["rows"]})
    parts = [
        "\n".join(f"- {line}" for line in findings(content)),
        f"NDCG@{k} in per cent, mean of {seeds} {'seed' if seeds == 1 else 'seeds'}:",
        grid(f"ndcg@{k}", "{:.2f}", 100),
        f"HR@{k}:",
        grid(f"hr@{k}", "{:.2f}", 100),
        "CPU milliseconds of training per 1,000 targets (of two epochs on some sessions):",
        grid("train_ms", "{:.0f}"),
        "CPU milliseconds to score all items after one long history:",
        grid("rank_ms", "{:.3f}"),
        "Millions of floating-point operations to read that history (matrix products and "
        "convolutions, counted by torch):",
        grid("rank_mflop", "{:.2f}"),
        content["protocol"]["note"],
    ]
    return "\n\n".join(parts)


def _cell(values: np.ndarray, form: str) -> str:
    """A number, and half of its interval where it has one."""
    if len(values) == 1:
        return form.format(values[0])
    return form.format(values[0]) + " ± " + form.format((values[2] - values[1]) / 2)


def main(argv: list[str] | None = None) -> None:
    parser = study.arguments("experiments.length_study", __doc__, list(LENGTHS))
    options = parser.parse_args(argv)
    content = study.run("length_study", "experiments.length_study", options, argv, plan, finish)
    out = study.out_of("length_study", options)
    plot(content, out / "length_study.png")
    print(f"{out / 'results.json'}\n{out / 'length_study.png'}")


if __name__ == "__main__":
    main()
