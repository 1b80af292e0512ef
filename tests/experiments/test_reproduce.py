"""Published tables: their files are complete, and the script sets ours beside theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import graphseq as gs
from experiments import reproduce
from experiments.lib.published import TABLES, audit_of, goal_of, published, side_by_side


@pytest.mark.parametrize("name", TABLES)
def test_published_table_names_source_and_choice_of_every_number(name: str) -> None:
    table = published(name)
    assert table["dataset"] in gs.data.DATASETS
    assert any(metric.endswith(table["monitor"]) for metric in table["metrics"])
    assert set(table.get("goal", table["metrics"])) == set(table["metrics"])
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
        "goal": {"hr@1": 1.0, "mrr@2": 1.25},
    }
    monkeypatch.setattr(reproduce, "published", lambda name: table)
    return table


def test_reproduce_sets_our_mean_beside_the_published_number(
    table: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--table", "beauty", "--seeds", "0", "--out", str(tmp_path / "out")]
    reproduce.main([*command, "--no-progress"])
    page = (tmp_path / "out" / "page.md").read_text().splitlines()
    markov, popularity, another, _, goal = page[2:]
    assert markov == (
        "| markov | 1 | - | 1.0000 ± 0.0000 / 1.0000 ± 0.0000 | 0.9000 / 0.9500 | yes | a paper "
        "| test |"
    )
    assert popularity.startswith("| popularity | 1 | - | ")
    assert popularity.endswith("| - | - | - | - |")
    assert another == "| another | - | - | not run here | 0.5000 / 0.6000 | - | a log | test |"
    assert goal == (
        "Goal of this project, hr@1 / mrr@2: 1.0000 / 1.2500. markov has 1.0000 / 1.0000: not "
        "reached (80.0 % of it)."
    )
    assert (tmp_path / "out" / "results.json").is_file()
    assert "markov 2.5" in capsys.readouterr().out


def test_reproduce_says_in_one_sentence_what_is_wrong(
    table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reproduce, "published", published)
        with pytest.raises(SystemExit, match=r"^There is no table 'beatuy': choose one of beauty,"):
            reproduce.main(["--table", "beatuy"])
    command = ["--table", "beauty", "--seeds", "0", "--out", str(tmp_path), "--no-progress"]
    reproduce.main(command)
    table["protocol"] = "gru4rec"
    with pytest.raises(SystemExit, match="holds results of another protocol"):
        reproduce.main([*command, "--resume"])
    train, test = gs.Sessions.from_lists([[0, 1]] * 3), gs.Sessions.from_lists([[0]])
    monkeypatch.setattr(gs, "load_split", lambda *arguments, **options: gs.fixed_split(train, test))
    with pytest.raises(SystemExit, match=r"^The test part has no target: none of its 1 sessions"):
        reproduce.main(command)


def test_reproduce_sets_the_precision_of_products_for_its_trainings(
    table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    command = ["--table", "beauty", "--seeds", "0", "--out", str(tmp_path), "--no-progress"]
    reproduce.main(command)
    reproduce.main([*command, "--matmul", "medium"])
    assert chosen == ["highest", "medium"]
    assert "--matmul medium" in gs.Comparison.load(tmp_path).content["command"]


def test_reproduce_takes_finished_rows_over_though_the_note_is_another(
    table: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = ["--table", "beauty", "--seeds", "0", "--out", str(tmp_path / "out")]
    reproduce.main([*command, "--models", "markov", "--no-progress"])
    settings = Path(table["dataset"])
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"note": "in other words"}))
    caplog.set_level("INFO")
    reproduce.main([*command, "--resume", "--no-progress"])
    assert "1 rows of" in caplog.text
    results = gs.Comparison.load(tmp_path / "out")
    assert set(results.models) == {"markov", "popularity"}
    assert results.content["protocol"]["note"] == "in other words"


def test_a_published_number_is_reached_within_one_standard_error() -> None:
    def row(model: str, value: float, half: float) -> dict[str, Any]:
        ends = [value - half, value + half]
        return {
            "model": model,
            "seed": 0,
            "metrics": {"hr@10": value},
            "intervals": {"hr@10": ends},
            **dict.fromkeys(("epochs", "train_seconds", "eval_seconds", "num_parameters"), 3),
        }

    rows = [row("a", 0.5, 0.196), row("b", 0.3, 0.0196)]
    content = {"monitor": "hr@10", "rows": rows, "protocol": {"ks": [10]}}
    lines = [
        {"line": "a", "hr@10": 0.599, "source": "a paper", "chosen": "test"},
        {"line": "b", "hr@10": 0.311, "source": "a log", "chosen": "validation"},
    ]
    table = {"metrics": ["hr@10"], "rows": lines, "goal": {"hr@10": 0.5}}
    first, second = side_by_side(content, table).splitlines()[2:]
    assert first == "| a | 1 | 3 | 0.5000 ± 0.1960 | 0.5990 | yes | a paper | test |"
    assert second == "| b | 1 | 3 | 0.3000 ± 0.0196 | 0.3110 | no | a log | validation |"
    assert goal_of(content, table) == (
        "Goal of this project, hr@10: 0.5000. a has 0.5000: reached."
    )


def test_page_tells_every_fault_of_the_audit() -> None:
    findings = [
        {"check": "core", "verdict": "fault", "says": "4 of 9 items."},
        {"check": "copies", "verdict": "note", "says": "0 of 3 sessions."},
    ]
    rows = [{"name": "a", "passed": False, "findings": findings}, {"name": "b", "passed": True}]
    assert audit_of("a", {"rows": rows}) == "Audit of the split: **refuted**. core: 4 of 9 items."


def test_cost_counts_minutes_of_all_seeds_and_names_rows_not_measured() -> None:
    said = reproduce.cost({"minutes": {"a": 2, "b": 0}}, ["a", "b", "c"], 3)
    assert said == (
        "About 6 minutes for 3 seeds on two cores (minutes per seed: a 2). Not measured yet: c."
    )
