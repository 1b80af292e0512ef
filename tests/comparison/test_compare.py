"""Comparisons: which models run once, the tests, the contents of the folder, and reuse of rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.comparison import Comparison, Entry, Settings
from graphseq.evaluation import Protocol
from graphseq.evaluation.model_audit import audit_where_possible

SASREC = ("sasrec", {"hidden_channels": 4, "max_epochs": 2, "batch_size": 16})


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every training run: family and seed."""
    runs: list[tuple[str, int]] = []
    comparing = import_module("graphseq.comparison.compare")
    real = comparing.fit

    def counted(model: gs.models.SessionModel, *args: Any, **options: Any) -> Any:
        runs.append((type(model).__name__, options["seed"]))
        return real(model, *args, **options)

    monkeypatch.setattr(comparing, "fit", counted)
    return runs


def run(ring: gs.Split, models: Any, **options: Any) -> Comparison:
    return gs.compare(ring, models, progress=False, **options)


def test_compare_counts_once_and_trains_once_a_seed(
    ring: gs.Split, fitted: list[tuple[str, int]]
) -> None:
    comparison = run(ring, ["markov", SASREC], seeds=[3, 1])
    assert fitted == [("MarkovChain", 3), ("SASRec", 3), ("SASRec", 1)]
    assert comparison.models == ["markov", "sasrec"]
    frame = comparison.to_frame()
    assert frame["seeds"].tolist() == [1, 2]
    rows = [row["metrics"]["mrr@20"] for row in comparison.content["rows"][1:]]
    assert frame.loc["sasrec", "mrr@20"] == np.mean(rows)
    assert frame.loc["sasrec", "mrr@20 spread"] == pytest.approx(np.std(rows, ddof=1))
    assert np.isnan(frame.loc["markov", "mrr@20 spread"])
    assert frame.loc["markov", "mrr@20"] == 1.0


