"""Finished comparisons as one HTML file: every text escaped, every picture inside."""

from __future__ import annotations

import base64
import io
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

import graphseq as gs
from graphseq.comparison.entries import Entry
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.evaluation import Report
from graphseq.models import attention_of
from graphseq.visualization import (
    draw_attention,
    draw_session_graph,
    plot_cost,
    plot_learning_curves,
    plot_strata,
)
from graphseq.visualization.figures import new_figure

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("report.html")
STRATA = ("length", "popularity", "repeat")
LONGEST, LIST = 15, 10
"""Newest clicks of a session shown, and items of a list."""


def html_of(
    runs: Sequence[gs.Comparison],
    folders: Sequence[Path],
    test: gs.Sessions | None = None,
    *,
    sessions: int = 20,
    missing: str = "No sessions were asked for.",
) -> str:
    """The whole page.

    Args:
        runs: The comparisons.
        folders: Where each lies; its ``models`` are read, if it has any.
        test: The test sessions; ``None``: none are shown.
        sessions: How many of them, spread evenly.
        missing: Why none are shown, where none are.
    """
    parts = []
    for run, folder in zip(runs, folders, strict=True):
        parts += [_head(run, folder), *_results(run), *_strata(run, folder)]
    parts.append(sessions_of(runs, folders, test, sessions, missing))
    parts += [_facts(run, folder) for run, folder in zip(runs, folders, strict=True)]
    names = " and ".join(dict.fromkeys(str(run.content["data"]["name"]) for run in runs))
    page = TEMPLATE.read_text(encoding="utf-8")
    return page.replace("{{title}}", escape(f"Comparison on {names}")).replace(
        "{{body}}", "\n".join(parts)
    )


