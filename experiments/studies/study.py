"""What all studies share: data bounded on purpose, lines trained once, tests, costs, a record.

A study is one comparison (``gs.compare``) whose lines differ in one thing, or several on the same
test cases where lines differ in their training data. ``--out`` holds the rows of every finished
line, so that ``--resume`` trains only what is missing and refuses other data.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import graphseq as gs
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.results import command, fit_whole, said
from graphseq.comparison import Entry, entries_of
from graphseq.comparison.record import write_results
from graphseq.comparison.verdicts import paired_tests, sentence
from graphseq.evaluation import Report
from graphseq.visualization.figures import BLUE, GRAY, INK, new_figure, save_figure
from graphseq.visualization.learning_curves import COLORS

GENERATED = "generated"
ROOT = Path(__file__).parent.parent.parent
RESULTS, IMAGES = ROOT / "docs" / "results", ROOT / "docs" / "images"


@dataclass
class Plan:
    """What one run of a study trains.

    Args:
        split: The data, bounded.
        lines: Line -> model and settings, as ``gs.compare`` reads them.
        facts: Line -> how it differs from the others, for tables and pictures.
        pairs: The tests: line and the line that it is held against.
        exclude_seen: Whether items of the history leave the ranking.
        ks: Cut-offs of the metrics.
        monitor: The metric that orders the lines.
        bounded: What is smaller than it could be, in a sentence.
        cluster: Whose cases are not independent: ``"session"`` or ``"user"``.
        name: What tables call the data; ``None``: as the data set is called.
        splits: Line -> its own split, for lines with other training data and the same test cases.
        extras: Line -> what its ``gs.fit`` takes besides settings: an augmentation, auxiliary
            losses.
    """

    split: gs.Split
    lines: dict[str, Any]
    facts: dict[str, dict[str, Any]]
    pairs: list[tuple[str, str]]
    bounded: str
    exclude_seen: bool = False
    ks: tuple[int, ...] = (10, 20)
    monitor: str = "mrr@20"
    cluster: Any = "session"
    name: str | None = None
    splits: Mapping[str, gs.Split] = field(default_factory=dict)
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def arguments(module: str, doc: str | None, datasets: Sequence[str]) -> argparse.ArgumentParser:
    """The command line of a study."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=doc)
    parser.add_argument("--dataset", default=datasets[0], choices=datasets)
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="some lines only")
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1])
    parser.add_argument("--out", type=out_folder, help="default: runs/<study>/<data set>")
    parser.add_argument("--quick", action="store_true", help="a tiny form, to see that it runs")
    parser.add_argument("--resume", action="store_true", help="continue from what --out holds")
    return parser


def run(
    name: str,
    module: str,
    options: argparse.Namespace,
    argv: list[str] | None,
    plan: Callable[[argparse.Namespace], Plan],
    finish: Callable[[Plan, dict[str, Any], dict[str, list[Report]]], None],
) -> dict[str, Any]:
    """Trains the lines of a plan, tests the pairs, and writes the record of the study.

    Args:
        name: Of the study.
        module: What ``python -m`` runs.
        options: The command line, read.
        argv: The command line as it was given.
        plan: From the options to what is trained.
        finish: Adds to the record what belongs to this study alone.
    """
    out = out_of(name, options)
    seeds = [0] if options.quick else options.seeds
    logging.basicConfig(format="%(message)s")
    logging.getLogger("graphseq.comparison").setLevel(logging.INFO)
    with said():
        planned = plan(options)
        wanted = planned.lines
        if options.models:
            wanted = {
                line: model
                for line, model in planned.lines.items()
                if line in options.models or planned.facts[line].get("family") in options.models
            }
            if not wanted:
                known = dict.fromkeys(f.get("family", n) for n, f in planned.facts.items())
                raise ValueError(f"No line is of {options.models}: choose from {', '.join(known)}.")
        contents: list[Mapping[str, Any]] = []
        reports: dict[str, list[Report]] = {}
        for folder, split, lines, of_seeds in parts(planned, wanted, seeds, out, options.resume):
            comparison = gs.compare(
                split,
                lines,
                seeds=of_seeds,
                ks=planned.ks,
                monitor=planned.monitor,
                exclude_seen=planned.exclude_seen,
                cluster=planned.cluster,
                out=folder,
                resume=options.resume,
                progress=False,
                name=planned.name or options.dataset,
                note=planned.bounded,
                command=command(module, argv),
            )
            contents.append(comparison.content)
            for line, found in reports_of(comparison.content, folder).items():
                reports.setdefault(line, []).extend(found)
    content = dict(contents[0])
    place = {line: number for number, line in enumerate(planned.lines)}
    rows = [row for part in contents for row in part["rows"]]
    content["rows"] = sorted(rows, key=lambda row: place[row["model"]])
    content["study"] = name
    told_as = content["command"].replace(str(out), f"runs/{name}/{options.dataset}")
    content["command"] = told_as.replace(" --resume", "")
    for row in content["rows"]:
        row.pop("history", None)
        row |= planned.facts[row["model"]]
    metrics = [planned.monitor, *(f"hr@{k}" for k in planned.ks[:1])]
    content["tests"] = paired_tests(reports, metrics, planned.pairs)
    finish(planned, content, reports)
    write_results(content, out)
    (out / "study.json").write_text(json.dumps(trimmed(content), indent=1) + "\n")
    return content


