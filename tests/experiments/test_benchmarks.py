"""The benchmarks of all families: what they count, what their rows say, what they write."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import graphseq as gs
from experiments.benchmarks import (
    against_recbole,
    bigdata,
    families,
    interruption,
    knn_memory,
    matmul_precision,
    replacing,
    time_to_quality,
)
from experiments.lib.tables import benchmark as table_of
from graphseq.models import MODELS, CountingModel, SessionModel

SMALL = {"hidden_channels": 8, "max_length": 50}


@pytest.fixture(scope="module")
def sessions() -> gs.Sessions:
    return gs.generate_sessions(120, 60, mean_length=4.0, seed=0)


@pytest.mark.parametrize("name", ["srgnn", "gru4rec"])
@pytest.mark.parametrize("loss", families.TRAINED_BY)
def test_training_of_all_sessions_counts_every_target_once_an_epoch(
    sessions: gs.Sessions, name: str, loss: str
) -> None:
    model = families.build_model(name, sessions.num_items, **SMALL)
    done = families.train(model, sessions, loss, batch_size=32, steps=1000, repeats=2)
    assert done.steps * done.targets_a_step == pytest.approx(sessions.num_targets)
    assert len(done.speeds) == 2
    assert 0 < done.data_share < 1
    assert done.optimizer == "adam"


@pytest.mark.parametrize(
    "name", [name for name, f in MODELS.items() if not issubclass(f, CountingModel)]
)
def test_every_neural_family_can_be_measured(sessions: gs.Sessions, name: str) -> None:
    model = families.build_model(name, sessions.num_items, 100, 50)
    (*_, loss) = families.losses_of(MODELS[name], families.TRAINED_BY)
    done = families.train(model, sessions, loss, batch_size=64, steps=1, repeats=1)
    assert done.targets_a_step > 0
    (speed,) = families.rank(model, families.last_targets(sessions), repeats=1, seconds=0.01)
    assert speed > 0


def test_counting_leaves_dataset_and_model_as_they_were(sessions: gs.Sessions) -> None:
    build = gs.SessionGraphDataset.batch
    model = families.build_model("gru4rec", sessions.num_items, **SMALL)
    with families.counting(model):
        assert gs.SessionGraphDataset.batch is not build
    assert gs.SessionGraphDataset.batch is build
    assert "training_rows" not in vars(model)


@pytest.mark.parametrize(("name", "samples"), [("srgnn", "prefixes"), ("gru4rec", "sessions")])
def test_enough_sessions_fill_the_steps_and_no_more(
    sessions: gs.Sessions, name: str, samples: str
) -> None:
    model = families.build_model(name, sessions.num_items, **SMALL)
    part = families.enough_sessions(model, sessions, steps=3, batch_size=16)
    number = len(gs.SessionGraphDataset(part, samples))  # type: ignore[arg-type]
    assert 48 - int(sessions.lengths.max()) < number <= 48


def test_last_targets_are_one_a_session(sessions: gs.Sessions) -> None:
    test = families.last_targets(sessions)
    assert test.num_targets == test.num_sessions == int((sessions.lengths > 1).sum())
    assert test.vocabulary == sessions.vocabulary


def test_item_tables_are_counted() -> None:
    model = families.build_model("gru4rec", 50, **SMALL)
    separate = families.build_model("gru4rec", 50, **SMALL, embedding="separate")
    assert families.item_tables(model) == 1
    assert families.item_tables(separate) == 2


def test_rows_of_a_run_name_their_columns(tmp_path: Path) -> None:
    size = ["--sessions", "60", "--items", "50", "--hidden-channels", "8", "--batch-size", "32"]
    run = ["--families", "srgnn", "--steps", "1", "--repeats", "1", "--note", "A test."]
    families.main([*size, *run, "--out", str(tmp_path)])
    content = json.loads((tmp_path / "families.json").read_text())
    sampled, exact, ranking = content["rows"]
    assert [sampled["loss"], exact["loss"]] == ["sampled", "exact"]
    for row, speed in (
        (sampled, "targets_a_second"),
        (exact, "targets_a_second"),
        (ranking, "sessions_a_second"),
    ):
        assert row["family"] == "srgnn"
        assert row[speed] > 0
        assert row["range"][0] <= row[speed] <= row["range"][1]
        assert row["repeats"] == 1
    for row, speed in ((exact, "targets_a_second"), (ranking, "sessions_a_second")):
        assert row["share_of_bound"] == pytest.approx(row[speed] / row["bound"], abs=0.01)
    assert content["note"] == "A test."
    assert table_of(content).count("| srgnn |") == 3


def test_memory_row_tells_optimizer_and_peak() -> None:
    options = families.argparse.Namespace(
        threads=1, hidden_channels=8, max_length=50, batch_size=64
    )
    row = families.memory_row("gru4rec", "sampled", 100, options)
    assert row["optimizer"] == "adam"
    assert row["item_tables"] == 1
    assert row["steps"] == 2
    assert row["peak_gb"] >= row["before_the_model_gb"] > 0


@pytest.mark.parametrize("name", [name for name in against_recbole.PAIRS if name in MODELS])
def test_models_of_the_comparison_can_be_built(name: str) -> None:
    pair = against_recbole.PAIRS[name]
    model = families.build_model(name, 40, 100, 50, **pair.ours)
    assert isinstance(model, SessionModel)
    assert all(model.settings[key] == value for key, value in pair.ours.items())


def test_atomic_files_hold_the_same_clicks(sessions: gs.Sessions, tmp_path: Path) -> None:
    against_recbole.write_atomic(sessions, tmp_path)
    rows = np.loadtxt(tmp_path / "sessions" / "sessions.inter", skiprows=1)
    assert rows[:, 0].tolist() == sessions.session_index.tolist()
    assert rows[:, 1].tolist() == sessions.items.tolist()
    assert (np.diff(rows[:, 2]) > 0).all()
    lines = (tmp_path / "sessions" / "sessions.item").read_text().split()
    assert lines == ["item_id:token", *map(str, range(sessions.num_items))]


def test_peers_get_every_prefix_of_the_sessions_that_they_can_read() -> None:
    sessions = gs.Sessions.from_lists([[3, 1, 3], [5], [2, 4]])
    frame, targets = time_to_quality.prefixes(sessions)
    read = [list(rows) for _, rows in frame.groupby("case")["item_id"]]
    assert read == [[0], [0, 1], [3]]  # codes in the order of the first visit
    assert targets.tolist() == [1, 0, 4]
    split = gs.fixed_split(sessions, gs.Sessions.from_lists([[3, 9], [2, 5], [8]]))
    kept = time_to_quality.readable(split.test)
    assert kept.num_sessions == 1
    assert (np.asarray(kept.items) >= 0).all()


def test_a_peer_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = tmp_path / "side.py"
    monkeypatch.setattr(time_to_quality, "SIDES", side)
    side.write_text("import json, sys; print(json.dumps(sys.argv[1])); print('{}')")
    said = time_to_quality.run_peer(Path(sys.executable), "recbole", [], 0.1, 1.0, tmp_path, 0)
    assert said == ["recbole", {}]
    side.write_text("raise SystemExit('no such package')")
    with pytest.raises(SystemExit, match=r"rectools failed:\n.*no such package"):
        time_to_quality.run_peer(Path(sys.executable), "rectools", [], 0.1, 1.0, tmp_path, 0)


@pytest.mark.parametrize("text", [False, True])
def test_generated_log_becomes_sessions_of_which_some_lie_in_two_files(
    tmp_path: Path, text: bool
) -> None:
    bigdata.write_log(tmp_path / "log", 3000, 200, days=3, text=text)
    assert bigdata.convert(tmp_path / "log", tmp_path / "out")["meanwhile_gb"] == 0
    sessions = gs.Sessions.open(tmp_path / "out")
    files = sorted((tmp_path / "log").iterdir())
    assert bigdata.convert_in_memory(files)["clicks_in_memory"] == sessions.num_clicks
    assert sessions.num_clicks == pytest.approx(3000, rel=0.15)
    assert sessions.lengths.mean() == pytest.approx(bigdata.MEAN_LENGTH, rel=0.15)
    assert sessions.time is not None
    days = (sessions.time - sessions.time.min()) // bigdata.DAY
    assert (days[sessions.ptr[1:] - 1] > days[sessions.ptr[:-1]]).any()
    read = bigdata.read_batches(tmp_path / "out", "prefixes", 2, cold=True, verify=True)
    assert read["samples_in_all"] == sessions.num_targets


def test_states_are_the_same_to_the_last_bit_or_not_at_all() -> None:
    state = {"a": torch.ones(3), "rows": [{"loss": 0.5, "seconds": 1.0}], "seconds": 2.0}
    later = {"a": torch.ones(3), "rows": [{"loss": 0.5, "seconds": 9.0}], "seconds": 3.0}
    assert interruption.same(state, later)
    bit = {**state, "a": torch.ones(3).nextafter(torch.full((3,), 2.0))}
    assert not interruption.same(state, bit)
    assert not interruption.same(state, {**state, "rows": [{"loss": 0.25, "seconds": 1.0}]})
    assert not interruption.same(state, {**state, "rows": []})


@pytest.mark.parametrize("case", knn_memory.CASES)
def test_knn_memory_row_holds_what_the_model_found_and_more_memory_than_before(
    case: str, sessions: gs.Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn_memory, "parts", lambda data, root: (sessions, sessions))
    row = knn_memory.measure(case, None)
    name, arguments, call, _ = knn_memory.CASES[case]
    model = MODELS[name](sessions.num_items, **arguments).fit_counts(sessions)  # type: ignore[attr-defined]
    if call == "evaluate":
        assert row["mrr_or_mean_score"] == round(gs.evaluate(model, sessions).metrics["mrr"], 6)
    assert row["peak_gb"] >= row["before_the_call_gb"] > 0
    assert row["mrr_or_mean_score"] > 0


def test_knn_memory_of_a_long_user_is_asked_for_its_last_targets() -> None:
    train, user = knn_memory.parts(knn_memory.LONG_USER, None)
    assert len(np.unique(user.items)) == user.num_clicks == 4000
    assert user.num_targets == 256
    assert user.vocabulary == train.vocabulary


@pytest.mark.parametrize("name", replacing.NAMES)
def test_what_a_replaced_folder_holds_is_told_by_weights_and_ids(tmp_path: Path, name: str) -> None:
    other = next(each for each in replacing.NAMES if each != name)
    replacing.log_of(name).save(tmp_path / "log")
    assert replacing.log_found(tmp_path / "log") == name
    model = replacing.model_of(name)
    model.save(tmp_path / "model")
    assert replacing.model_found(tmp_path / "model") == name
    model.attach(replacing.log_of(other).catalog())
    model.save(tmp_path / "model")
    assert replacing.tally(replacing.model_found, tmp_path / "model", 2) == {"mixture": 2}
    assert replacing.tally(replacing.log_found, tmp_path / "none", 3) == {"error": 3}


def test_precisions_of_products_take_turns_and_the_default_comes_back(tmp_path: Path) -> None:
    small = [
        "--items",
        "50",
        "--rows",
        "9",
        "--channels",
        "8",
        "--sessions",
        "40",
        "--repeats",
        "1",
    ]
    matmul_precision.main([*small, "--out", str(tmp_path)])
    assert torch.get_float32_matmul_precision() == "highest"
    rows = json.loads((tmp_path / "matmul_precision.json").read_text())["rows"]
    assert [row["precision"] for row in rows] == ["highest", "medium"] * 4
    exact = [row["error"] for row in rows if row["precision"] == "highest"]
    assert all(0 < error < 1e-6 for error in exact[:3])
    assert exact[3] == 0
    assert matmul_precision.distance(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 5.0])) == (
        pytest.approx(10**0.5 / 5)
    )