def table_of(frame: pd.DataFrame, caption: str, *, name: str = "model") -> str:
    """A frame as a table whose columns sort; its index is the first column.

    A column ``x`` with ``x low`` and ``x high`` beside it becomes one cell with its interval.
    """
    columns = [str(c) for c in frame.columns]
    intervals = {c for c in columns if f"{c} low" in columns and f"{c} high" in columns}
    shown = [c for c in columns if c.rpartition(" ")[0] not in intervals]
    titles = [name, *shown]
    heads = [title.replace("_", " ") for title in titles]
    head = "".join(f"<th><button>{escape(title)}</button></th>" for title in heads)
    rows = []
    for label, row in zip(frame.index, frame.to_dict("records"), strict=True):
        cells = [f"<th>{escape(str(label))}</th>"]
        for column in shown:
            value = row[column]
            text, key = _text(value), _key(value)
            if column in intervals:
                low, high = row[f"{column} low"], row[f"{column} high"]
                if not (_missing(low) or _missing(high)):
                    text += f" <small>{_text(low)} to {_text(high)}</small>"
            cells.append(f"<td data-key='{key}'>{text}</td>")
        rows.append(f"<tr data-model='{escape(str(label), quote=True)}'>{''.join(cells)}</tr>")
    return (
        f"<div class='wide'><table class='sorts'><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def image_of(figure: Figure, says: str) -> str:
    """A figure as an image within the page; words stay words."""
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "graphseq"}):
        figure.savefig(file, format="svg", facecolor="white", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f"<img alt='{escape(says, quote=True)}' src='data:image/svg+xml;base64,{data}'>"


def _head(run: gs.Comparison, folder: Path) -> str:
    content = run.content
    told = [f"<code>{escape(str(content['command']))}</code>"]
    if content.get("created"):
        told.append(escape(str(content["created"])))
    ranking = content["protocol"].get("ranking")
    told += [escape(str(ranking))] if ranking else []
    said = "".join(f"<li>{escape(line)}</li>" for line in run.sentences()[:8])
    name = escape(f"{content['data']['name']} ({folder.name})")
    return f"<h2>{name}</h2><p>{'<br>'.join(told)}</p><ul>{said}</ul>"


def _results(run: gs.Comparison) -> Iterable[str]:
    frame = run.to_frame()
    named = [c for c in frame.columns if not c.endswith(" spread")]
    yield table_of(frame[named], "All models: means over seeds, with 95 % intervals")
    yield image_of(run.plot(), "Bars of all models with their intervals")
    tests = run.tests()
    if len(tests):
        wanted = ["against", "metric", "difference", "low", "high", "p_corrected"]
        by_pair = tests.set_index("model")[wanted]
        by_pair = by_pair.rename(columns={"low": "difference low", "high": "difference high"})
        yield table_of(by_pair, "Paired tests: model minus the one it stands against")
    rows = run.content["rows"]
    if all(row.get("train_seconds") is not None for row in rows):
        yield image_of(plot_cost(run.content, metric=run.monitor), "Quality against training time")
    curves = {
        f"{row['model']}, seed {row['seed']}": pd.DataFrame(row["history"])
        for row in rows
        if row.get("history")
    }
    if curves:
        yield "<h3>Learning curves</h3>"
        yield image_of(plot_learning_curves(curves), "Learning curves of all trained models")


def _strata(run: gs.Comparison, folder: Path) -> Iterable[str]:
    reports = {}
    for row in run.content["rows"]:
        path = _folder(folder, row) / "report.bin"
        if path.exists() and row["model"] not in reports:
            reports[row["model"]] = Report.load(path)
    if not reports:
        return
    yield "<h3>Strata</h3>"
    for by in STRATA:
        try:
            frames = {
                name: report.strata(by, metrics=[run.monitor]) for name, report in reports.items()
            }
        except ValueError as error:
            logger.info("Strata by %s are left out: %s", by, error)
            continue
        yield image_of(plot_strata(frames, run.monitor), f"{run.monitor} by {by}, with intervals")
        joined = pd.concat(frames, names=["model"]).reset_index(level=1)
        yield table_of(joined, f"{run.monitor} by {by}")


def sessions_of(
    runs: Sequence[gs.Comparison],
    folders: Sequence[Path],
    test: gs.Sessions | None,
    count: int,
    missing: str,
) -> str:
    """Test sessions, spread evenly, each with its graph, lists and attention of all models.

    Args:
        runs, folders, test, count, missing: As ``html_of`` takes them.
    """
    models: dict[str, gs.models.SessionModel] = {}
    for run, folder in zip(runs, folders, strict=True):
        for row in run.content["rows"]:
            if row["model"] not in models:
                found = _loaded(_folder(folder, row))
                models |= {} if found is None else {row["model"]: found}
    title = "<h2>Sessions</h2>"
    if test is None or not models:
        why = missing if test is None else "These runs hold no saved models."
        return f"{title}<p>{escape(why)}</p>"
    lengths = np.asarray(test.lengths)
    long_enough = np.flatnonzero(lengths >= 3)
    picked = long_enough[
        np.unique(np.linspace(0, len(long_enough) - 1, count).astype(int))
        if len(long_enough)
        else []
    ]
    parts = [title]
    labels = _labels(test)
    for number in picked.tolist():
        parts.append(_session(number, test, models, labels))
    return "\n".join(parts)


def _session(
    number: int,
    test: gs.Sessions,
    models: Mapping[str, gs.models.SessionModel],
    labels: Mapping[Any, str],
) -> str:
    whole = list(test[number])
    history, target = whole[:-1][-LONGEST:], whole[-1]
    names = pd.Index(history).unique()
    codes = names.get_indexer(history)
    graph = build_session_graphs(torch.from_numpy(codes), torch.tensor([0, len(codes)]))
    drawn = draw_session_graph(
        graph.get_example(0), labels=[labels.get(item, str(item)) for item in names]
    )
    columns = []
    for name, model in models.items():
        lines = []
        for item, score in model.recommend([history], k=LIST)[0]:
            mark = " class='hit'" if item == target else ""
            text = escape(labels.get(item, str(item)))
            lines.append(f"<li{mark}>{text} <small>{score:.3g}</small></li>")
        picture = ""
        try:
            attention_of(model, history)
        except ValueError:
            pass
        else:
            picture = image_of(_attention(model, history, labels), f"Attention of {name}")
        columns.append(
            f"<section data-model='{escape(name, quote=True)}'><h4>{escape(name)}</h4>"
            f"<ol>{''.join(lines)}</ol>{picture}</section>"
        )
    older = len(whole) - 1 - len(history)
    says = f"{len(whole) - 1} clicks" + (f", the newest {LONGEST} shown" if older > 0 else "")
    return (
        f"<article><h3>Session {number}: {says}</h3>"
        f"{image_of(drawn.figure.get_figure(root=True), f'Graph of session {number}')}"
        f"<p>next: <b>{escape(labels.get(target, str(target)))}</b></p>"
        f"<div class='beside'>{''.join(columns)}</div></article>"
    )


def _attention(
    model: gs.models.SessionModel, history: Sequence[Any], labels: Mapping[Any, str]
) -> Figure:
    ids = range(model.num_items) if model.catalog is None else model.catalog.items.ids
    names = [labels.get(item, str(item)) for item in ids]
    found = attention_of(model, history)
    if not found.layers:
        figure = draw_attention(model, history, labels=names).figure.get_figure(root=True)
    else:
        figure = new_figure(5.2, 4.4, constrained=True)
        draw_attention(model, history, labels=names, ax=figure.subplots())
    assert isinstance(figure, Figure)
    return figure


def _labels(test: gs.Sessions) -> dict[Any, str]:
    """Titles by item id, where the log has them."""
    table, ids = test.item_features, test.vocabulary.ids
    for column in ("title", "name"):
        if table is not None and column in table:
            named = table[column]
            return {i: str(t) for i, t in zip(ids, named, strict=True) if not pd.isna(t)}
    return {}


def _loaded(folder: Path) -> gs.models.SessionModel | None:
    for place in (folder, folder / "model"):
        try:
            model: gs.models.SessionModel = gs.load(place)
        except ValueError:
            continue
        return model
    return None


def _folder(folder: Path, row: Mapping[str, Any]) -> Path:
    folder = folder if folder.is_dir() else folder.parent
    return folder / "models" / f"{Entry(row['model'], '').slug}-seed{row['seed']}"


def _facts(run: gs.Comparison, folder: Path) -> str:
    """Settings, versions, machine, protocol and fingerprints, as they stand in the record."""
    content = run.content
    settings = {f"{row['model']}, seed {row['seed']}": row["settings"] for row in content["rows"]}
    kinds = {
        "settings": settings,
        "versions": content["versions"],
        "machine": content.get("machine", {}),
        "protocol": content["protocol"],
        "data and fingerprints": content["data"],
    }
    told = "".join(
        f"<details><summary>{escape(kind)}</summary><pre>"
        f"{escape(json.dumps(value, indent=2, ensure_ascii=False, default=str))}</pre></details>"
        for kind, value in kinds.items()
    )
    return f"<h2>How it was made: {escape(folder.name)}</h2>{told}"


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(value: Any) -> str:
    if _missing(value):
        return "-"
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return f"{int(value):,}"
    if isinstance(value, (float, np.floating)):
        value = float(value)
        if abs(value) >= 1000 or value.is_integer():
            return f"{value:,.0f}"
        return "below 0.0001" if 0 < value < 0.00005 else f"{value:.4f}"
    return escape(str(value))


def _key(value: Any) -> str:
    """What a column is sorted by: numbers by size, missing ones last."""
    if _missing(value):
        return ""
    if isinstance(value, (int, float, np.number)):
        return repr(float(value))
    return escape(str(value), quote=True)
