"""Offline scoring: what ``recommend`` answers, shard by shard, and no shard twice."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import Future
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import graphseq as gs
from graphseq.commands import main
from graphseq.serving import Recommender, score_log
from graphseq.serving import scoring as module


@pytest.fixture(scope="module")
def saved(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("scoring") / "recommender"
    Recommender(world.neural, index="exact").save(folder)
    return folder


def test_files_together_are_the_frame_of_recommend(world: Any, saved: Path, tmp_path: Path) -> None:
    log = gs.Sessions.from_lists([*world.lists[:40], ["nobody knows this"]])
    done = score_log(saved, log, tmp_path / "out", k=7, exclude_seen=True, sessions_per_shard=9)
    assert (done.sessions, done.shards, done.scored) == (41, 5, 5)
    wanted = gs.load(saved).recommend(log, 7, exclude_seen=True, as_frame=True)
    pd.testing.assert_frame_equal(pd.read_parquet(done.folder), wanted, rtol=1e-5)
    assert wanted["session_id"].nunique() == 41
    assert wanted["fallback"].sum() == 7


def test_sessions_keep_their_names_and_a_model_answers_as_it_does(
    world: Any, tmp_path: Path
) -> None:
    world.counting.save(tmp_path / "model")
    frame = pd.DataFrame({"session_id": list("zzyxxx"), "item_id": ["i1", "i2", "i3"] * 2})
    log = gs.Sessions.from_frame(frame)
    done = score_log(tmp_path / "model", log, tmp_path / "out", k=3, sessions_per_shard=1)
    found = pd.read_parquet(done.folder)
    wanted = world.counting.recommend(log, 3, as_frame=True)
    pd.testing.assert_frame_equal(found, wanted)
    assert found["session_id"].unique().tolist() == ["z", "y", "x"]


def test_stopped_run_goes_on_and_scores_no_shard_twice(
    world: Any, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = gs.Sessions.from_lists(world.lists[:50])
    scored: list[int] = []
    score = module._score

    def dying(answers: Any, shard: Any, *rest: Any) -> None:
        if shard.number == 3:
            raise KeyboardInterrupt
        scored.append(shard.number)
        score(answers, shard, *rest)

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(module, "_score", dying)
        with pytest.raises(KeyboardInterrupt):
            score_log(saved, log, out, sessions_per_shard=10, client=None)
    assert scored == [0, 1, 2]
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert len(before) == 3
    done = score_log(saved, log, out, sessions_per_shard=10)
    assert (done.shards, done.scored) == (5, 2)
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert {name: after[name] for name in before} == before
    wanted = gs.load(saved).recommend(log, as_frame=True)
    pd.testing.assert_frame_equal(pd.read_parquet(out), wanted, rtol=1e-5)
    assert score_log(saved, log, out, sessions_per_shard=10).scored == 0


class Elsewhere:
    """Runs tasks as a worker in another process gets them: as bytes."""

    def submit(self, task: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(pickle.loads(pickle.dumps(task))())
        return done


def test_other_processes_and_shards_of_a_log_give_the_same_rows(
    world: Any, saved: Path, tmp_path: Path
) -> None:
    log = gs.Sessions.from_lists(world.lists[:30])
    there = score_log(saved, log, tmp_path / "out", sessions_per_shard=15, client=Elsewhere())
    wanted = gs.load(saved).recommend(log, as_frame=True)
    pd.testing.assert_frame_equal(pd.read_parquet(there.folder), wanted, rtol=1e-5)
    frame = log.to_frame()
    gs.data.build_shards(frame, tmp_path / "shards", 2)
    shards = gs.data.Shards(tmp_path / "shards")
    done = score_log(saved, shards, tmp_path / "two", sessions_per_shard=100)
    assert (done.sessions, done.shards) == (30, 2)
    again = score_log(saved, shards, tmp_path / "three", sessions_per_shard=100, client=Elsewhere())
    pd.testing.assert_frame_equal(pd.read_parquet(again.folder), pd.read_parquet(done.folder))
    found = pd.read_parquet(done.folder).sort_values(["session_id", "rank"], ignore_index=True)
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-5)


def test_folder_of_another_run_is_refused(world: Any, saved: Path, tmp_path: Path) -> None:
    log, out = gs.Sessions.from_lists(world.lists[:4]), tmp_path / "out"
    score_log(saved, log, out, k=3)
    with pytest.raises(ValueError, match=r"holds answers with k=3, and this run has 4: name anoth"):
        score_log(saved, log, out, k=4)
    with pytest.raises(ValueError, match="answers with sessions="):
        score_log(saved, gs.Sessions.from_lists(world.lists[:5]), out, k=3)
    world.counting.save(tmp_path / "other")
    with pytest.raises(ValueError, match="answers with model_version="):
        score_log(tmp_path / "other", log, out, k=3)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files: name a new folder"):
        score_log(saved, log, tmp_path / "full")
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        score_log(saved, log, tmp_path / "none", k=0)
    assert not (tmp_path / "none").exists()


def test_answers_of_before_a_change_of_filters_or_of_delisted_items_are_not_kept(
    world: Any, tmp_path: Path
) -> None:
    log, model, folder = gs.Sessions.from_lists(world.lists[:4]), deepcopy(world.neural), tmp_path
    Recommender(model).save(folder / "r")
    done = score_log(folder / "r", log, folder / "0", k=3, client=Elsewhere())
    shown = pd.read_parquet(done.folder)["item_id"].iloc[0]
    Recommender(model, filters={"exclude": [shown]}).save(folder / "r")
    with pytest.raises(ValueError, match="answers with checksum="):
        score_log(folder / "r", log, folder / "0", k=3)
    done = score_log(folder / "r", log, folder / "1", k=3, client=Elsewhere())
    assert shown not in set(pd.read_parquet(done.folder)["item_id"])
    model.save(folder / "m")
    assert score_log(folder / "m", log, folder / "2", k=3).scored == 1
    model.delist([shown])
    model.save(folder / "m")
    with pytest.raises(ValueError, match="answers with checksum="):
        score_log(folder / "m", log, folder / "2", k=3)


def test_command_scores_a_log_and_says_what_it_did(
    world: Any, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gs.Sessions.from_lists(world.lists[:12]).to_frame().to_csv(tmp_path / "log.csv", index=False)
    argv = ["score", str(tmp_path / "log.csv"), str(saved), "--out", str(tmp_path / "out")]
    assert main([*argv, "-k", "2", "--shard", "5"]) == 0
    assert "12 sessions in 3 shards, 3 of them scored now" in capsys.readouterr().out
    assert len(pd.read_parquet(tmp_path / "out")) == 24
    assert main([*argv, "-k", "2", "--shard", "5"]) == 0
    assert "0 of them scored now" in capsys.readouterr().out
    assert main([*argv, "-k", "3", "--shard", "5"]) == 2
