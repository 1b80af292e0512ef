"""The table of published kinds of files, and the page of all readers, keep their word."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pandas as pd
import pytest

import graphseq as gs
from experiments.file_kinds import KINDS, Kind, read
from graphseq.data.formats import readers

DOCS = Path(__file__).parent.parent.parent / "docs"
READERS = re.findall(
    r"^\| (.+?) \| `(\w+\(.+?\))` \| (.+) \|$",
    (DOCS / "formats.md").read_text().split("<!-- readers -->")[1].split("<!-- end -->")[0],
    re.MULTILINE,
)

EXPECTED: dict[str, list[list[int | str]]] = {
    "read_session_lines": [[5, 3, 5], [7, 3]],
    "read_user_lines": [["5", "3", "5"], ["7", "3"]],  # since users are text, so are all ids
    "read_pairs": [[1193, 914], [661]],
    "read_published_pickle": [[5, 3, 5], [7, 3]],
    "read_published_prefixes": [[5, 3, 5], [7, 3]],
    "read_clicks": [[214536502]],
    "read_inter": [[242]],
    "read_recbole_split": [[5, 3, 5]],
    "read_diginetica_views": [[81766]],
    "read_uci_eshop": [["A13"]],
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kind_its_call_gives_what_is_counted_without_graphseq(kind: Kind, tmp_path: Path) -> None:
    path = kind.make(tmp_path)
    assert read(kind, path) == kind.count(path)


def test_kinds_table_has_all_of_them_with_equal_counts_and_no_glue_but_once() -> None:
    rows = json.loads((DOCS / "results" / "file_kinds.json").read_text())["rows"]
    assert [row["file"] for row in rows] == [kind.name for kind in KINDS]
    for row, kind in zip(rows, KINDS, strict=True):
        assert kind.call in row["call"]
        for counted in ("sessions", "clicks", "items"):
            assert row[counted] == row[f"pandas_{counted}"] > 0, kind.name
    assert sum(row["lines_of_glue"] for row in rows) == 1


def test_page_of_readers_names_every_one_with_an_example() -> None:
    assert {call.partition("(")[0] for _, call, _ in READERS} == set(readers.__all__)


@pytest.mark.parametrize(("form", "call", "example"), READERS, ids=[row[0] for row in READERS])
def test_page_of_readers_calls_read_their_examples(
    form: str, call: str, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"`(.+?)`", example)
    for name in re.findall(r'"([\w.-]+\.\w+)"', call):
        if example.endswith(", pickled"):
            Path(name).write_bytes(pickle.dumps(eval(lines[0]), 2))
        else:
            Path(name).write_text("\n".join(lines) + "\n")
    found = eval(call, {name: getattr(readers, name) for name in readers.__all__})
    if isinstance(found, pd.DataFrame):
        assert found.iloc[0].tolist() == [1, "Toy Story", 1995]
    else:
        sessions = found.train if isinstance(found, gs.Split) else found
        assert sessions.to_lists() == EXPECTED[call.partition("(")[0]], form