def parts(
    planned: Plan, wanted: Mapping[str, Any], seeds: list[int], out: Path, resume: bool
) -> Iterator[tuple[Path, gs.Split, dict[str, Any], list[int]]]:
    """The comparisons of a study: folder, split, lines and seeds of each."""
    splits = list({id(s): s for s in (planned.split, *planned.splits.values())}.values())
    for number, split in enumerate(splits):
        mine = {
            line: model
            for line, model in wanted.items()
            if planned.splits.get(line, planned.split) is split and line not in planned.extras
        }
        if mine:
            yield out / ("lines" if number == 0 else f"lines-{number}"), split, mine, seeds
    extra = [line for line in wanted if line in planned.extras]
    for seed in seeds if extra else ():
        folder = out / f"lines-seed{seed}"
        lines = {line: trained(planned, line, seed, folder / "training", resume) for line in extra}
        yield folder, planned.split, lines, [seed]


def trained(planned: Plan, line: str, seed: int, folder: Path, resume: bool) -> Any:
    """A model of a line that ``gs.compare`` cannot train: with an augmentation, auxiliary losses.

    With ``resume``, a stopped training in the folder continues, and a finished one is read.
    """
    (entry,) = entries_of({line: planned.lines[line]})
    model = entry.new_model(planned.split.num_items, seed)
    fit_whole(
        model,
        planned.split,
        entry.training,
        **planned.extras[line],
        monitor=planned.monitor,
        seed=seed,
        out=folder / f"{entry.slug}-seed{seed}",
        resume=resume,
        progress=False,
    )
    return model


def out_of(name: str, options: argparse.Namespace) -> Path:
    """The folder of a run."""
    return Path(options.out or Path("runs") / name / options.dataset)


