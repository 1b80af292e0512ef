"""Published tables: the contents of their files, and our rows next to theirs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import graphseq as gs

FOLDER = Path(__file__).parent.parent / "published"
TABLES = sorted(file.stem for file in FOLDER.glob("*.json"))

PLUS_MINUS = "\u00a0±\u00a0"
"""Spaces at which a narrow cell of a page does not break."""

NORMAL = 1.96
"""Number of standard errors in half of a 95 % interval."""


def published(table: str) -> dict[str, Any]:
    """The published numbers of a table, from its committed file.

    Raises:
        ValueError: If there is no such table.
    """
    if table not in TABLES:
        raise ValueError(f"There is no table {table!r}: choose one of {', '.join(TABLES)}.")
    content: dict[str, Any] = json.loads((FOLDER / f"{table}.json").read_text(encoding="utf-8"))
    return content


def side_by_side(content: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Our mean and interval next to the published number of each row, as a Markdown table.

    Rows are in the order of our numbers; published rows without ours come last. ``over seeds``: the
    standard deviation of each metric over the seeds. ``reached``: none of our metrics is more than
    one standard error below the published one. A table without published rows has no column of
    them.

    Args:
        content: The record of a comparison.
        table: The published numbers.

    Raises:
        ValueError: If the results are of other data or lack a metric of the table.
    """
    metrics, also = table["metrics"], table.get("also", [])
    if (data := content["data"]["name"]) != table["dataset"]:
        raise ValueError(
            f"The results are of {data!r} and the published numbers of {table['dataset']!r}: "
            "numbers of different data belong in two tables."
        )
    if ("validation" in content["data"]["fingerprint"]) != (table["validation"] is not None):
        raise ValueError(
            f"The results are of {data!r} with another validation part than the table's, "
            f"validation={table['validation']}: a model may train on clicks that the table holds "
            "out; run the table's own split."
        )
    for row in content["rows"]:
        if missing := [name for name in (*metrics, *also) if name not in row["metrics"]]:
            raise ValueError(
                f"The row of {row['model']}, seed {row['seed']}, lacks {missing[0]!r}: it was "
                f"ranked under another protocol than {table['protocol']!r}, which the table has; "
                "rank it again."
            )
    frame = gs.Comparison(content).to_frame().sort_values(metrics[-1], ascending=False)
    theirs = {row["line"]: row for row in table["rows"]}
    head = ["model", "seeds", "epochs", f"here: {_names(metrics)}"]
    head += ["over seeds", *([f"here: {_names(also)}"] if also else [])]
    head += ["published", "reached", "source", "its epochs chosen on"] if theirs else []
    lines = [_line(head), _line(["---"] * len(head))]
    for name, found in frame.iterrows():
        epochs = f"{found['epochs']:.0f}" if found["epochs"] > 0 else "-"
        cells = [str(name), f"{found['seeds']:.0f}", epochs, _ours(found, metrics)]
        cells += [_spread(found, metrics), *([_ours(found, also)] if also else [])]
        cells += _theirs(theirs.get(str(name), {}), metrics, found) if theirs else []
        lines.append(_line(cells))
    for name, row in theirs.items():
        if name not in frame.index:
            cells = [name, "-", "-", "not run here", "-", *(["-"] if also else [])]
            lines.append(_line([*cells, *_theirs(row, metrics)]))
    return "\n".join(lines)


def goal_of(content: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """One sentence on the goal of a table: the closest row, and its distance.

    Args:
        content: The record of a comparison.
        table: The published numbers, with a ``goal`` per metric.
    """
    goal = table["goal"]
    frame = gs.Comparison(content).to_frame()
    share = pd.concat([frame[name] / value for name, value in goal.items()], axis=1).min(axis=1)
    best = str(share.idxmax())
    ours = " / ".join(f"{frame.loc[best, name]:.4f}" for name in goal)
    wanted = " / ".join(f"{value:.4f}" for value in goal.values())
    verdict = "reached" if share.max() >= 1 else f"not reached ({100 * share.max():.1f} % of it)"
    return f"Goal of this project, {_names(goal)}: {wanted}. {best} has {ours}: {verdict}."


def audit_of(name: str, audits: Mapping[str, Any]) -> str:
    """The result of a data set's audit in a few words: its verdict, and every fault.

    Args:
        name: The data set.
        audits: The committed audits of all data sets.

    Raises:
        ValueError: If there is none of this data set.
    """
    found = next((row for row in audits["rows"] if row["name"] == name), None)
    if found is None:
        raise ValueError(f"There is no audit of {name!r}: run python -m experiments.audit.")
    faults = [f"{f['check']}: {f['says']}" for f in found["findings"] if f["verdict"] == "fault"]
    verdict = "passed" if found["passed"] else "**refuted**"
    return " ".join(
        [f"Audit of the split, before validation is cut from training: {verdict}.", *faults]
    )


def _names(metrics: Iterable[str]) -> str:
    return " / ".join(metrics)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ours(found: pd.Series, metrics: Iterable[str]) -> str:
    """Mean and half interval of each metric."""
    halves = {name: (found[f"{name} high"] - found[f"{name} low"]) / 2 for name in metrics}
    return " / ".join(f"{found[name]:.4f}{PLUS_MINUS}{half:.4f}" for name, half in halves.items())


def _spread(found: pd.Series, metrics: Iterable[str]) -> str:
    """Standard deviation of each metric over the seeds; a dash for one seed."""
    if found["seeds"] == 1:
        return "-"
    return " / ".join(f"{found[f'{name} spread']:.4f}" for name in metrics)


def _theirs(
    row: Mapping[str, Any], metrics: Iterable[str], found: pd.Series | None = None
) -> list[str]:
    """Cells of a published row: numbers, whether ours reach them, source, and choice of epochs."""
    numbers = {name: row[name] for name in metrics if name in row}
    reached = "-"
    if found is not None and numbers:
        ends = {n: found[f"{n} high"] - found[f"{n} low"] for n in numbers}
        # Without an interval, only a figure that is not below the published one reaches it.
        error = {n: 0.0 if pd.isna(width) else width / 2 / NORMAL for n, width in ends.items()}
        reached = "yes" if all(found[n] >= v - error[n] for n, v in numbers.items()) else "no"
    shown = " / ".join(f"{value:.4f}" for value in numbers.values()) or "-"
    return [shown, reached, row.get("source", "-"), row.get("chosen", "-")]
