"""The one form in which every comparison writes what it found; tables and plots come from it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from graphseq.comparison.entries import Entry
from graphseq.data.splits import Split
from graphseq.evaluation.report import Report
from graphseq.models.base import SessionModel
from graphseq.training.fit import FitResult

FORMAT = 1
"""Version of the form of ``results.json``."""

PACKAGES = ("torch", "torch-geometric", "pytorch-lightning", "numpy", "scipy", "pandas")


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    named = {name: _version(name) for name in ("graphseq", *PACKAGES)}
    return {"python": platform.python_version(), **named}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # graphseq itself, in a checkout that was not installed
        return "unknown"


def machine() -> dict[str, Any]:
    """What computed the numbers: processor, cores, threads, memory."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory, 1),
        "system": platform.system(),
    }


def record(
    command: str, name: str, split: Split, ks: tuple[int, ...], exclude_seen: bool, note: str
) -> dict[str, Any]:
    """The content of a ``results.json`` without a row yet."""
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    fingerprints = {part: s.fingerprint() for part, s in parts.items() if s is not None}
    if split.train.item_features is not None:
        fingerprints["item_features"] = _digest(split.train.item_features)
    return {
        "format": FORMAT,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "data": {
            "name": name,
            "fingerprint": fingerprints,
            "statistics": json.loads(split.report.to_json(orient="index")),
        },
        "protocol": {
            **split.protocol,
            "ranking": "all items of training; ties share their places; unknown targets miss",
            "exclude_seen": exclude_seen,
            "ks": list(ks),
            "note": note,
        },
        "rows": [],
        "tests": [],
    }


def _digest(table: pd.DataFrame) -> str:
    rows = pd.util.hash_pandas_object(table.astype(str), index=False).to_numpy()
    return hashlib.sha256(repr(list(table)).encode() + rows.tobytes()).hexdigest()


def row_of(
    entry: Entry, seed: int, model: SessionModel, fitted: FitResult, report: Report
) -> dict[str, Any]:
    """One row of ``results.json``."""
    return {
        "model": entry.name,
        "settings": entry.settings,
        "seed": seed,
        "metrics": report.metrics,
        "intervals": intervals(report, report.metrics),
        "train_seconds": round(fitted.seconds, 3),
        "eval_seconds": round(report.seconds, 3),
        "epochs": fitted.best_epoch,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "history": json.loads(fitted.history.to_json(orient="records")),
    }


def intervals(report: Report, metrics: Iterable[str]) -> dict[str, list[float]]:
    """Both ends of each interval, but where one cluster tells nothing of the spread."""
    ends = {name: list(report.confidence_interval(name)) for name in metrics}
    return {name: pair for name, pair in ends.items() if all(map(math.isfinite, pair))}


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Writes to a temporary name and renames, so that no half of a file is taken for whole."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_text(text, path)


def write_text(text: str, path: Path) -> None:
    """Writes a file whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_results(content: Mapping[str, Any], folder: Path) -> None:
    """Writes ``results.json``, and its rows without what is nested as ``results.csv``."""
    write_json(content, folder / "results.json")
    flat = [
        {key: value for key, value in row.items() if not isinstance(value, (dict, list))}
        | row["metrics"]
        for row in content["rows"]
    ]
    write_text(pd.DataFrame(flat).to_csv(index=False), folder / "results.csv")


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a ``results.json``, or of the one in a folder.

    Raises:
        ValueError: If there is none, or it is of another form.
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        absent = {"data", "protocol", "versions", "rows"} - set(content)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no results: {error}.") from error
    if absent or content.get("format", FORMAT) != FORMAT:
        lack = f"lacks {', '.join(sorted(absent))}" if absent else "is of another form"
        raise ValueError(f"{path} {lack}: it was written by another version, choose another file.")
    assert isinstance(content, dict)
    return content