def test_compare_row_is_that_of_fit_and_evaluate(ring: gs.Split) -> None:
    comparison = run(ring, [SASREC], seeds=[5], ks=(3,), settings=Settings())
    (row,) = comparison.content["rows"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = gs.models.SASRec(ring.num_items, 4)
    settings = gs.TrainingSettings(max_epochs=2, batch_size=16, monitor="mrr@3")
    result = gs.fit(model, ring, settings, seed=5, progress=False)
    report = gs.evaluate(model, ring.test, ks=(3,))
    assert row["metrics"] == report.metrics
    assert row["epochs"] == result.best_epoch
    assert row["intervals"]["hr@3"] == list(report.confidence_interval("hr@3"))
    assert row["num_parameters"] == sum(p.numel() for p in model.parameters())
    assert set(row) >= {"model", "settings", "seed", "train_seconds", "eval_seconds"}
    assert comparison.monitor == "mrr@3"


def test_compare_exclude_seen_and_cluster_reach_the_ranking(ring: gs.Split) -> None:
    comparison = run(ring, ["session_popularity"], exclude_seen=True)
    model = gs.models.MODELS["session_popularity"](ring.num_items)
    gs.fit(model, ring)
    expected = gs.evaluate(model, ring.test, exclude_seen=True).metrics
    assert comparison.content["rows"][0]["metrics"] == expected
    assert expected != gs.evaluate(model, ring.test).metrics
    with pytest.raises(ValueError, match="cluster is 'session', or 'user'"):
        run(ring, ["markov"], cluster="user")


def test_compare_own_models_keep_their_weights_unless_copied(ring: gs.Split) -> None:
    plain = gs.models.SASRec(ring.num_items, 4)
    before = plain.items.weight.clone()
    trained = gs.models.SASRec(ring.num_items, 4)
    gs.fit(trained, ring, max_epochs=3, progress=False)
    expected = gs.evaluate(trained, ring.test).metrics
    comparison = run(ring, {"plain": plain, "trained": trained}, seeds=2)
    rows = comparison.content["rows"]
    assert [(row["model"], row["seed"]) for row in rows] == [
        ("plain", 0),
        ("plain", 1),
        ("trained", 0),
    ]
    assert torch.equal(plain.items.weight, before)
    assert rows[2]["metrics"] == expected
    assert rows[2]["epochs"] == 0


def test_compare_validation_part_and_test_part_are_not_mixed_up(
    ring: gs.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = []
    comparing = import_module("graphseq.comparison.compare")
    real = comparing.evaluate
    monkeypatch.setattr(
        comparing, "evaluate", lambda m, s, **o: ranked.append(s) or real(m, s, **o)
    )
    run(ring, ["markov"])
    assert ranked == [ring.test]


def test_comparison_tests_and_sentences_are_of_the_pairs(ring: gs.Split) -> None:
    comparison = run(ring, ["popularity", "markov", "item_knn"])
    tests = comparison.tests("mrr@20")
    assert len(tests) == 3
    assert set(comparison.tests()["metric"]) == {"hr@20", "mrr@20"}
    first, second = comparison.sentences("mrr@20")
    assert first.startswith(f"markov beats {comparison.models[1]} by ")
    assert second.startswith(f"markov beats {comparison.models[2]} by ")
    assert len(comparison.sentences("mrr@20", of="popularity")) == 2
    with pytest.raises(ValueError, match="no model 'x' here; the models are markov"):
        comparison.sentences(of="x")
    with pytest.raises(ValueError, match=r"'ndcg@3' was not tested, but hr@20, mrr@20"):
        comparison.tests("ndcg@3")


def test_compare_folder_holds_results_tables_pictures_and_models(
    ring: gs.Split, tmp_path: Path
) -> None:
    comparison = run(
        ring, ["markov", SASREC], seeds=1, out=tmp_path, name="ring", command="python x.py"
    )
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["command"] == "python x.py"
    assert content["data"]["name"] == "ring"
    assert content["data"]["fingerprint"]["test"] == ring.test.fingerprint()
    assert content["data"]["statistics"]["test"]["targets"] == ring.test.num_targets
    assert content["protocol"]["ks"] == [5, 10, 20]
    assert {"versions", "machine", "created"} <= set(content)
    frame = pd.read_csv(tmp_path / "results.csv")
    assert frame["model"].tolist() == ["markov", "sasrec"]
    assert comparison.to_markdown() in (tmp_path / "table.md").read_text()
    assert (tmp_path / "table.tex").read_text() == comparison.to_latex()
    for name in ("comparison.png", "cost.png"):
        assert (tmp_path / name).stat().st_size > 5_000
    model = gs.load(tmp_path / "models" / "sasrec-seed0" / "model")
    assert gs.evaluate(model, ring.test).metrics == content["rows"][1]["metrics"]
    again = Comparison.load(tmp_path)
    pd.testing.assert_frame_equal(again.to_frame(), comparison.to_frame())
    assert again.sentences() == comparison.sentences()


def test_compare_ranks_a_test_part_of_which_no_input_is_known() -> None:
    train = gs.Sessions.from_lists([["a", "b", "c"]] * 10)
    test = gs.Sessions.from_lists([["x", "y", "a"], ["z", "x", "b"]], vocabulary=train.vocabulary)
    (row,) = run(gs.Split(train, test), ["markov"], seeds=1).content["rows"]
    assert row["metrics"]["hr@5"] == 0.5
    model = gs.models.MarkovChain(3)
    gs.fit(model, train)
    found = audit_where_possible(model, gs.Split(train, test))
    assert [finding.verdict for finding in found.findings] == ["unknown", "unknown"]


def test_compare_resumed_equals_one_that_never_stopped(
    ring: gs.Split, tmp_path: Path, fitted: list[tuple[str, int]]
) -> None:
    run(ring, ["markov", SASREC], seeds=1, out=tmp_path)
    fitted.clear()
    resumed = run(ring, ["markov", SASREC, "popularity"], seeds=2, out=tmp_path, resume=True)
    assert fitted == [("SASRec", 1), ("Popularity", 0)]
    whole = run(ring, ["markov", SASREC, "popularity"], seeds=2)
    numbers = ["hr@20", "mrr@20", "mrr@20 spread", "seeds"]
    pd.testing.assert_frame_equal(resumed.to_frame()[numbers], whole.to_frame()[numbers])
    assert len(resumed.tests()) == len(whole.tests()) == 6
    assert sorted(resumed.sentences()) == sorted(whole.sentences())


def test_compare_resumed_trains_again_what_differs(
    ring: gs.Split, tmp_path: Path, fitted: list[tuple[str, int]], caplog: Any
) -> None:
    run(ring, ["markov", SASREC], seeds=1, out=tmp_path)
    fitted.clear()
    other = ("sasrec", {**SASREC[1], "hidden_channels": 6})
    comparison = run(ring, [other], seeds=1, out=tmp_path, resume=True)
    assert fitted == [("SASRec", 0)]
    assert sorted(comparison.models) == ["markov", "sasrec"]  # the line not named stays
    (row,) = [row for row in comparison.content["rows"] if row["model"] == "sasrec"]
    assert row["settings"]["arguments"]["hidden_channels"] == 6
    fitted.clear()
    (tmp_path / "models" / "markov-seed0" / "report.bin").write_bytes(b"broken")
    run(ring, ["markov", other], seeds=1, out=tmp_path, resume=True)
    assert fitted == [("MarkovChain", 0)]
    assert "markov, seed 0, runs again" in caplog.text


def test_compare_resumed_with_more_epochs_equals_one_that_had_them_at_once(
    ring: gs.Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def with_epochs(epochs: int, **options: Any) -> dict[str, Any]:
        own = {**SASREC[1], "max_epochs": epochs, "patience": None, "schedule": "constant"}
        (row,) = run(ring, [("sasrec", own)], seeds=1, **options).content["rows"]
        kept = {name: row[name] for name in ("settings", "metrics", "epochs")}
        return kept | {"losses": [epoch["loss"] for epoch in row["history"]]}

    history = tmp_path / "models" / "sasrec-seed0" / "history.csv"
    with_epochs(1, out=tmp_path)
    before = history.read_text().splitlines()
    longer = with_epochs(3, out=tmp_path, resume=True)
    assert "sasrec, seed 0, is not taken over: max_epochs 1 there and 3 here." in caplog.text
    # Seconds of the first epoch are those of the first call: it was not trained again.
    after = history.read_text().splitlines()
    assert (after[:2], len(after)) == (before, 4)
    assert longer == with_epochs(3)
    assert longer["settings"]["fit"]["max_epochs"] == 3
    with_epochs(2, out=tmp_path, resume=True)
    assert len(history.read_text().splitlines()) == 3


def by_rate(rate: float) -> Callable[..., Any]:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


def test_compare_trains_by_an_optimizer_of_your_own_and_resumes_by_what_it_does(
    ring: gs.Split,
    tmp_path: Path,
    fitted: list[tuple[str, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def with_rate(rate: float, epochs: int = 1, **options: Any) -> dict[str, Any]:
        own = {**SASREC[1], "max_epochs": epochs, "schedule": "constant", "patience": None}
        line = ("sasrec", {**own, "optimizer": by_rate(rate)})
        (row,) = run(ring, [line], seeds=1, **options).content["rows"]
        return row

    row = with_rate(0.5, out=tmp_path)
    model = gs.load(tmp_path / "models" / "sasrec-seed0" / "model")
    same = Entry("sasrec", "sasrec", row["settings"]["arguments"]).new_model(ring.num_items, 0)
    options = {
        k: v for k, v in row["settings"]["fit"].items() if k not in ("schedule", "optimizer")
    }
    options |= {"optimizer": by_rate(0.5), "monitor": "mrr@20"}
    gs.fit(same, ring, seed=0, progress=False, **options)
    assert torch.equal(model.items.weight, same.items.weight)
    assert row["settings"]["fit"]["optimizer"].endswith("by_rate.<locals>.<lambda>")
    assert Comparison.load(tmp_path).content["rows"][0]["settings"] == row["settings"]

    fitted.clear()
    assert with_rate(0.5, out=tmp_path, resume=True) == row
    assert fitted == []
    longer = with_rate(0.5, 3, out=tmp_path, resume=True)
    assert longer["history"][0]["seconds"] == row["history"][0]["seconds"]  # not trained again
    assert longer["metrics"] == with_rate(0.5, 3)["metrics"]
    caplog.clear()
    other = with_rate(0.1, 3, out=tmp_path, resume=True)
    assert "not taken over: rate of reads of optimizer 0.5 there and 0.1 here." in caplog.text
    assert other["history"][0]["loss"] != longer["history"][0]["loss"]


def test_compare_takes_numbers_of_numpy_as_python_has_them(ring: gs.Split, tmp_path: Path) -> None:
    own = {"hidden_channels": np.int64(4), "max_epochs": np.int32(2), "batch_size": np.int64(16)}
    (row,) = run(ring, [("sasrec", own)], seeds=1, out=tmp_path).content["rows"]
    (same,) = run(ring, [SASREC], seeds=1, out=tmp_path, resume=True).content["rows"]
    assert same == row


def test_compare_of_settings_that_no_file_holds_is_refused_before_training(
    ring: gs.Split, tmp_path: Path, fitted: list[tuple[str, int]]
) -> None:
    class Own(gs.models.Popularity):
        def __init__(self, num_items: int, power: Any = None) -> None:
            super().__init__(num_items)

    line = Entry("mine", "own", {"power": torch.relu}, own=Own)
    with pytest.raises(ValueError, match="mine has settings that no file of results holds"):
        run(ring, ["markov", line], out=tmp_path / "out")
    assert fitted == []
    assert run(ring, [line]).models == ["mine"]


@pytest.mark.parametrize(
    ("fit", "changes"),
    [
        # The schedule of these settings is linear: rates depend on the number of epochs.
        ({"max_epochs": 1}, "max_epochs 2 there and 1 here"),
        ({"max_epochs": 3}, "max_epochs 2 there and 3 here"),
        ({"learning_rate": 0.1}, "learning_rate 0.002 there and 0.1 here"),
        ({"dropout": 0.1}, "dropout None there and 0.1 here"),
    ],
)
def test_compare_resumed_with_other_settings_trains_from_the_start(
    ring: gs.Split, tmp_path: Path, caplog: Any, fit: dict[str, Any], changes: str
) -> None:
    run(ring, [SASREC], seeds=1, out=tmp_path)
    history = tmp_path / "models" / "sasrec-seed0" / "history.csv"
    before = history.read_text().splitlines()[1]
    other = ("sasrec", {**SASREC[1], **fit})
    comparison = run(ring, [other], seeds=1, out=tmp_path, resume=True)
    assert f"sasrec, seed 0, is not taken over: {changes}." in caplog.text
    assert history.read_text().splitlines()[1] != before
    whole = run(ring, [other], seeds=1).content["rows"][0]
    assert comparison.content["rows"][0]["metrics"] == whole["metrics"]


def test_compare_resume_is_refused_for_other_data_or_another_protocol(
    ring: gs.Split, tmp_path: Path
) -> None:
    run(ring, ["markov"], out=tmp_path)
    for changed, message in (
        ({"exclude_seen": True}, r"another protocol \(exclude_seen False there and True here\)"),
        ({"ks": (5,)}, r"another protocol \(ks \[5, 10, 20\] there and \(?\[?5"),
        ({"monitor": "hr@20"}, r"another monitor \('mrr@20' there and 'hr@20' here\)"),
    ):
        with pytest.raises(ValueError, match=message):
            run(ring, ["markov"], out=tmp_path, resume=True, **changed)
    permuted = gs.fixed_split(
        ring.train, ring.test.select(np.arange(ring.test.num_sessions)[::-1]), ring.validation
    )
    permuted = gs.Split(
        permuted.train, permuted.test, permuted.validation, ring.report, ring.protocol
    )
    with pytest.raises(ValueError, match=r"other data \(the parts that differ: test\)"):
        run(permuted, ["markov"], out=tmp_path, resume=True)
    with pytest.raises(ValueError, match="pass out="):
        run(ring, ["markov"], resume=True)


def test_compare_resume_is_refused_for_other_versions(
    ring: gs.Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(ring, ["markov"], out=tmp_path)
    recording = import_module("graphseq.comparison.record")
    later = {**recording.versions(), "torch": "99"}
    monkeypatch.setattr(recording, "versions", lambda: later)
    with pytest.raises(ValueError, match=r"results of other versions \(torch '.+' there and '99' "):
        run(ring, ["markov"], out=tmp_path, resume=True)


def test_compare_resumed_counts_nothing_again_for_another_first_seed(
    ring: gs.Split, tmp_path: Path, fitted: list[tuple[str, int]]
) -> None:
    before = run(ring, ["markov"], seeds=[3], out=tmp_path).content
    fitted.clear()
    after = run(ring, ["markov", SASREC], seeds=[0, 3], out=tmp_path, resume=True).content
    assert fitted == [("SASRec", 0), ("SASRec", 3)]
    assert after["rows"][:1] == before["rows"]


def test_compare_validation_is_ranked_by_the_rules_of_the_test(
    ring: gs.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, bool]] = []
    comparing = import_module("graphseq.comparison.compare")
    real = comparing.fit

    def noted(*arguments: Any, **options: Any) -> Any:
        given.append((options["monitor"], options["exclude_seen"]))
        return real(*arguments, **options)

    monkeypatch.setattr(comparing, "fit", noted)
    own = ("sasrec", {**SASREC[1], "monitor": "hr@5", "exclude_seen": False})
    run(ring, ["markov", own], seeds=1, exclude_seen=True, monitor="mrr@10")
    run(ring, ["markov"], exclude_seen=False)
    assert given == [("mrr@10", True), ("hr@5", False), ("mrr@20", False)]


def test_compare_of_histories_obeys_settings_without_seen_items() -> None:
    split = gs.leave_last_split(gs.Sessions.from_lists([[0, 1, 0, 2], [2, 1, 0, 1]] * 4))
    settings = Settings((Entry("markov", "markov"),), exclude_seen=True)
    found = run(split, None, settings=settings).content["protocol"]["evaluation"]
    assert found["seen"] == "remove"


def test_compare_folder_of_results_has_the_metrics_of_every_row(
    ring: gs.Split, tmp_path: Path
) -> None:
    content = run(ring, ["markov", "popularity"], ks=(3,), out=tmp_path).content
    frame = pd.read_csv(tmp_path / "results.csv")
    for row, (_, line) in zip(content["rows"], frame.iterrows(), strict=True):
        assert {name: line[name] for name in row["metrics"]} == pytest.approx(row["metrics"])


def test_compare_of_other_item_features_is_of_other_data(ring: gs.Split, tmp_path: Path) -> None:
    def with_colors(*colors: str) -> gs.Split:
        features = pd.DataFrame({"color": np.resize(colors, ring.num_items)})
        parts = (ring.train, ring.test, ring.validation)
        train, test, validation = (replace(part, item_features=features) for part in parts)
        return gs.Split(train, test, validation, ring.report, ring.protocol)

    run(with_colors("red", "blue"), ["markov"], out=tmp_path)
    with pytest.raises(ValueError, match=r"other data \(the parts that differ: item_features\)"):
        run(with_colors("red", "green"), ["markov"], out=tmp_path, resume=True)


def test_compare_without_resume_begins_again(
    ring: gs.Split, tmp_path: Path, fitted: list[tuple[str, int]]
) -> None:
    run(ring, ["markov", "popularity"], out=tmp_path)
    fitted.clear()
    comparison = run(ring, ["popularity"], out=tmp_path)
    assert fitted == [("Popularity", 0)]
    assert comparison.models == ["popularity"]
    assert comparison.sentences() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "needs a seed"),
        ({"ks": (0,)}, "k"),
        ({"monitor": "recall"}, "monitor is 'hr@k'"),
        ({"models": ["nothing"]}, "no model 'nothing'"),
        ({"settings": "nowhere.json"}, "nowhere.json holds no settings"),
        ({"cluster": "usr"}, "cluster is 'session', or 'user' where"),
        ({"cluster": "user"}, "and sessions without users"),
        ({"protocol": Protocol(candidates=1000)}, "1000 candidates besides the target cannot be"),
        ({"protocol": Protocol(min_history=50)}, "choose a smaller min_history"),
    ],
)
def test_compare_what_is_wrong_is_said_before_anything_is_trained(
    ring: gs.Split, fitted: list[tuple[str, int]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(ring, **({"models": ["markov"]} | options))
    assert fitted == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exclude_seen": "no"}, "exclude_seen of the file must be true or false, got 'no'"),
        ({"ks": "5"}, "ks of the file must be a list, got '5'"),
        ({"ks": [5, 0]}, "ks of the file, element 1, must be a whole number, 1 or more, got 0"),
        ({"validation": "14"}, "validation of the file must be a finite number, 0 or more, got"),
        ({"seeds": 3}, "'seeds' is none of the fields models, default, ks, exclude_seen, valida"),
        ({"default": ["b"]}, "There is no model 'b': choose from a, "),
        ({"models": [{"name": "a"}]}, "models of the file, element 0, lacks model"),
        ({"models": [{"name": "a", "model": "nope"}]}, "a is of no model 'nope': choose from pop"),
        (
            {"models": [{"name": "a", "model": "sasrec", "epochs": 3}]},
            "'epochs' is none of the fields name, model, arguments, fit",
        ),
        (
            {"models": [{"name": "a", "model": "sasrec", "fit": {"max_epochs": 1.5}}]},
            r"max_epochs must be a whole number, got 1\.5",
        ),
    ],
)
def test_settings_file_names_the_field_that_is_wrong(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"models": [{"name": "a", "model": "markov"}]} | changed))
    with pytest.raises(ValueError, match=rf"^{file} holds no settings of models: {message}") as got:
        Settings.read(file)
    assert not str(got.value).endswith("..")


def test_settings_come_back_from_their_file(tmp_path: Path) -> None:
    for settings in (Settings.for_dataset("beauty"), Settings((Entry("a", "markov"),))):
        (tmp_path / "settings.json").write_text(json.dumps(settings.to_dict()))
        assert Settings.read(tmp_path / "settings.json") == settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 4}, "last cannot be built: .* unexpected keyword argument 'hidden'"),
        ({"hidden_channels": 4, "heads": 3}, "last cannot be built: .*4"),
        ({"dropout": 2.0}, "last cannot be built: .*2.0"),
    ],
)
def test_line_that_cannot_be_built_is_named_before_another_one_is_trained(
    ring: gs.Split, fitted: list[tuple[str, int]], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        run(ring, ["markov", Entry("last", "sasrec", arguments)])
    assert fitted == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "16-mixed"}, "precision='16-mixed' scales gradients"),
        ({"lanes": 4}, "lanes=4 walks through sessions click by click"),
        ({"order": "time"}, "order='time' needs the times of clicks"),
    ],
)
def test_line_that_cannot_be_trained_is_named_before_another_one_is_trained(
    ring: gs.Split, fitted: list[tuple[str, int]], settings: dict[str, Any], message: str
) -> None:
    for last in (("sasrec", settings), Entry("sasrec", "sasrec", {}, settings)):
        with pytest.raises(ValueError, match=f"^sasrec cannot be trained: {message}"):
            run(ring, ["markov", last])
    own = Entry("sasrec", "own", {}, settings, own=gs.models.SASRec(ring.num_items, 4))
    with pytest.raises(ValueError, match=f"^sasrec cannot be trained: {message}"):
        run(ring, ["markov", own])
    assert fitted == []


