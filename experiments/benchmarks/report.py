"""What every benchmark prints and writes: machine, versions, data, and one row a measurement."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import graphseq as gs
from experiments.lib.results import command
from graphseq.comparison.record import machine, versions, write_json


class Benchmark:
    """Rows of a benchmark, and what they were measured on."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    @classmethod
    def start(
        cls,
        module: str,
        argv: list[str] | None,
        dataset: str | None = None,
        sessions: gs.Sessions | None = None,
    ) -> Benchmark:
        content: dict[str, Any] = {
            "command": command(module, argv),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "machine": machine(),
        }
        if sessions is not None:
            content["data"] = {
                "name": dataset or "generated",
                "fingerprint": sessions.fingerprint(),
                "sessions": sessions.num_sessions,
                "clicks": sessions.num_clicks,
                "items": sessions.num_items,
            }
        content["rows"] = []
        return cls(content)

    def add(self, **row: Any) -> None:
        self.content["rows"].append(row)

    def write(self, path: Path) -> None:
        """Writes the JSON as far as it is, so that a long run that ends early is not lost."""
        write_json(self.content, path)

    def finish(self, path: Path) -> None:
        """Writes the JSON, then shows machine and rows."""
        self.write(path)
        console = Console()
        console.print({k: v for k, v in self.content.items() if k != "rows"})
        tables: dict[tuple[str, ...], Table] = {}
        for row in self.content["rows"]:
            table = tables.setdefault(tuple(row), Table(*row))
            table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()))
        for table in tables.values():
            console.print(table)
        console.print(str(path))
