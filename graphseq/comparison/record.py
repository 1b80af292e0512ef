"""The file format of all comparisons; tables and plots are made from it."""

from __future__ import annotations

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
from graphseq.data.sessions.fingerprint import table_fingerprint
from graphseq.data.splits.splits import Split
from graphseq.data.storage import documents
from graphseq.data.storage.rules import (
    Rule,
    absent_or,
    anything,
    check_record,
    list_of,
    mapping_of,
    number,
    text,
    whole,
)
from graphseq.data.storage.rules import record as record_of
from graphseq.evaluation.protocol import Protocol
from graphseq.evaluation.report import Report, verdict_of
from graphseq.models.base import SessionModel
from graphseq.training.fit import FitResult

FORMAT, FORMAT_VERSION = "graphseq.results", 1
"""The format name of a ``results.json``."""

RULES: dict[str, Rule] = {
    "command": text(),
    "versions": mapping_of(text()),
    "data": mapping_of(anything()),
    "protocol": mapping_of(anything()),
    "rows": list_of(
        record_of(
            {
                "model": text(),
                "settings": mapping_of(anything()),
                "seed": whole(),
                "metrics": mapping_of(number()),
                "intervals": absent_or(mapping_of(list_of(number()))),
                **dict.fromkeys(("epochs", "num_parameters"), absent_or(number(0))),
                **dict.fromkeys(("train_seconds", "eval_seconds"), absent_or(number(0))),
            }
        )
    ),
    "tests": absent_or(list_of(mapping_of(anything()))),
}
"""The rules that a ``results.json`` is checked against: the numbers of tables and plots."""

PACKAGES = ("torch", "torch-geometric", "pytorch-lightning", "numpy", "scipy", "pandas")


def versions() -> dict[str, str]:
    """Versions of the software that computed the numbers."""
    named = {name: _version(name) for name in ("graphseq", *PACKAGES)}
    return {"python": platform.python_version(), **named}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # graphseq itself, in a checkout that is not installed
        return "unknown"


def machine() -> dict[str, Any]:
    """The machine that computed the numbers: processor, cores, threads, memory."""
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
    command: str, name: str, split: Split, ks: tuple[int, ...], protocol: Protocol, note: str
) -> dict[str, Any]:
    """The content of a ``results.json`` without rows."""
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    fingerprints = {part: s.fingerprint() for part, s in parts.items() if s is not None}
    if split.train.item_features is not None:
        fingerprints["item_features"] = table_fingerprint(split.train.item_features)
    return {
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
            "ranking": _ranking(protocol),
            "exclude_seen": protocol.seen == "remove",
            "evaluation": protocol.to_dict(),
            "ks": list(ks),
            "note": note,
        },
        "rows": [],
        "tests": [],
    }


def rules_of(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol of a record without its note: words for the reader, by which no row changes."""
    return {key: value for key, value in protocol.items() if key != "note"}


def _ranking(protocol: Protocol) -> str:
    """The protocol of the ranking in words, for the reader of the file."""
    among = "all items of training"
    if protocol.sampled:
        among = f"sampled: {protocol.candidates} drawn items ({protocol.sampling}) and the target"
    ties = {
        "expected": "ties share their places",
        "optimistic": "a tied target is first",
        "pessimistic": "a tied target is last",
    }[protocol.ties]
    return f"{among}; {ties}; unknown targets miss"


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
        "audit": None if report.audit is None else verdict_of(report.audit),
        "epochs": fitted.best_epoch,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "history": json.loads(fitted.history.to_json(orient="records")),
    }


def intervals(report: Report, metrics: Iterable[str]) -> dict[str, list[float]]:
    """Both ends of each interval, except if there is only one cluster."""
    ends = {name: list(report.confidence_interval(name)) for name in metrics}
    return {name: pair for name, pair in ends.items() if all(map(math.isfinite, pair))}


def writable(folder: Path) -> Path:
    """Creates the folder of results and checks it before hours of training.

    Raises:
        ValueError: If it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"The folder of results {folder} cannot be written to ({error.strerror}): choose "
            "another out."
        ) from error
    return folder


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Writes a JSON file atomically; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    documents.write_json(content, path)


def write_text(text: str, path: Path) -> None:
    """Writes a text file atomically; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with documents.replacing_file(path) as file:
        file.write(text.encode())


def write_results(content: Mapping[str, Any], folder: Path) -> None:
    """Writes ``results.json`` with its checksum, and its flattened rows as ``results.csv``."""
    write_json(documents.seal(content, FORMAT, FORMAT_VERSION), folder / "results.json")
    flat = [
        {key: value for key, value in row.items() if not isinstance(value, (dict, list))}
        | row["metrics"]
        for row in content["rows"]
    ]
    write_text(pd.DataFrame(flat).to_csv(index=False), folder / "results.csv")


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a ``results.json``, or the one in a folder.

    Files of graphseq 0.1, which state no format, are read without a checksum.

    Raises:
        ValueError: If there is none, it has another format, is damaged, or a field breaks its rule.
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    content = documents.read_json(path)
    if isinstance(content, dict) and not {"format", "version", "checksum"} & set(content):
        return check_record(content, RULES, str(path))
    return documents.unseal(content, FORMAT, FORMAT_VERSION, RULES, path, "graphseq.compare")