def test_compare_settings_of_a_file_say_how(ring: gs.Split, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    protocol = Settings((Entry("a", "markov"), Entry("b", "popularity")), ("b",), (2, 3), True)
    path.write_text(json.dumps(protocol.to_dict()))
    assert Settings.read(path) == protocol
    comparison = run(ring, None, settings=path)
    assert comparison.models == ["b"]
    assert comparison.content["protocol"]["ks"] == [2, 3]
    assert comparison.content["protocol"]["exclude_seen"] is True
    assert set(run(ring, ["a", "b"], settings=path).models) == {"a", "b"}


@pytest.mark.parametrize("name", ["default", "uci-eshop", "movielens-small", "diginetica"])
def test_protocol_of_a_data_set_names_lines_that_can_be_built(name: str) -> None:
    protocol = Settings.for_dataset(name)
    assert {entry.name for entry in protocol.select(None)} <= {e.name for e in protocol.models}
    for entry in protocol.models:
        entry.training  # noqa: B018
        assert entry.new_model(30, 0).num_items == 30


def test_protocol_of_data_without_settings_is_the_default_one() -> None:
    assert Settings.for_dataset("a log of your own") == Settings.for_dataset("default")
    with pytest.raises(ValueError, match="no model 'x': choose from popularity"):
        Settings.for_dataset("a log of your own").select(["x"])


def test_page_of_comparisons_runs_and_its_links_lead_somewhere() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "compare.md"
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for lines in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(lines, page.name, "exec"), names)
    assert len(names["comparison"].content["rows"]) == 5
    assert set(names["frame"]["item_id"] % 3) == {0, 1}
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)", text)]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_compare_of_histories_of_users_shows_metrics_with_seen_items_and_without() -> None:
    lists = [[i % 7, (i + 1) % 7, i % 7, (i + 2) % 7] for i in range(30)]
    users = gs.Sessions.from_lists(lists, users=[f"u{i}" for i in range(30)])
    split = gs.leave_last_split(users)
    comparison = run(split, ["markov", "popularity"], ks=(3,))
    assert comparison.content["protocol"]["evaluation"]["seen"] == "both"
    head = comparison.to_markdown().splitlines()[0]
    assert "| HR@3 |" in head
    assert "| UNSEEN HR@3 |" in head
    for row in comparison.content["rows"]:
        model = gs.models.MODELS[row["model"]](split.num_items)
        gs.fit(model, split)
        for exclude_seen, word in ((False, ""), (True, "unseen ")):
            alone = gs.evaluate(model, split.test, ks=(3,), exclude_seen=exclude_seen)
            assert row["metrics"][f"{word}hr@3"] == alone.metrics["hr@3"]
    assert {test["metric"] for test in comparison.content["tests"]} == {
        "hr@3",
        "mrr@3",
        "unseen hr@3",
        "unseen mrr@3",
    }
    alone = run(split, ["markov"], ks=(3,), exclude_seen=True)
    assert "UNSEEN" not in alone.to_markdown()


