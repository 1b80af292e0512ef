"""The rolling study: periods of one log, three ways, and what each has seen when it is tested."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import graphseq as gs
from experiments import rolling


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> gs.Sessions:
    """A ring that has moved on by two items in each of five periods."""
    lists = [
        [(s % 5 + 2 * period + step) % 50 for step in range(3)]
        for period in range(5)
        for s in range(12)
    ]
    sessions = gs.Sessions.from_lists(lists)
    monkeypatch.setattr(gs, "load_dataset", lambda *arguments: sessions)
    return sessions


@pytest.mark.parametrize("model", ["markov", "gru4rec"])
def test_rolling_study_tests_every_way_on_every_later_period(
    model: str, log: gs.Sessions, tmp_path: Path
) -> None:
    command = ["--dataset", "ml-100k", "--models", model, "--periods", "5", "--first", "3"]
    rolling.main([*command, "--epochs", "2", "--more-epochs", "1", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [(row["period"], row["model"]) for row in rows] == [
        (period, way) for period in (4, 5) for way in rolling.WAYS
    ]
    assert {row["targets"] for row in rows} == {24}
    first, later = rows[:3], rows[3:]
    assert len({json.dumps(row["metrics"]) for row in first}) == 1  # one model, three names
    grown, again, kept = (row["items"] for row in later)
    assert grown == again == kept + 2
    unknown = [row["unknown_targets"] for row in later]
    assert unknown[0] == unknown[1] < unknown[2]
    assert (tmp_path / "rolling.png").stat().st_size > 0
    assert [row["train_seconds"] for row in later][2] == 0.0
    if model == "markov":  # counted again either way
        assert later[0]["metrics"] == later[1]["metrics"]
        assert {row["epochs"] for row in rows} == {0}
    else:
        assert [row["epochs"] for row in rows] == [2, 2, 2, 1, 2, 2]


def two_lines(folder: Path, **more: object) -> list[str]:
    """Options that name a settings file of two lines of one family."""
    lines = [{"name": name, "model": "markov"} for name in ("one", "other")]
    (folder / "mine.json").write_text(json.dumps({"models": lines, **more}))
    return ["--dataset", "ml-100k", "--settings", str(folder / "mine.json")]


def test_cut_offs_of_a_settings_file_are_those_of_the_study(
    log: gs.Sessions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*two_lines(tmp_path, ks=[1, 2]), "--models", "one", "--periods", "5"]
    rolling.main([*command, "--first", "4", "--out", str(tmp_path)])
    assert "mrr@2 " in capsys.readouterr().out
    assert (tmp_path / "rolling.png").stat().st_size > 0


def test_log_is_cut_to_the_newest_sessions(
    log: gs.Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = np.repeat(np.random.default_rng(0).permutation(log.num_sessions), 3).astype(float)
    timed = gs.data.Sessions(log.items, log.ptr, log.vocabulary, time=times)
    monkeypatch.setattr(gs, "load_dataset", lambda *arguments: timed)
    options = ["--dataset", "ml-100k", "--sessions", "7"]
    newest = rolling.read_log(rolling.arguments().parse_args(options))
    assert newest.time is not None
    assert newest.time[::3].tolist() == list(range(53, 60))
    assert rolling.read_log(rolling.arguments().parse_args(options[:2])) is timed


def test_a_study_without_a_period_to_test_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"first must be below periods=10, got 10"):
        rolling.main(["--first", "10"])


@pytest.mark.parametrize("replay", ["-1", "nan", "inf"])
def test_a_number_of_old_sessions_is_finite_and_not_negative(replay: str) -> None:
    with pytest.raises(SystemExit, match=r"--replay is a finite number of at least 0, got "):
        rolling.main(["--replay", replay])


def test_a_family_of_two_lines_and_a_folder_without_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^'markov' stands for one, other: name one of them"):
        rolling.main([*two_lines(tmp_path), "--models", "markov"])
    with pytest.raises(SystemExit, match="ml-100k"):
        rolling.main([*two_lines(tmp_path), "--models", "one", "--root", str(tmp_path)])
