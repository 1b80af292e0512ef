"""Fills the tables of README and docs from the committed JSON files, so that none is typed.

A table stands between ``<!-- table: FILE -->`` (``FILE brief``: fewer tests) and ``<!-- end -->``;
FILE lies in docs/results.
``<!-- table: models -->`` is that of the families, made from their classes.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import graphseq as gs

ROOT = Path(__file__).parent.parent.parent
PAGES = (
    "README.md",
    "docs/evaluation.md",
    "docs/files.md",
    "docs/formats.md",
    "docs/models/README.md",
    "docs/results/README.md",
)
TABLE = re.compile(r"(<!-- table: (\S+)( brief)? -->\n).*?(<!-- end -->)", re.DOTALL)


def comparison(content: dict[str, Any], *, brief: bool = False) -> str:
    """The table of a ``results.json``, and the tests of the model that leads it in words.

    ``brief``: the tests of the metric that orders the table alone.
    """
    compared = gs.Comparison(content)
    said = [f"- {line}" for line in compared.sentences(compared.monitor if brief else None)]
    return "\n".join([compared.to_markdown(), *([""] if said else []), *said])


def benchmark(content: dict[str, Any]) -> str:
    """The rows of a benchmark; those with the same columns share a table."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in content["rows"]:
        groups.setdefault(tuple(row), []).append(row)
    tables = []
    for columns, rows in groups.items():
        head = [name.replace("_", " ") for name in columns]
        lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
        lines += ["| " + " | ".join(map(_cell, row.values())) + " |" for row in rows]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def page_of(name: str) -> Path | None:
    """The page of a family: its own, or the one it shares, as ``bst_ranker`` does with ``bst``."""
    parts = name.split("_")
    stems = ["_".join(parts[:end]) for end in range(len(parts), 0, -1)]
    pages = [ROOT / "docs" / "models" / f"{stem}.md" for stem in stems]
    return next((page for page in pages if page.exists()), None)


def families() -> str:
    """The rows of ``gs.models.table()``, each name a link to its page."""
    frame = gs.models.table()
    head = ["name", *(column.replace("_", " ") for column in frame)]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for name, row in frame.iterrows():
        page = page_of(str(name))
        shown = f"`{name}`" if page is None else f"[`{name}`]({page.name})"
        lines.append(f"| {shown} | " + " | ".join(map(_cell, row)) + " |")
    return "\n".join(lines)


def origin(content: dict[str, Any]) -> str:
    """The command behind a table, the machine and versions it ran on, and what to know of it."""
    machine, versions = content["machine"], content["versions"]
    note = f" {content['note']}" if content.get("note") else ""
    return (
        f"`{content['command']}`, {content['created'][:10]}, {machine['processor']}, "
        f"{machine['threads']} threads, torch {versions['torch']}, "
        f"torch-geometric {versions['torch-geometric']}.{note}"
    )


def fill(page: str, folder: Path = ROOT / "docs" / "results") -> str:
    """The page with every table made again from its file or, that of the models, the classes."""

    def table(match: re.Match[str]) -> str:
        if match[2] == "models":
            return f"{match[1]}{families()}\n{match[4]}"
        content = json.loads((folder / match[2]).read_text())
        brief = match[3] is not None
        body = comparison(content, brief=brief) if "protocol" in content else benchmark(content)
        return f"{match[1]}{body}\n\n{origin(content)}\n{match[4]}"

    return TABLE.sub(table, page)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.lib.tables", description=__doc__)
    parser.parse_args(argv)
    for name in PAGES:
        path = ROOT / name
        page = path.read_text()
        filled = fill(page)
        if filled != page:
            path.write_text(filled)
            print(f"filled {name}")


if __name__ == "__main__":
    main()
