"""Tables of a comparison, made from its record: Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphseq.evaluation.protocol import Protocol
from graphseq.evaluation.report import verdict_of
from graphseq.metric_scale import lower_is_better

Rows = list[dict[str, Any]]


def protocol_in(content: Mapping[str, Any]) -> Protocol:
    """The protocol under which the rows were ranked."""
    written = content["protocol"]
    seen = "remove" if written.get("exclude_seen") else "keep"  # of files of graphseq 0.1
    return Protocol.from_dict(written.get("evaluation", {"seen": seen}))


def shown_metrics(content: Mapping[str, Any]) -> list[str]:
    """The metrics of a table, at the largest cut-off, with and without seen items if both exist."""
    k = content["protocol"]["ks"][-1]
    return protocol_in(content).metrics([f"hr@{k}", f"mrr@{k}", f"ndcg@{k}"])


def leading_metric(content: Mapping[str, Any]) -> str:
    """The metric that orders the models: the monitored one, else ``mrr`` at the last cut-off."""
    found: str = content.get("monitor") or shown_metrics(content)[1]
    return found


def by_model(content: Mapping[str, Any]) -> dict[str, Rows]:
    """The rows of each model, best model first."""
    metric = leading_metric(content)
    groups: dict[str, Rows] = {}
    for row in content["rows"]:
        groups.setdefault(row["model"], []).append(row)
    best_first = sorted(
        groups.items(),
        key=lambda item: mean_metric(item[1], metric),
        reverse=not lower_is_better(metric),
    )
    return dict(best_first)


def mean_metric(rows: Rows, metric: str) -> float:
    """The mean of a metric over the rows of a model."""
    return float(np.mean([row["metrics"][metric] for row in rows]))


def mean_interval(rows: Rows, metric: str) -> tuple[float, float] | None:
    """The mean of both interval ends over the rows; ``None`` if a row has no interval."""
    if not all(metric in row.get("intervals", {}) for row in rows):
        return None
    low, high = np.mean([row["intervals"][metric] for row in rows], axis=0)
    return float(low), float(high)


def mean_of(rows: Rows, key: str) -> float:
    """The mean over the rows of a value that is not a metric; NaN if a row lacks it."""
    return float(np.mean([row.get(key, np.nan) for row in rows]))


def repeated(rows: Rows) -> str:
    """What the several rows of one model are called."""
    return "periods" if "period" in rows[0] else "seeds"


def label(model: str, rows: Rows) -> str:
    """The name of a line with its number of rows."""
    return model if len(rows) == 1 else f"{model} ({len(rows)} {repeated(rows)})"


def markdown(content: Mapping[str, Any]) -> str:
    """The rows of a ``results.json`` in percent, best first: means over seeds."""
    names = shown_metrics(content)
    lines = [
        f"| model | {' | '.join(map(str.upper, names))} | epochs | training | ranking |",
        "|" + " --- |" * (len(names) + 4),
    ]
    for model, rows in by_model(content).items():
        cells = [_cell(rows, name, "±") for name in names]
        epochs = mean_of(rows, "epochs")
        cells.append(f"{epochs:.0f}" if epochs > 0 else "-")
        seconds = [mean_of(rows, key) for key in ("train_seconds", "eval_seconds")]
        cells += ["-" if np.isnan(value) else f"{value:.1f} s" for value in seconds]
        name = label(model, rows).replace("|", "\\|")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def audited(content: Mapping[str, Any]) -> list[str]:
    """The findings of the audits, one sentence each; empty if no audit was run."""
    if "audit" not in content["data"]:
        return []
    lines = [f"Audit of the split: {verdict_of(content['data']['audit'])}."]
    split = verdict_of(content["data"]["audit"])
    found = dict.fromkeys(  # of all seeds, each verdict once
        (row["model"], row["audit"]) for row in content["rows"] if row.get("audit")
    )
    return lines + [f"Audit of {name}: {told}." for name, told in found if told != split]


def latex(content: Mapping[str, Any]) -> str:
    """The same as a LaTeX table (``booktabs``); the best value of each column is bold."""
    names = shown_metrics(content)
    groups = by_model(content)
    best = {name: max(mean_metric(rows, name) for rows in groups.values()) for name in names}
    lines = []
    for model, rows in groups.items():
        cells = []
        for name in names:
            cell = _cell(rows, name, r"\pm")
            wins = mean_metric(rows, name) == best[name]
            cells.append(rf"$\mathbf{{{cell}}}$" if wins else f"${cell}$")
        lines.append(" & ".join([_escaped(label(model, rows)), *cells]) + r" \\")
    data = content["data"]
    cases = data.get("statistics", {}).get("test", {}).get("targets")
    head = " & ".join(["Model", *(_escaped(name.upper()) for name in names)])
    protocol = protocol_in(content)
    among = f"{protocol.candidates} sampled candidates" if protocol.sampled else "all items"
    caption = f"Models on {_escaped(str(data['name']))}, in \\%, {among} ranked"
    caption += "" if cases is None else f" for {cases:,} targets".replace(",", "{,}")
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}. After $\pm$: half of the 95\,\% interval.}}",
            rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _cell(rows: Rows, metric: str, sign: str) -> str:
    """The mean in percent, and half of its interval."""
    value, ends = 100 * mean_metric(rows, metric), mean_interval(rows, metric)
    return f"{value:.2f}" if ends is None else f"{value:.2f} {sign} {50 * (ends[1] - ends[0]):.2f}"


SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _escaped(text: str) -> str:
    """Text escaped for LaTeX."""
    return "".join(SPECIAL.get(sign, sign) for sign in text)
