"""The command line: runs on a log outside the repository, and reports errors in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import graphseq as gs
from graphseq.commands import describe, main
from graphseq.commands.logs import split_of

ROOT = Path(__file__).resolve().parents[2]

COLUMNS = ["--session", "sid", "--item", "sku", "--time", "ts"]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 200 walks around a ring, one session per hour."""
    rows = [
        {
            "sid": f"s{s}",
            "sku": f"A{(s + i) % 9}",
            "uid": s % 20,
            "ts": pd.Timestamp("2024-01-01") + pd.Timedelta(hours=s, seconds=40 * i),
            "shelf": "odd" if (s + i) % 2 else "even",
        }
        for s in range(200)
        for i in range(3 + s % 3)
    ]
    path = tmp_path_factory.mktemp("elsewhere") / "clicks.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_command_outside_the_repository_ends_with_one_sentence_and_code_2(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "graphseq", "describe", "clicks.csv"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("graphseq: There is no file clicks.csv, and no data set of that")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "LOG"], "'item_id'; it has 'sid', 'sku'"),
        (["describe", "LOG", "--user", "uid", "--item", "sku"], "pass --time"),
        (["describe", "LOG", *COLUMNS, "--gap", "1h"], "--gap cuts a user's clicks"),
        (["describe", "uci-eshop", "--item", "x"], "its columns are known: leave out --item"),
        (["compare", "LOG", *COLUMNS, "--models", "srgn"], "no model 'srgn': choose from"),
        (["compare", "LOG", *COLUMNS, "--test", "2"], "pass --split"),
        (
            ["compare", "LOG", *COLUMNS, "--split", "last", "--test", "1.5"],
            "share of them below 1, got 1.5",
        ),
        (["compare", "uci-eshop", "--test", "2"], "--test goes with --split"),
        (["recommend", "nowhere", "LOG", *COLUMNS], "nowhere"),
        (["recommend", "nowhere", "LOG", *COLUMNS, "--to", "x.json"], "got x.json"),
        (["tune", "LOG", *COLUMNS, "--model", "popularity"], "has no predefined search space"),
    ],
)
def test_command_what_is_wrong_is_one_sentence(
    arguments: list[str], message: str, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(log) if a == "LOG" else a for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()[-1:]
    assert line.startswith("graphseq: ")
    assert message in line
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("command", [[], ["describe"], ["compare"], ["tune"], ["recommend"]])
def test_command_help_has_an_example(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert "graphseq " in capsys.readouterr().out.partition("example")[2]


def test_describe_tells_figures_and_models(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(log), *COLUMNS, "--user", "uid"]) == 0
    out = capsys.readouterr().out
    figures = dict(line.split(maxsplit=1) for line in out.split("\n\n")[0].splitlines())
    assert (figures["sessions"], figures["items"], figures["users"]) == ("200", "9", "20")
    assert "1. caser: " in out


def test_describe_users_without_sessions_are_cut_by_the_pause(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = [str(log), "--user", "uid", "--item", "sku", "--time", "ts"]
    for gap, sessions in ((["--gap", "none"], 20), ([], 200), (["--gap", "30s"], 799)):
        assert main(["describe", *users, *gap]) == 0
        assert f"sessions              {sessions}\n" in capsys.readouterr().out


def test_compare_then_recommend_on_a_log_of_ones_own(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    models = ["--models", "popularity", "markov"]
    assert main(["compare", str(log), *COLUMNS, *models, "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("| model | HR@20 |")
    assert "markov beats popularity by " in captured.out
    assert "markov, seed 0: hr@20 1.0000" in captured.err
    content = json.loads((out / "results.json").read_text())
    assert content["data"]["name"] == "clicks.csv"
    assert content["command"].startswith("graphseq compare ")
    assert content["protocol"]["split"] == "temporal"
    assert content["data"]["statistics"]["test"]["sessions"] == 20
    assert content["data"]["statistics"]["validation"]["sessions"] == 18
    assert "booktabs" in (out / "table.tex").read_text()
    assert (out / "comparison.png").stat().st_size > 5_000

    assert main(["recommend", str(out), str(log), *COLUMNS, "-k", "2"]) == 0
    frame = pd.read_csv(StringIO(capsys.readouterr().out))
    assert list(frame) == ["session_id", "rank", "item_id", "score", "fallback"]
    assert frame["rank"].tolist()[:2] == [1, 2]
    first = frame[frame["rank"] == 1].set_index("session_id")["item_id"]
    assert first["s0"] == "A3"  # A0 A1 A2 ->
    assert first["s199"] == "A5"  # A1 A2 A3 A4 ->
    target = tmp_path / "next.parquet"
    markov = str(out / "models" / "markov-seed0" / "model")
    assert main(["recommend", markov, str(log), *COLUMNS, "-k", "2", "--to", str(target)]) == 0
    pd.testing.assert_frame_equal(pd.read_parquet(target), frame)

    served = gs.serving.Recommender(gs.load(markov), filters={"exclude": ["A3"]})
    served.save(tmp_path / "served")
    assert main(["recommend", str(tmp_path / "served"), str(log), *COLUMNS, "-k", "2"]) == 0
    filtered = pd.read_csv(StringIO(capsys.readouterr().out))
    assert list(filtered) == list(frame)
    assert "A3" not in set(filtered["item_id"])


def test_compare_resumes_with_the_lines_it_had(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", str(log), *COLUMNS, "--out", str(tmp_path)]
    assert main([*command, "--models", "markov"]) == 0
    before = json.loads((tmp_path / "results.json").read_text())
    capsys.readouterr()
    assert main([*command, "--resume"]) == 0
    assert "1 rows of" in capsys.readouterr().err
    after = json.loads((tmp_path / "results.json").read_text())
    assert after["rows"] == before["rows"]


def test_tune_writes_settings_that_compare_reads(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tune"
    command = ["tune", str(log), *COLUMNS, "--model", "markov", "--trials", "2"]
    assert main([*command, "--out", str(out)]) == 0
    assert "Best of 2 trials on the validation part of clicks.csv" in capsys.readouterr().out
    best = str(out / "best.json")
    command = ["compare", str(log), *COLUMNS, "--settings", best, "--out", str(tmp_path / "out")]
    assert main(command) == 0
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["model"] for row in content["rows"]] == ["markov"]
    chosen = json.loads(Path(best).read_text())["models"][0]["arguments"]
    assert content["rows"][0]["settings"]["arguments"] == chosen


# -- splits --------------------------------------------------------------------------------------


def test_split_of_a_log_is_what_suits_it() -> None:
    lists = [[s % 7, (s + 1) % 7, (s + 2) % 7] for s in range(100)]
    untimed = gs.Sessions.from_lists(lists)
    assert split_of(untimed, None, None, None).protocol["split"] == "session"
    frame = pd.DataFrame(
        {
            "session_id": np.repeat(np.arange(100), 3),
            "item_id": np.ravel(lists),
            "time": np.repeat(np.arange(100) * 3_600, 3) + np.tile([0, 60, 120], 100),
        }
    )
    timed = gs.Sessions.from_frame(frame, time="time")
    newest = split_of(timed, None, None, None)
    assert newest.protocol["split"] == "temporal"
    parts = (newest.train, newest.validation, newest.test)
    assert [part.num_sessions for part in parts if part is not None] == [81, 9, 10]
    days = split_of(timed, "temporal", 1.0, None)
    assert days.test.num_sessions == 25
    last = split_of(timed, "last", 1, None)
    assert last.protocol == {"split": "leave_last", "n": 1, "validation": 1}
    assert split_of(timed, "last", 0.4, None).protocol["n"] == 0.4
    shares = split_of(timed, "sessions", 0.2, 0.1)
    assert (shares.test.num_sessions, shares.train.num_sessions) == (20, 72)
    slow = frame.assign(time=frame["time"] + np.tile([0, 2e5, 4e5], 100))
    histories = gs.Sessions.from_frame(slow, time="time")
    assert split_of(histories, None, None, None).protocol["split"] == "leave_last"
    with pytest.raises(ValueError, match="needs the time of each click: pass --time"):
        split_of(untimed, "temporal", None, None)


# -- ways that end early -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "LOG", "--session", "sid"], "no column 'item_id'; it has 'sid', 'sku'"),
        (
            ["describe", "LOG", "--session", "sid"],
            "name its columns with --session, --item",
        ),
        (["describe", "LOG", "--session", "sid", "--item", "sku", "--time", "when"], "'when'"),
        (["compare", "LOG", "--session", "sid", "--item", "sku", "--split", "temporal"], "--time"),
        (
            ["compare", "LOG", *COLUMNS, "--models", "markov", "nope"],
            "no model 'nope': choose from",
        ),
        (["compare", "LOG", *COLUMNS, "--models", "markov", "--out", "FILE"], "FILE cannot be"),
        (["tune", "LOG", *COLUMNS, "--model", "gru4rec", "--out", "FILE"], "FILE cannot be"),
        (["compare", "LOG", *COLUMNS, "--split", "sessions", "--test", "2"], "test_fraction is a"),
        (["compare", "LOG", *COLUMNS, "--split", "temporal", "--test", "-1"], "test_days"),
        (
            ["compare", "LOG", *COLUMNS, "--split", "temporal", "--test", "1", "--validation", "0"],
            "validation is a positive number of days",
        ),
        (["compare", "LOG", *COLUMNS, "--split", "last", "--test", "inf"], "n is a number of"),
        (["compare", "movielens-small", "--validation", "inf"], "validation is a number of"),
        (["describe", "LOG", *COLUMNS, "--measure", "--minutes", "-1"], "minutes must be positive"),
    ],
)
def test_command_that_cannot_go_on_says_so_in_one_sentence(
    arguments: list[str],
    message: str,
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "FILE").touch()
    paths = {"LOG": str(log), "FILE": str(tmp_path / "FILE")}
    assert main([paths.get(argument, argument) for argument in arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("graphseq: ")
    assert message in line
    assert not list(tmp_path.glob("FILE/*"))


@pytest.mark.parametrize(
    ("options", "split", "targets"),
    [
        (["--split", "temporal", "--test", "1", "--validation", "0.5"], "temporal", None),
        (["--split", "last", "--test", "1"], "leave_last", 200),
        (["--split", "last", "--test", "0.5"], "leave_last", None),
        (["--split", "sessions", "--test", "0.2"], "session", None),
    ],
)
def test_compare_by_every_split(
    options: list[str],
    split: str,
    targets: int | None,
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = ["--models", "popularity", "--out", str(tmp_path)]
    assert main(["compare", str(log), *COLUMNS, *options, *models]) == 0
    assert capsys.readouterr().out.startswith("| model |")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["protocol"]["split"] == split
    if targets is not None:
        assert content["data"]["statistics"]["test"]["targets"] == targets


def test_command_stopped_by_ctrl_c_ends_with_code_130_and_no_traceback(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(describe, "describe", stop)
    assert main(["describe", str(log), *COLUMNS]) == 130
    captured = capsys.readouterr()
    assert captured.err == "Stopped.\n"
    assert captured.out == ""
