"""The one form in which every experiment writes what it found; tables and plots come from it."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

import graphseq as gs
from experiments.protocol import Entry, Protocol

PACKAGES = ("torch", "torch-geometric", "pytorch-lightning", "numpy", "scipy", "pandas")


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    named = {name: version(name) for name in PACKAGES}
    return {"graphseq": gs.__version__, "python": platform.python_version(), **named}


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


def command(module: str, argv: list[str] | None) -> str:
    """The command line that makes the same file again."""
    return f"python -m {module} {shlex.join(sys.argv[1:] if argv is None else argv)}".strip()


def write_json(content: dict[str, Any], path: Path) -> None:
    """Writes to a temporary name and renames, so that no half of a file is taken for whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    temporary.replace(path)


class Results:
    """``results.json`` and ``results.csv``, written anew after every row.

    Args:
        out: Folder of both.
        content: The content so far.
    """

    def __init__(self, out: Path, content: dict[str, Any]) -> None:
        self.path = out / "results.json"
        self.content = content

    @classmethod
    def start(
        cls, out: Path, command: str, dataset: str, split: gs.Split, protocol: Protocol
    ) -> Results:
        """Results without a row yet, of this data under this protocol."""
        parts = {"train": split.train, "validation": split.validation, "test": split.test}
        content = {
            "command": command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "machine": machine(),
            "data": {
                "name": dataset,
                "fingerprint": {k: v.fingerprint() for k, v in parts.items() if v is not None},
                "statistics": json.loads(split.report.to_json(orient="index")),
            },
            "protocol": {
                **split.protocol,
                "ranking": "all items of training; ties share their places; unknown targets miss",
                "exclude_seen": protocol.exclude_seen,
                "ks": list(protocol.ks),
                "note": protocol.note,
            },
            "rows": [],
            "tests": [],
        }
        return cls(out, content)

    def resume(self) -> None:
        """Takes over the rows of the file that is there, if it is of the same data and protocol."""
        if not self.path.exists():
            return
        before = json.loads(self.path.read_text())
        if any(before[key] != self.content[key] for key in ("data", "protocol", "versions")):
            raise SystemExit(
                f"{self.path} is of other data, another protocol or other versions: choose another "
                "--out or leave --resume away."
            )
        self.content |= {key: before[key] for key in ("created", "rows", "tests")}

    def has(self, entry: Entry, seed: int) -> bool:
        """Whether the row is there already, with the same settings."""
        return any(
            row["model"] == entry.name and row["seed"] == seed and row["settings"] == entry.settings
            for row in self.content["rows"]
        )

    def add(self, row: dict[str, Any], tests: list[dict[str, Any]]) -> None:
        self.content["rows"].append(row)
        self.content["tests"] += tests
        self.write()

    def write(self) -> None:
        """Writes both files anew."""
        write_json(self.content, self.path)
        flat = [
            {key: value for key, value in row.items() if not isinstance(value, dict)}
            | row["metrics"]
            for row in self.content["rows"]
        ]
        temporary = self.path.with_name(".results.csv.part")
        pd.DataFrame(flat).to_csv(temporary, index=False)
        temporary.replace(self.path.with_suffix(".csv"))


def row_of(
    entry: Entry,
    seed: int,
    model: gs.models.SessionModel,
    fitted: Any,
    report: gs.evaluation.Report,
) -> dict[str, Any]:
    """One row of ``results.json``."""
    return {
        "model": entry.name,
        "settings": entry.settings,
        "seed": seed,
        "metrics": report.metrics,
        "intervals": {name: list(report.confidence_interval(name)) for name in report.metrics},
        "train_seconds": round(fitted.seconds, 3),
        "eval_seconds": round(report.seconds, 3),
        "epochs": fitted.best_epoch,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "history": json.loads(fitted.history.to_json(orient="records")),
    }


def paired_tests(
    name: str, report: gs.evaluation.Report, others: dict[str, gs.evaluation.Report], metric: str
) -> list[dict[str, Any]]:
    """Paired tests, clustered by session, of one model against others."""
    tests = []
    for other, theirs in others.items():
        test = report.compare(theirs, metric)
        tests.append(
            {"model": name, "against": other, "metric": metric}
            | {"difference": test.difference, "p_value": test.p_value}
        )
    return tests


def print_table(content: dict[str, Any]) -> None:
    """The table of a ``results.json``, in per cent, means over seeds, best first."""
    ks = content["protocol"]["ks"]
    metrics = [f"{name}@{ks[-1]}" for name in ("hr", "mrr", "ndcg")]
    by_model: dict[str, list[dict[str, Any]]] = {}
    for row in content["rows"]:
        by_model.setdefault(row["model"], []).append(row)

    def mean(rows: list[dict[str, Any]], *keys: str) -> float:
        values = [row[keys[0]] if len(keys) == 1 else row[keys[0]][keys[1]] for row in rows]
        return float(np.mean(values))

    main = f"mrr@{ks[-1]}"
    table = Table(
        title=f"{content['data']['name']}: {_cases(content)} test cases, all items ranked"
    )
    table.add_column("model")
    for name in (*metrics, f"95 % of {main}", "training", "ranking", "epochs", "parameters"):
        table.add_column(name, justify="right")
    for name, rows in sorted(by_model.items(), key=lambda item: -mean(item[1], "metrics", main)):
        low, high = (np.mean([row["intervals"][main][i] for row in rows]) for i in (0, 1))
        table.add_row(
            name if len(rows) == 1 else f"{name} ({len(rows)} {repeated(rows)})",
            *(f"{100 * mean(rows, 'metrics', metric):.2f}" for metric in metrics),
            f"{100 * low:.2f}-{100 * high:.2f}",
            f"{mean(rows, 'train_seconds'):.1f} s",
            f"{mean(rows, 'eval_seconds'):.1f} s",
            f"{mean(rows, 'epochs'):.0f}",
            f"{mean(rows, 'num_parameters'):,.0f}",
        )
    Console(width=max(100, Console().width)).print(table)


def repeated(rows: list[dict[str, Any]]) -> str:
    """What several rows of one model are."""
    return "periods" if "period" in rows[0] else "seeds"


def _cases(content: dict[str, Any]) -> str:
    return f"{content['data']['statistics']['test']['targets']:,}"
