"""Fills the tables of README and docs from the committed JSON files.

A table is between ``<!-- table: FILE -->`` and ``<!-- end -->``; FILE is in docs/results.
``FILE brief`` has fewer tests, ``FILE only a; b`` these rows; ``FILE published`` has the published
numbers next to ours, the goal and the verdict of the audit. ``<!-- table: models -->`` is the table
of families, made from their classes. A study formats its own file.
"""

from __future__ import annotations

import argparse
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import graphseq as gs
from experiments.lib.published import TABLES, audit_of, goal_of, published, side_by_side

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "docs" / "results"
PAGES = (
    "README.md",
    "docs/evaluation.md",
    "docs/files.md",
    "docs/formats.md",
    "docs/howto/million_items.md",
    "docs/models/README.md",
    "docs/questions/README.md",
    "docs/questions/cold_start.md",
    "docs/questions/combine.md",
    "docs/questions/two_sided_attention.md",
    "docs/questions/session_or_user.md",
    "docs/questions/which_length.md",
    "docs/questions/which_metric.md",
    "docs/questions/which_model.md",
    "docs/questions/why_transformers.md",
    "docs/results/README.md",
    "docs/serving.md",
    "docs/results/budget.md",
    "docs/results/fusion.md",
    "docs/results/habits.md",
    *(f"docs/results/{name}.md" for name in TABLES),
    "docs/studies/causal.md",
    "docs/studies/augmentation.md",
    "docs/studies/scaling.md",
    "docs/studies/cold_items.md",
    "docs/studies/contrastive.md",
    "docs/studies/exploration.md",
    "docs/studies/graph_ablation.md",
    "docs/studies/hybrids.md",
    "docs/studies/language.md",
    "docs/studies/length_study.md",
    "docs/studies/losses.md",
    "docs/studies/linear_attention.md",
    "docs/studies/trending.md",
    "docs/studies/user.md",
)
TABLE = re.compile(
    r"(<!-- table: (\S+)( brief| published)?(?: only ([^>]+?))? -->\n).*?(<!-- end -->)", re.DOTALL
)


def part_of(content: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The rows of these models, or the rows of a benchmark with one of these words."""
    rows = [row for row in content["rows"] if any(name in row.values() for name in names)]
    if missing := [name for name in names if not any(name in row.values() for row in rows)]:
        raise ValueError(f"No row is of {missing[0]!r}: see the file.")
    kept = content | {"rows": rows}
    if "tests" in content:
        kept["tests"] = [
            test for test in content["tests"] if {test["model"], test["against"]} <= set(names)
        ]
    return kept


def study(content: dict[str, Any]) -> str:
    """The results of a study, as the study formats them."""
    module = import_module(f"experiments.studies.{content['study']}")
    return str(module.page(content))


def comparison(content: dict[str, Any], *, brief: bool = False) -> str:
    """The table of a ``results.json``, and the tests of its best model in words.

    ``brief``: only the tests of the metric that orders the table.
    """
    compared = gs.Comparison(content)
    said = [f"- {line}" for line in compared.sentences(compared.monitor if brief else None)]
    return "\n".join([compared.to_markdown(), *([""] if said else []), *said])


def beside_published(content: dict[str, Any], name: str, audits: dict[str, Any]) -> str:
    """The rows of a published table: ours next to theirs, the goal, and the audit of the split."""
    table = published(name)
    parts = [side_by_side(content, table)]
    if "goal" in table:
        parts.append(goal_of(content, table))
    return "\n\n".join([*parts, audit_of(table["dataset"], audits)])


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
    """The page of a family: its own, or a shared one, as for ``bst_ranker`` and ``bst``."""
    parts = name.split("_")
    stems = ["_".join(parts[:end]) for end in range(len(parts), 0, -1)]
    pages = [ROOT / "docs" / "models" / f"{stem}.md" for stem in stems]
    return next((page for page in pages if page.exists()), None)


def families() -> str:
    """The rows of ``gs.models.table()``, each name a link to its page."""
    frame = gs.models.table()
    head = ["name", *(str(column).replace("_", " ") for column in frame)]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for name, row in frame.iterrows():
        page = page_of(str(name))
        shown = f"`{name}`" if page is None else f"[`{name}`]({page.name})"
        lines.append(f"| {shown} | " + " | ".join(map(_cell, row)) + " |")
    return "\n".join(lines)


def origin(content: dict[str, Any]) -> str:
    """The command of a table, its machine and versions, and its note."""
    machine, versions = content["machine"], content["versions"]
    note = f" {content['note']}" if content.get("note") else ""
    return (
        f"`{content['command']}`, {content['created'][:10]}, {machine['processor']}, "
        f"{machine['threads']} threads, torch {versions['torch']}, "
        f"torch-geometric {versions['torch-geometric']}.{note}"
    )


def fill(page: str, folder: Path = RESULTS) -> str:
    """The page with every table regenerated from its file or, for the table of models, the
    classes."""

    def table(match: re.Match[str]) -> str:
        if match[2] == "models":
            return f"{match[1]}{families()}\n{match[5]}"
        content = json.loads((folder / match[2]).read_text())
        if match[4] is not None:
            content = part_of(content, [name.strip() for name in match[4].split(";")])
        if match[3] == " published":
            audits = json.loads((folder / "audit.json").read_text())
            body = beside_published(content, Path(match[2]).stem, audits)
        elif "study" in content:
            body = study(content)
        elif "protocol" in content:
            body = comparison(content, brief=match[3] is not None)
        else:
            body = benchmark(content)
        return f"{match[1]}{body}\n\n{origin(content)}\n{match[5]}"

    return TABLE.sub(table, page)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_cell(each)}" for name, each in value.items())
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