def trimmed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The record without what no table of a study needs, numbers to six digits: for docs."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, dict):
            return {key: short(inner) for key, inner in value.items()}
        return [short(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    kept = {key: value for key, value in content.items() if key not in ("format", "checksum")}
    kept["data"] = {key: value for key, value in kept["data"].items() if key != "audit"}
    found: dict[str, Any] = short(kept)
    return found


def reports_of(content: Mapping[str, Any], folder: Path) -> dict[str, list[Report]]:
    """Line -> the places of all cases of each of its seeds."""
    reports: dict[str, list[Report]] = {}
    for row in content["rows"]:
        slug = Entry(row["model"], "").slug
        path = folder / "models" / f"{slug}-seed{row['seed']}" / "report.bin"
        reports.setdefault(row["model"], []).append(Report.load(path))
    return reports


def told(content: Mapping[str, Any], metric: str) -> list[str]:
    """The tests of a metric in words."""
    return [sentence(test) for test in content["tests"] if test["metric"] == metric]


def bounded(split: gs.Split, newest: int | None, targets: int | None) -> gs.Split:
    """The newest training sessions, and test sessions drawn from all, as a separate split."""
    train, test = split.train, split.test
    if newest is not None and newest < train.num_sessions:
        train = train[-newest:].drop_unused_items()
    if targets is not None and targets < test.num_sessions:
        kept = np.random.default_rng(0).choice(test.num_sessions, targets, replace=False)
        test = test.select(np.sort(kept))
    return gs.fixed_split(train, test)


def bounded_split(options: argparse.Namespace, newest: int, targets: int) -> gs.Split:
    """The split of the data set named on the command line, bounded."""
    return bounded(gs.load_split(options.dataset, options.root), newest, targets)


# -- what a line costs ---------------------------------------------------------------------------


def cost(
    line: Any,
    split: gs.Split,
    extras: Mapping[str, Any] | None = None,
    *,
    sessions: int = 64,
    train_sessions: int = 200,
    repeats: int = 3,
) -> dict[str, float | None]:
    """What a line costs: processor time and counted operations, whatever else the machine does.

    Args:
        line: The model and its settings, as ``gs.compare`` reads them.
        split: The data: the last of its test histories are ranked, some of training is trained on.
        extras: What its ``gs.fit`` takes besides settings.
        sessions: Histories in the batch that is ranked.
        train_sessions: Training sessions of the measured epochs.
        repeats: Of the ranking; the least counts.

    Returns:
        ``rank_ms``: CPU milliseconds to score all items after one history. ``rank_mflop``: millions
        of multiplications and additions to read it (matrix products and convolutions alone).
        ``train_ms``: CPU milliseconds of training per 1,000 targets; ``None`` for counting models.
    """
    (entry,) = entries_of([line])
    model = entry.new_model(split.num_items, 0)
    small = replace(split.train[-train_sessions:], first_target=None)
    counts = isinstance(model, gs.models.CountingModel)
    train_ms = None
    if counts:
        fit_whole(model, split, entry.training, progress=False)
    else:
        # The first training of a process also pays for what torch sets up: it is not counted.
        spent: dict[int, list[float]] = {1: [], 3: []}
        for epochs in (1, 1, 3, 1, 3):
            fresh = entry.new_model(split.num_items, 0)
            start = time.process_time()
            fit_whole(
                fresh, small, entry.training, **(extras or {}), max_epochs=epochs, progress=False
            )
            spent[epochs].append(time.process_time() - start)
        targets = int((small.lengths - 1).clip(min=0).sum())
        train_ms = (min(spent[3]) - min(spent[1][1:])) / 2 / targets * 1e6
    model.eval()
    batch = batch_of(split, sessions)
    best = float("inf")
    with torch.no_grad():
        for _ in range(repeats):
            start = time.process_time()
            model.score(batch)
            best = min(best, time.process_time() - start)
        operations = None
        if not counts:
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                model(batch)
            operations = counter.get_total_flops() / batch.num_graphs / 1e6
    return {
        "rank_ms": best / batch.num_graphs * 1e3,
        "rank_mflop": operations,
        "train_ms": train_ms,
    }


def add_costs(planned: Plan, content: dict[str, Any], train_sessions: int = 200) -> None:
    """Adds to every row what its line costs; ``train_sessions`` as for :func:`cost`."""
    known: dict[str, dict[str, float | None]] = {}
    for row in content["rows"]:
        line = row["model"]
        if line not in known:
            split = planned.splits.get(line, planned.split)
            extras = planned.extras.get(line)
            known[line] = cost(planned.lines[line], split, extras, train_sessions=train_sessions)
        row |= known[line]


def batch_of(split: gs.Split, sessions: int) -> Any:
    """A batch of the longest of some test histories without their last click."""
    test = split.test
    drawn = np.random.default_rng(0).permutation(test.num_sessions)[: 8 * sessions]
    longest = drawn[np.argsort(-test.lengths[drawn], kind="stable")[:sessions]]
    clicks = [np.arange(test.ptr[s], test.ptr[s + 1] - 1) for s in longest]
    known = [part[test.items[part] >= 0] for part in clicks]
    kept = [place for place, part in enumerate(known) if len(part)]
    order = np.concatenate([known[place] for place in kept])
    ptr = np.cumsum([0, *(len(known[place]) for place in kept)])
    per_session = {} if test.users is None else {"user": test.users[longest[kept]]}
    return gs.data.build_session_graphs(
        torch.from_numpy(test.items[order].astype(np.int64)),
        torch.from_numpy(ptr.astype(np.int64)),
        click_fields={
            f"click_{name}": torch.from_numpy(np.asarray(values)[order])
            for name, values in test.click_features.items()
        },
        session_fields={k: torch.from_numpy(v.astype(np.int64)) for k, v in per_session.items()},
    )


# -- pictures and tables --------------------------------------------------------------------------


def color_of(names: Sequence[str]) -> dict[str, str]:
    """One color per name, in order."""
    return {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}


def dress(ax: Any, title: str, x: str, y: str) -> None:
    """Titles with units, a grid behind the lines, no frame."""
    ax.set_title(title, fontsize=11, color=INK)
    ax.set_xlabel(x, fontsize=10, color=INK)
    ax.set_ylabel(y, fontsize=10, color=INK)
    ax.tick_params(labelsize=9, colors=GRAY)
    ax.grid(color="#E3E8ED", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def plot_against(content: Mapping[str, Any], base: str, path: Path) -> Figure:
    """Each line against the base, in points of the metric that orders them, with its interval."""
    metric = content["monitor"]
    found = [test for test in content["tests"] if test["metric"] == metric]
    found = sorted(found, key=lambda test: test["difference"])
    figure = new_figure(7.6, 1.1 + 0.32 * len(found), constrained=True)
    ax = figure.subplots()
    for place, test in enumerate(found):
        low, high = test["low"] or test["difference"], test["high"] or test["difference"]
        color = BLUE if real(test) else GRAY
        ax.plot([100 * low, 100 * high], [place, place], color=color, lw=2)
        ax.plot([100 * test["difference"]], [place], marker="o", ms=6, color=color)
    ax.axvline(0, color=INK, lw=1)
    ax.set_yticks(range(len(found)), [test["model"] for test in found])
    title = f"Each line against {base} on {content['data']['name']}"
    dress(ax, title, f"points of {metric.upper()} (95 % interval; blue: p < 0.05)", "")
    save_figure(figure, path)
    return figure


def page_against(content: Mapping[str, Any], base: str) -> str:
    """The lines with their difference to the base, best first, and what each costs."""
    metric = content["monitor"]
    cost_of = {row["model"]: row["train_ms"] for row in content["rows"]}
    tests = {test["model"]: test for test in content["tests"] if test["metric"] == metric}
    rows = [[base, percent(content, base, metric), "", "", milli(cost_of[base])]]
    for line, test in sorted(tests.items(), key=lambda item: -item[1]["difference"]):
        shown = [percent(content, line, metric), points(test), probability(test["p_corrected"])]
        rows.append([line, *shown, milli(cost_of[line])])
    seeds = len({row["seed"] for row in content["rows"]})
    said = (
        f"{metric.upper()} in per cent, mean of {seeds} {'seed' if seeds == 1 else 'seeds'}; the "
        f"difference to {base} in points with its interval; p corrected for the number of lines; "
        "CPU milliseconds of training per 1,000 targets:"
    )
    head = ["line", metric.upper(), "difference", "p", "CPU ms"]
    return "\n\n".join([said, table(head, rows), content["protocol"]["note"]])


def real(test: Mapping[str, Any]) -> bool:
    """Whether a difference is beyond chance."""
    return test["p_corrected"] is not None and test["p_corrected"] < 0.05


def points(test: Mapping[str, Any]) -> str:
    """``+0.52 (+0.10 to +0.94)``; in bold face where it is beyond chance."""
    if test["low"] is None:
        return f"{100 * test['difference']:+.2f}"
    star = "**" if real(test) else ""
    ends = f"{100 * test['low']:+.2f} to {100 * test['high']:+.2f}"
    return f"{star}{100 * test['difference']:+.2f}{star} ({ends})"


def probability(p: float | None) -> str:
    """A p value as a table shows it."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def milli(value: float | None) -> str:
    """Milliseconds as a table shows them."""
    return "-" if value is None else f"{value:.0f}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def percent(content: Mapping[str, Any], line: str, metric: str) -> str:
    """``12.3 ± 0.4``: the mean over the seeds and half of the mean of their intervals."""
    rows = [row for row in content["rows"] if row["model"] == line]
    mean = np.mean([row["metrics"][metric] for row in rows])
    low, high = np.mean([row["intervals"][metric] for row in rows], axis=0)
    return f"{100 * mean:.2f} ± {50 * (high - low):.2f}"