def test_compare_by_sampled_candidates_carries_the_word_everywhere(
    ring: gs.Split, tmp_path: Path
) -> None:
    protocol = gs.evaluation.Protocol(candidates=4, seed=3)
    comparison = run(ring, ["markov", "popularity"], protocol=protocol, out=tmp_path)
    for row in comparison.content["rows"]:
        assert all(name.startswith("sampled ") for name in row["metrics"])
    assert comparison.monitor == "sampled mrr@20"
    assert "SAMPLED HR@20" in comparison.to_markdown()
    assert "4 sampled candidates ranked" in comparison.to_latex()
    for axes in [*comparison.plot().axes, *comparison.plot_cost().axes]:
        texts = [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        assert any("sampled" in text.lower() for text in texts), texts
    assert all("sampled" in line for line in comparison.sentences())
    assert comparison.tests("mrr@20").equals(comparison.tests("sampled mrr@20"))
    assert comparison.plot(metrics="hr@20").axes[0].get_title() == "SAMPLED HR@20"
    written = comparison.content["protocol"]["evaluation"]
    assert gs.evaluation.Protocol.from_dict(written) == protocol
    again = gs.evaluation.Protocol(candidates=4, seed=4)
    with pytest.raises(ValueError, match=r"another protocol \(seed 3 there and 4 here\)"):
        run(ring, ["markov"], protocol=again, out=tmp_path, resume=True)


def test_compare_by_a_preset_names_it(ring: gs.Split) -> None:
    comparison = run(ring, ["markov"], protocol="gru4rec")
    assert comparison.content["protocol"]["evaluation"]["name"] == "gru4rec"
    with pytest.raises(ValueError, match="There is no protocol 'x'"):
        run(ring, ["markov"], protocol="x")


def test_compare_carries_the_audit_of_split_and_models(ring: gs.Split, tmp_path: Path) -> None:
    comparison = run(ring, ["markov"], out=tmp_path)
    assert comparison.content["data"]["audit"] == gs.evaluation.audit(ring).to_dict()
    verdict = "passed" if gs.evaluation.audit(ring).passed else "refuted"
    assert comparison.content["rows"][0]["audit"].startswith(verdict)
    assert "- Audit of the split: " in (tmp_path / "table.md").read_text()
    without = run(ring, ["markov"], audit=False)
    assert "audit" not in without.content["data"]
    assert without.content["rows"][0]["audit"] is None


def test_one_model_has_no_pair_to_test_but_the_columns_of_a_pair(ring: gs.Split) -> None:
    one, two = (
        gs.compare(ring, ["markov", "popularity"][:number], seeds=1, progress=False).tests()
        for number in (1, 2)
    )
    assert one.empty
    assert list(one.columns) == list(two.columns)
