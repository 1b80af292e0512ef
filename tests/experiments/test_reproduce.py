"""Published tables: their files are complete, and the script sets ours beside theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import graphseq as gs
from experiments import reproduce


@pytest.mark.parametrize("name", reproduce.TABLES)
def test_published_table_names_source_and_choice_of_every_number(name: str) -> None:
    table = reproduce.published(name)
    assert table["dataset"] in gs.data.DATASETS
    assert any(metric.endswith(table["monitor"]) for metric in table["metrics"])
    lines = [row["line"] for row in table["rows"]]
    assert len(set(lines)) == len(lines)
    for row in table["rows"]:
        assert row["source"], row
        assert row["chosen"] in ("validation", "test", "nothing to choose", "not said"), row
        assert all(0 < row[metric] < 1 for metric in table["metrics"]), row


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A table of two counted rows, on a log of rings."""
    lists = [[(start + step) % 7 for step in range(4)] for start in range(30)]
    split = gs.leave_last_split(gs.Sessions.from_lists(lists), 1, validation=1)
    monkeypatch.setattr(gs, "load_split", lambda *arguments, **options: split)
    settings = tmp_path / "settings.json"
    lines = [{"name": name, "model": name} for name in ("markov", "popularity")]
    settings.write_text(json.dumps({"ks": [1, 2], "models": lines}))
    table = {
        "dataset": str(settings),
        "metrics": ["hr@1", "mrr@2"],
        "monitor": "mrr@2",
        "protocol": "leave-one-out",
        "validation": 1,
        "cluster": "session",
        "minutes": {"markov": 2.5},
        "rows": [
            {"line": "markov", "hr@1": 0.9, "mrr@2": 0.95, "source": "a paper", "chosen": "test"},
            {"line": "another", "hr@1": 0.5, "mrr@2": 0.6, "source": "a log", "chosen": "test"},
        ],
    }
    monkeypatch.setattr(reproduce, "published", lambda name: table)
    return table


def test_reproduce_sets_our_mean_beside_the_published_number(
    table: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--table", "beauty", "--seeds", "0", "--out", str(tmp_path / "out")]
    reproduce.main([*command, "--no-progress"])
    page = (tmp_path / "out" / "page.md").read_text().splitlines()
    markov, popularity, another = page[2:]
    assert markov.startswith("| markov | 1.0000 ± 0.0000 / 1.0000 ± 0.0000 | 0.9000 / 0.9500 |")
    assert popularity.startswith("| popularity | ")
    assert popularity.endswith("| - | - | - |")
    assert another == "| another | not run here | 0.5000 / 0.6000 | a log | test |"
    assert (tmp_path / "out" / "results.json").is_file()
    assert "markov 2.5" in capsys.readouterr().out


def test_cost_counts_minutes_of_all_seeds_and_names_rows_not_measured() -> None:
    said = reproduce.cost({"minutes": {"a": 2, "b": 0}}, ["a", "b", "c"], 3)
    assert said == (
        "About 6 minutes for 3 seeds on two cores (minutes per seed: a 2). Not measured yet: c."
    )
