"""The study of one budget of time: when it ends, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
    budget.main([*command, "--seconds", "0.2", "--seeds", "3", "5", "--out", str(tmp_path)])
    content = json.loads((tmp_path / "budget.json").read_text())
    assert {row["family"] for row in content["rows"]} == set(families)
    assert [(cell["family"], cell["seed"]) for cell in content["cells"]] == 2 * [
        ("popularity", 3),
        ("Markov", 3),
        ("SASRec", 3),
        ("SASRec", 5),
    ]
    for cell in content["cells"]:
        if cell["family"] == "SASRec":
            used = [row["cpu_seconds"] for row in cell["curve"]]
            assert used == sorted(used)
            assert len(used) == len(budget.MARKS)
            assert cell["cpu_seconds"] >= 0.2
        else:
            assert len(cell["curve"]) == 1
    assert {path.name for path in tmp_path.glob("*.png")} == {"budget.png", "budget-ranks.png"}


def test_counting_family_is_ranked_on_both_parts() -> None:
    split = gs.session_split(gs.generate_sessions(200, 30, seed=0), 0.2, validation=0.2)
    assert split.validation is not None
    cell = budget.run_cell(split, budget.FAMILIES["Markov"], 1.0, 0)
    model = gs.models.MODELS["markov"](split.num_items)
    gs.fit(model, split.train)
    test, validation = (gs.evaluate(model, part) for part in (split.test, split.validation))
    assert test.metrics != validation.metrics
    for metric in budget.METRICS:
        assert cell["metrics"][metric] == test.metrics[metric]
        assert cell["intervals"][metric] == list(test.confidence_interval(metric))
        assert cell["curve"][-1][metric] == validation.metrics[metric]


def test_budget_counts_training_alone_and_keeps_the_best_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = {"now": 0.0}
    scores = iter([0.1, 0.3, 0.2])
    monkeypatch.setattr(budget, "MARKS", (0.25, 0.5, 1.0))
    monkeypatch.setattr(budget, "time", SimpleNamespace(process_time=lambda: clock["now"]))

    def ranked(*arguments: Any, **options: Any) -> SimpleNamespace:
        clock["now"] += 1000.0  # of which nothing is of the budget
        return SimpleNamespace(metrics={"hr@20": 0.5, "mrr@20": next(scores)})

    monkeypatch.setattr(gs, "evaluate", ranked)
    state = {"step": [0]}  # which training changes in place
    model = SimpleNamespace(state_dict=lambda: state)
    callback = budget.Budget(model, None, 4.0)  # type: ignore[arg-type]
    trainer, module = SimpleNamespace(should_stop=False), SimpleNamespace(_settle=lambda: None)
    callback.on_train_start(trainer, module)  # type: ignore[arg-type]
    for step in range(4):
        assert not trainer.should_stop
        assert callback.share_left(step) == 1.0 - step / 4
        clock["now"] += 1.0
        state["step"][0] = step
        callback.on_train_batch_end(trainer, module)  # type: ignore[arg-type]
    assert trainer.should_stop
    assert callback.share_left(4) > 0  # a rate of zero is none
    assert [row["cpu_seconds"] for row in callback.curve] == [1.0, 2.0, 4.0]
    assert callback.best == {"step": [1]}  # which has 0.3


def test_few_validation_sessions_have_about_the_most_cases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = gs.Sessions.from_lists([[s, s + 1] for s in range(100)])
    monkeypatch.setattr(budget, "MOST_CASES", 25)
    part = budget.few(log)
    assert part.items[part.ptr[:-1]].tolist() == list(range(0, 100, 4))
    monkeypatch.setattr(budget, "MOST_CASES", 1000)
    assert budget.few(log).num_sessions == 100


def cell(
    data: str, family: str, score: float, *curve: tuple[float, float], seed: int = 0
) -> dict[str, object]:
    rows = [{"cpu_seconds": seconds, "mrr@20": value} for seconds, value in curve]
    about = {"data": data, "family": family, "seed": seed}
    return {**about, "mrr@20": score, "curve": rows, "ranking": 0.5}


def test_table_tells_ranks_and_the_time_to_most_of_the_best_score() -> None:
    cells = [
        cell("one", "a", 0.30, (1.0, 0.10), (2.0, 0.29), (4.0, 0.30), (5.0, 0.20)),
        cell("one", "b", 0.20, (0.5, 0.20)),
        cell("two", "a", 0.10, (1.0, 0.09), (4.0, 0.10)),
        cell("two", "b", 0.08, (0.1, 0.095)),
    ]
    rows, found = budget.table(pd.DataFrame(cells))
    assert [row["family"] for row in rows] == ["a", "b"]
    first, second = rows
    assert (first["mean rank"], first["one"], first["two"]) == (1.0, 30.0, 10.0)
    assert (first["s to 95 % of its best"], first["reaches 95 % of the best"]) == (3.0, "2 of 2")
    assert first["after s"] == 3.0
    assert second["s to 95 % of its best"] == 0.3
    assert (second["reaches 95 % of the best"], second["after s"]) == ("1 of 2", 0.1)
    assert found.num_datasets == 2
    assert "of single seeds" not in first
    assert {row["ms a ranking"] for row in rows} == {0.5}


def test_table_of_several_seeds_is_of_their_means() -> None:
    cells = [
        # Means on "one": a .30, b .28, c .26; with seed 1, b is before a.
        cell("one", "a", 0.36, (1.0, 0.42)),
        cell("one", "a", 0.24, (3.0, 0.36), seed=1),
        cell("one", "a", 0.30, (9.0, 0.12), seed=2),
        cell("one", "b", 0.28, (0.1, 0.29)),
        cell("one", "c", 0.26, (0.1, 0.20)),
        *(cell("two", "a", score, (1.0, 0.1), seed=seed) for seed, score in enumerate((3, 3, 3))),
        cell("two", "b", 0.2, (0.1, 0.2)),
        cell("two", "c", 0.1, (0.1, 0.1)),
    ]
    rows, _ = budget.table(pd.DataFrame(cells))
    first = rows[0]
    assert (first["family"], first["one"], first["mean rank"]) == ("a", 30.0, 1.0)
    # With seed 1, a is the last of three on "one", the first on "two".
    assert first["of single seeds"] == "1.00 to 2.00"
    # The best mean of peaks on "one" is a's .30: two of its three seeds reach 95 % of it, after 1
    # and 3 seconds and never, and on "two" none reaches b's .20.
    assert (first["reaches 95 % of the best"], first["after s"]) == ("1 of 2", 3.0)
    assert rows[2]["reaches 95 % of the best"] == "0 of 2"
    assert rows[2]["after s"] == "-"


def test_mean_curve_lies_between_the_marks_that_a_seed_passed() -> None:
    def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
        return [{"cpu_seconds": seconds, "mrr@20": value} for seconds, value in points]

    whole = curve((1.0, 0.1), (3.0, 0.2), (5.0, 0.4))
    passed = curve((1.0, 0.3), (5.0, 0.5))  # at 3 s between them: 0.4
    assert budget.mean_curve([whole]) == [(1.0, 10.0), (3.0, 20.0), (5.0, 40.0)]
    found = budget.mean_curve([passed, whole])
    assert [seconds for seconds, _ in found] == [1.0, 3.0, 5.0]
    assert [score for _, score in found] == pytest.approx([20.0, 30.0, 45.0])


def test_cells_of_another_run_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = gs.session_split(gs.generate_sessions(200, 30, seed=0), 0.2, validation=0.2)
    monkeypatch.setattr(budget, "MARKS", (0.5, 1.0))
    monkeypatch.setattr(budget, "part_of", lambda *arguments: split)
    command = ["--datasets", "tmall", "--families", "Markov", "SASRec", "--out", str(tmp_path)]
    budget.main([*command, "--seconds", "0.1"])
    with pytest.raises(SystemExit, match=r"sasrec-0.json is of seconds=0.1, not 0.2: cells of"):
        budget.main([*command, "--seconds", "0.2"])
    with pytest.raises(SystemExit, match=r"sasrec-0.json is of settings="):
        budget.main([*command, "--seconds", "0.1", "--learning-rate", "0.5"])
    budget.main([*command, "--seconds", "0.1"])
