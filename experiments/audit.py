"""Audits the splits of the data sets as the field uses them: ``python -m experiments.audit``."""

from __future__ import annotations

import argparse
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import graphseq as gs
from experiments.lib.arguments import Once, out_folder
from experiments.lib.results import command, said
from experiments.lib.tables import origin
from graphseq.comparison.record import machine, versions, write_json, write_text
from graphseq.data.datasets.registry import DATASETS
from graphseq.data.formats import readers

logger = logging.getLogger(__name__)

SEQUENCES = ("diginetica", "retailrocket")
"""Folders with ``all_train_seq.txt`` and ``test.txt``, as SR-GNN's preparation writes them."""


def published_sequences(folder: Path) -> gs.Split:
    """The split of two files of SR-GNN's preparation, its prefixes joined to sessions."""
    train = readers.read_published_pickle(folder / "all_train_seq.txt")
    return gs.fixed_split(train, readers.read_published_prefixes(folder / "test.txt"))


def splits(root: Path, names: list[str]) -> dict[str, Any]:
    """Name -> what makes the split, of all data sets or the named ones.

    Raises:
        ValueError: If there is no data set of a name.
    """
    found: dict[str, Any] = {name: lambda name=name: gs.load_split(name, root) for name in DATASETS}
    for name in SEQUENCES:
        if (root / name / "all_train_seq.txt").exists():
            found[f"{name} (all_train_seq)"] = lambda name=name: published_sequences(root / name)
    if unknown := [name for name in names if name not in found]:
        raise ValueError(f"There is no data set {unknown[0]!r} here; choose of {', '.join(found)}.")
    return {name: make for name, make in found.items() if not names or name in names}


def table(rows: list[dict[str, Any]]) -> str:
    """Data sets by checks: what each check says of each split."""
    lines = []
    for row in rows:
        verdict = "passed" if row["passed"] else "**refuted**"
        lines += [f"### {row['name']}", "", f"{verdict}, {row['seconds']:.1f} s", ""]
        lines += ["| check | verdict | what was found |", "| --- | --- | --- |"]
        for finding in row["findings"]:
            if finding["verdict"] != "unknown":
                lines.append(f"| {finding['check']} | {finding['verdict']} | {finding['says']} |")
        lines.append("")
    return "\n".join(lines)


def page(content: dict[str, Any]) -> str:
    """The findings as a page."""
    head = "# Audit of the field's splits\n\nWhat [`gs.evaluation.audit`](../evaluation.md#audit) "
    head += "finds; checks that a data set cannot answer, without times or ids, are left out.\n\n"
    return f"{head}{origin(content)}\n\n{table(content['rows'])}"


def audited(root: Path, names: list[str]) -> list[dict[str, Any]]:
    """The findings of each data set; one that was not named may be missing.

    Raises:
        ValueError: If a named one cannot be read, or none can.
    """
    rows: list[dict[str, Any]] = []
    for name, make in splits(root, names).items():
        start = time.perf_counter()
        try:
            found = gs.evaluation.audit(make())
        except (ValueError, OSError) as error:
            if names:
                raise
            logger.info("%s is left out: %s", name, error)
            continue
        seconds = round(time.perf_counter() - start, 2)
        rows.append({"name": name, "seconds": seconds, **found.to_dict()})
        logger.info("%s: %s", name, found)
    if not rows:
        raise ValueError(f"There is nothing to audit: {root} holds none of the data sets.")
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.audit", description=__doc__)
    parser.add_argument("--root", type=Path, default=os.environ.get("GRAPHSEQ_DATA"))
    parser.add_argument(
        "--datasets", nargs="*", action=Once, default=[], help="default: all that are there"
    )
    parser.add_argument("--out", type=out_folder, default=Path("runs/audit"))
    options = parser.parse_args(argv)
    if options.root is None:
        parser.error("say where the data sets are: --root, or the variable GRAPHSEQ_DATA")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with said():
        rows = audited(Path(options.root), options.datasets)
    content = {
        "command": command("experiments.audit", argv),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "rows": rows,
    }
    write_json(content, options.out / "audit.json")
    write_text(page(content), options.out / "audit.md")


if __name__ == "__main__":
    main()
