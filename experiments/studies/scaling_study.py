"""How much data, how wide? Quality and cost against training clicks and against width.

Every line ranks the same test cases over the same catalog. Training data are the newest sessions,
halved again and again; a validation part chooses the epoch of each line, so that few data are not
trained for longer than they bear. A curve is fitted to all sizes but the largest, and its error is
what it predicts there against what is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import curve_fit

import graphseq as gs
from experiments.studies import study
from graphseq.evaluation import Report
from graphseq.visualization.figures import new_figure, save_figure

SIZES = {"uci-eshop": (8000, 2000), "yoochoose1_64": (64_000, 3000), "diginetica": (64_000, 3000)}
"""Data set -> newest training sessions of the largest size, and test sessions drawn."""

SHARES = {"1/16": 16, "1/8": 8, "1/4": 4, "1/2": 2, "all": 1}
WIDTHS = (8, 16, 32, 64, 128)
WIDTH = 64
NEURAL: dict[str, dict[str, Any]] = {
    "srgnn": {"batch_size": 128, "learning_rate": 0.004},
    "gru4rec": {"batch_size": 32, "learning_rate": 0.004},
    "sasrec": {"batch_size": 32, "learning_rate": 0.004},
}
COUNTING = ("markov", "v-sknn")


def line_of(family: str, width: int, epochs: int) -> Any:
    """The model and settings of a family at a width."""
    if family in COUNTING:
        return family.replace("-", "")
    arguments: dict[str, Any] = {"hidden_channels": width}
    arguments |= {"normalize": True} if family == "srgnn" else {"dropout": 0.2}
    fit = NEURAL[family] | {"max_epochs": epochs, "patience": 2}
    return family, {"arguments": arguments, "fit": fit}


def plan(options: argparse.Namespace) -> study.Plan:
    """Families at several sizes of the training data, and neural ones at several widths."""
    newest, targets = (320, 100) if options.quick else SIZES[options.dataset]
    whole = study.bounded_split(options, newest, targets)
    whole = gs.fixed_split(whole.train, whole.test, validation=0.1)
    shares = {"1/4": 4, "all": 1} if options.quick else SHARES
    families = ("markov", "gru4rec") if options.quick else (*COUNTING, *NEURAL)
    epochs = 1 if options.quick else 10
    number = whole.train.num_sessions
    lines, facts, splits = {}, {}, {}
    for share, parts in shares.items():
        train = whole.train[-(number // parts) :]
        split = whole if parts == 1 else replace(whole, train=train)
        for family in families:
            name = f"{family}, {share}"
            lines[name] = line_of(family, WIDTH, epochs)
            facts[name] = {"family": family, "clicks": train.num_clicks, "width": WIDTH}
            splits[name] = split
    for family in () if options.quick else ("gru4rec",):
        for width in WIDTHS:
            if width != WIDTH:
                name = f"{family}, width {width}"
                lines[name] = line_of(family, width, epochs)
                facts[name] = {
                    "family": family, "clicks": whole.train.num_clicks, "width": width,
                }  # fmt: skip
    pairs = [
        (f"{family}, {share}", f"markov, {share}")
        for share in shares
        for family in families
        if family != "markov"
    ]
    bounded = (
        f"The newest {newest:,} training sessions, a tenth of them for validation, and "
        f"{targets:,} drawn of the test. Width {WIDTH}, up to {epochs} epochs. Items without a "
        "click in the smaller parts stay in the ranking."
    )
    return study.Plan(whole, lines, facts, pairs, bounded, monitor="mrr@20", splits=splits)


def finish(
    planned: study.Plan, content: dict[str, Any], reports: Mapping[str, list[Report]]
) -> None:
    """Adds the fitted curves, and what every line costs."""
    study.add_costs(planned, content)
    content["curves"] = {
        family: fitted(clicks, values)
        for family, (clicks, values) in by_clicks(content).items()
        if len(clicks) > 3
    }


def by_clicks(content: Mapping[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Family -> training clicks ascending [n], and of each the metric's mean and ends [n, 3]."""
    found = {}
    rows = [row for row in content["rows"] if row["width"] == WIDTH]
    for family in dict.fromkeys(row["family"] for row in rows):
        mine = [row for row in rows if row["family"] == family]
        clicks = sorted({row["clicks"] for row in mine})
        table = [
            _mean([row for row in mine if row["clicks"] == number], content["monitor"])
            for number in clicks
        ]
        found[family] = (np.array(clicks), np.array(table))
    return found


def _mean(rows: list[dict[str, Any]], metric: str) -> list[float]:
    """A metric's mean over seeds, and the means of its ends."""
    ends = np.mean([row["intervals"][metric] for row in rows], axis=0)
    return [float(np.mean([row["metrics"][metric] for row in rows])), *map(float, ends)]


def power(clicks: np.ndarray, top: float, slope: float, rate: float) -> np.ndarray:
    """``top - slope * (clicks / 1000) ** -rate``: what more data approach, and how fast."""
    value: np.ndarray = top - slope * (clicks / 1000) ** -rate
    return value


