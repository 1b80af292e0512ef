"""The study of one budget of time: when it ends, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import graphseq as gs
from experiments import budget


def test_training_ends_with_its_seconds_and_keeps_its_best_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = gs.session_split(gs.generate_sessions(200, 30, seed=0), 0.2, validation=0.2)
    monkeypatch.setattr(budget, "MARKS", (0.1, 0.5, 1.0))
    monkeypatch.setattr(budget, "part_of", lambda *arguments: split)
    families = ["popularity", "Markov", "SASRec"]
    command = ["--datasets", "uci-eshop", "tmall", "--families", *families]
    budget.main([*command, "--seconds", "0.2", "--out", str(tmp_path)])
    content = json.loads((tmp_path / "budget.json").read_text())
    assert {row["family"] for row in content["rows"]} == set(families)
    assert len(content["cells"]) == 6
    for cell in content["cells"]:
        if cell["family"] == "SASRec":
            used = [row["cpu_seconds"] for row in cell["curve"]]
            assert used == sorted(used)
            assert len(used) == len(budget.MARKS)
            assert cell["cpu_seconds"] >= 0.2
        else:
            assert len(cell["curve"]) == 1
    assert {path.name for path in tmp_path.glob("*.png")} == {"budget.png", "budget-ranks.png"}


def test_table_tells_ranks_and_the_time_to_most_of_the_best_score() -> None:
    def cell(
        data: str, family: str, score: float, *curve: tuple[float, float]
    ) -> dict[str, object]:
        rows = [{"cpu_seconds": seconds, "mrr@20": value} for seconds, value in curve]
        return {"data": data, "family": family, "mrr@20": score, "curve": rows, "ranking": 0.5}

    cells = [
        cell("one", "a", 0.30, (1.0, 0.10), (2.0, 0.29), (4.0, 0.30)),
        cell("one", "b", 0.20, (0.1, 0.20)),
        cell("two", "a", 0.10, (1.0, 0.09), (4.0, 0.10)),
        cell("two", "b", 0.08, (0.1, 0.095)),
    ]
    rows, found = budget.table(pd.DataFrame(cells))
    assert [row["family"] for row in rows] == ["a", "b"]
    first, second = rows
    assert (first["mean rank"], first["one"], first["two"]) == (1.0, 30.0, 10.0)
    assert (first["s to 95 % of its best"], first["reaches 95 % of the best"]) == (3.0, "2 of 2")
    assert (second["reaches 95 % of the best"], second["after s"]) == ("1 of 2", 0.1)
    assert found.num_datasets == 2