def fitted(clicks: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    """A power law through all sizes but the largest, and its error there.

    Args:
        clicks: Training clicks, ascending, [n].
        values: Mean, low and high end of the metric at each, [n, 3].
    """
    low, high = [0.0, 0.0, 0.05], [1.0, 1.0, 2.0]
    start = [values[-2, 0], max(values[-2, 0] - values[0, 0], 1e-4), 0.5]
    spread = np.maximum((values[:, 2] - values[:, 1]) / 3.92, 1e-6)
    found, _ = curve_fit(
        power, clicks[:-1], values[:-1, 0], p0=start, sigma=spread[:-1], bounds=(low, high)
    )
    guess = float(power(clicks[-1:], *found)[0])
    return {
        "top": float(found[0]),
        "slope": float(found[1]),
        "rate": float(found[2]),
        "predicted": guess,
        "measured": float(values[-1, 0]),
        "error": guess - float(values[-1, 0]),
        "half_interval": float(values[-1, 2] - values[-1, 1]) / 2,
    }


def plot(content: Mapping[str, Any], path: Path) -> Figure:
    """Quality against training clicks with the fitted curves, and against the work of training."""
    metric = content["monitor"]
    figure = new_figure(10.4, 4.4, constrained=True)
    left, right = figure.subplots(1, 2, sharey=True)
    found = by_clicks(content)
    colors = study.color_of(list(found))
    for family, (clicks, values) in found.items():
        color = colors[family]
        shown = 100 * values
        left.errorbar(
            clicks, shown[:, 0], [shown[:, 0] - shown[:, 1], shown[:, 2] - shown[:, 0]],
            fmt="o", ms=4, lw=1, capsize=2, color=color, label=family,
        )  # fmt: skip
        curve = content["curves"].get(family)
        if curve is not None:
            x = np.geomspace(clicks[0], clicks[-1], 60)
            y = 100 * power(x, curve["top"], curve["slope"], curve["rate"])
            left.plot(x, y, color=color, lw=1.2, alpha=0.7)
        work = [seconds_of(content, family, number) for number in clicks]
        if all(work):
            right.plot(work, shown[:, 0], marker="o", ms=4, color=color)
    for ax in (left, right):
        ax.set_xscale("log")
        ax.minorticks_off()
    sizes = sorted({number for clicks, _ in found.values() for number in clicks})
    left.set_xticks(sizes, [f"{number:,}" for number in sizes])
    name = content["data"]["name"]
    study.dress(left, f"Quality against data on {name}", "training clicks", f"{metric.upper()} (%)")
    study.dress(right, "Quality against work", "CPU seconds of training", "")
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    save_figure(figure, path)
    return figure


def seconds_of(content: Mapping[str, Any], family: str, clicks: int) -> float | None:
    """CPU seconds of a whole training: of 1,000 targets, times targets, times epochs."""
    rows = [
        row
        for row in content["rows"]
        if (row["family"], row["clicks"], row["width"]) == (family, clicks, WIDTH)
    ]
    if rows[0]["train_ms"] is None:
        return None
    epochs = float(np.mean([row["epochs"] for row in rows]))
    return float(rows[0]["train_ms"]) * clicks * epochs / 1e6


def page(content: Mapping[str, Any]) -> str:
    """Tables by clicks and by width, and the fitted curves."""
    metric = content["monitor"]
    tests = {test["model"]: test for test in content["tests"] if test["metric"] == metric}
    line_at = {(r["family"], r["clicks"], r["width"]): r["model"] for r in content["rows"]}
    found = by_clicks(content)
    clicks = sorted({int(n) for numbers, _ in found.values() for n in numbers})
    rows = []
    for family in found:
        cells = []
        for number in clicks:
            line = line_at[family, number, WIDTH]
            cell = study.percent(content, line, metric)
            ahead = line in tests and study.real(tests[line]) and tests[line]["difference"] > 0
            cells.append(f"**{cell}**" if ahead else cell)
        rows.append([family, *cells])
    curves = [
        [
            family,
            f"{100 * c['top']:.1f}",
            f"{c['rate']:.2f}",
            f"{100 * c['predicted']:.2f}",
            f"{100 * c['measured']:.2f} ± {100 * c['half_interval']:.2f}",
            f"{100 * c['error']:+.2f}",
        ]
        for family, c in content["curves"].items()
    ]
    work = [
        [family, *("-" if s is None else f"{s:.0f}" for s in seconds)]
        for family in found
        for seconds in [[seconds_of(content, family, number) for number in clicks]]
    ]
    widths = sorted({row["width"] for row in content["rows"]})
    most = max(clicks)
    wide = [
        [
            family,
            *(study.percent(content, line_at[family, most, width], metric) for width in widths),
        ]
        for family in found
        if all((family, most, width) in line_at for width in widths)
    ]
    head = ["training clicks", *(f"{number:,}" for number in clicks)]
    parts = [
        f"{metric.upper()} in per cent; in bold face where it is above Markov beyond chance:",
        study.table(head, rows),
        "CPU seconds of training, up to the epoch that validation chose:",
        study.table(head, work),
    ]
    if curves:
        parts += [
            "The fitted curve, top - slope x (clicks / 1000)^-rate, through all sizes but the "
            "largest, and what it predicts there:",
            study.table(["family", "top", "rate", "predicted", "measured", "error"], curves),
        ]
    if len(widths) > 1:
        parts += [
            f"{metric.upper()} against width, on all clicks:",
            study.table(["width", *map(str, widths)], wide),
        ]
    return "\n\n".join([*parts, content["protocol"]["note"]])


def main(argv: list[str] | None = None) -> None:
    parser = study.arguments("experiments.studies.scaling_study", __doc__, list(SIZES))
    options = parser.parse_args(argv)
    module = "experiments.studies.scaling_study"
    content = study.run("scaling_study", module, options, argv, plan, finish)
    plot(content, study.out_of("scaling_study", options) / "scaling_study.png")


if __name__ == "__main__":
    main()
