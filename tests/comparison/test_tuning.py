"""The search: three tiny trials on the validation part, resumed; spaces match their families."""

from __future__ import annotations

import builtins
import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.comparison import Entry, Settings, Space, Tuning
from graphseq.comparison.space import FOLDER

SPACE: dict[str, Any] = {
    "arguments": {"hidden_channels": [4, 8], "dropout": {"low": 0.0, "high": 0.5}},
    "fit": {
        "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "batch_size": 16,
        "loss": ["cross_entropy", {"name": "sampled_softmax", "num_negatives": 4}],
    },
}


def search(ring: gs.Split, **options: Any) -> Tuning:
    return gs.tune(ring, "sasrec", SPACE, **{"epochs": 2, **options})


def trials(tuning: Tuning) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in row.items() if "seconds" not in key}
        for row in tuning.content["rows"]
    ]


def test_search_resumed_equals_one_that_never_stopped(
    tmp_path: Path, ring: gs.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = []
    tuning = import_module("graphseq.comparison.tuning")
    real = tuning.evaluate
    monkeypatch.setattr(tuning, "evaluate", lambda m, s, **o: ranked.append(s) or real(m, s, **o))
    whole = search(ring, trials=3)
    search(ring, trials=2, out=tmp_path)
    halves = search(ring, trials=3, out=tmp_path, resume=True)
    assert len(trials(whole)) == 3
    assert trials(halves) == trials(whole)
    assert all(part is ring.validation for part in ranked)  # never the test part
    for name in ("results.csv", "study.db", "tuning.png", "best.json"):
        assert (tmp_path / name).stat().st_size > 0
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["rows"] == halves.content["rows"]
    assert written["protocol"]["ranked"] == "validation"
    assert "test part was not ranked" in written["protocol"]["note"]
    frame = halves.to_frame()
    assert frame["mrr@20"].tolist() == [row["metrics"]["mrr@20"] for row in written["rows"]]
    assert set(frame["arguments.hidden_channels"]) <= {4, 8}


def test_best_settings_are_a_line_and_a_file_that_comparisons_read(
    tmp_path: Path, ring: gs.Split
) -> None:
    tuning = search(ring, trials=2, out=tmp_path, exclude_seen=True, ks=(5, 20))
    protocol = Settings.read(tmp_path / "best.json")
    (entry,) = protocol.select(None)
    best = max(trials(tuning), key=lambda row: row["metrics"]["mrr@20"])
    assert entry == tuning.best
    assert entry.arguments == best["settings"]["arguments"]
    # The learning rate of the default settings falls to the last epoch: all of them are run.
    assert entry.training.schedule == "linear"
    assert entry.training.max_epochs == 2
    assert entry.training.batch_size == 16
    assert protocol.note.startswith("Best of 2 trials on the validation part of your log")
    assert protocol.exclude_seen
    assert protocol.ks == (5, 20)


def test_best_settings_of_a_constant_rate_end_at_the_best_epoch(ring: gs.Split) -> None:
    tuning = search(ring, trials=1, epochs=4, settings=Settings())
    (row,) = tuning.content["rows"]
    assert tuning.best.training.max_epochs == row["epochs"]


def test_search_with_an_optimizer_of_your_own_keeps_it_for_the_best_line(
    ring: gs.Split, tmp_path: Path
) -> None:
    def own(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.1)

    line = ("sasrec", {"optimizer": own, "schedule": "constant"})
    space = {"arguments": {"hidden_channels": [4, 8]}}
    for trials in (1, 2):
        tuning = gs.tune(
            ring, line, space, trials=trials, epochs=1, out=tmp_path, resume=trials > 1
        )
    assert len(tuning.content["rows"]) == 2
    assert tuning.best.fit["optimizer"] is own
    assert not (tmp_path / "best.json").exists()
    with pytest.raises(ValueError, match="sasrec has optimizer of your own, which no settings"):
        tuning.settings()
    assert gs.compare(ring, [tuning.best], seeds=1, progress=False).models == ["sasrec"]
    with pytest.raises(ValueError, match=r"space has values of files, and fit.optimizer is a func"):
        gs.tune(ring, "sasrec", {"fit": {"optimizer": ["adam", own]}}, trials=1)


@pytest.mark.parametrize("choices", [(4, 8), range(4, 12, 4), np.array([4, 8]), [np.int64(4), 8]])
def test_choices_of_python_and_numpy_are_those_of_a_list(
    choices: Any, ring: gs.Split, tmp_path: Path
) -> None:
    line = ("sasrec", {"num_layers": np.int64(1), "learning_rate": np.float64(0.01)})
    space = {"arguments": {"hidden_channels": choices}, "fit": {"batch_size": np.int64(16)}}
    tuning = gs.tune(ring, line, space, trials=2, epochs=1, out=tmp_path)
    plain = ("sasrec", {"num_layers": 1, "learning_rate": 0.01})
    listed = {"arguments": {"hidden_channels": [4, 8]}, "fit": {"batch_size": 16}}
    assert trials(tuning) == trials(gs.tune(ring, plain, listed, trials=2, epochs=1))
    again = gs.tune(ring, line, space, trials=2, epochs=1, out=tmp_path, resume=True)
    assert trials(again) == trials(tuning)


def test_counting_models_are_searched_too(ring: gs.Split) -> None:
    tuning = gs.tune(ring, "markov", trials=2)
    assert [row["epochs"] for row in tuning.content["rows"]] == [0, 0]
    assert "max_epochs" not in tuning.best.fit


@pytest.mark.parametrize(("ks", "monitor"), [(None, "mrr@20"), ((10, 5), "mrr@10"), (3, "mrr@3")])
def test_search_maximizes_mrr_at_the_largest_cutoff(ring: gs.Split, ks: Any, monitor: str) -> None:
    assert gs.tune(ring, "markov", trials=1, ks=ks).monitor == monitor


def test_settings_that_do_not_go_together_fail_their_trial_alone(ring: gs.Split) -> None:
    space = {"arguments": {"hidden_channels": [4], "heads": [3]}, "fit": {"batch_size": [16]}}
    with pytest.raises(ValueError, match=r"No trial came to an end\. .*heads"):
        gs.tune(ring, "sasrec", space, trials=1)


def test_study_is_not_mixed_with_another(tmp_path: Path, ring: gs.Split) -> None:
    gs.tune(ring, "markov", trials=1, out=tmp_path)
    with pytest.raises(ValueError, match="pass resume=True"):
        gs.tune(ring, "markov", trials=1, out=tmp_path)
    for other in ({"seed": 1}, {"exclude_seen": True}, {"ks": (7, 20)}):
        with pytest.raises(ValueError, match="another model, space, metric, ranking or seed"):
            gs.tune(ring, "markov", trials=1, out=tmp_path, resume=True, **other)


def test_trials_are_ranked_without_seen_items_where_asked(ring: gs.Split) -> None:
    assert ring.validation is not None
    for exclude_seen in (False, True):
        tuning = gs.tune(
            ring, "session_popularity", {"fit": {}}, trials=1, exclude_seen=exclude_seen
        )
        family = gs.models.MODELS["session_popularity"]
        model = family(ring.num_items, **tuning.best.arguments)
        gs.fit(model, ring)
        found = gs.evaluate(model, ring.validation, exclude_seen=exclude_seen)
        assert tuning.content["rows"][0]["metrics"] == pytest.approx(found.metrics)


def test_settings_that_all_trials_share_are_arguments_of_the_search_alone(ring: gs.Split) -> None:
    for name, argument in (("max_epochs", "epochs"), ("seed", "seed"), ("monitor", "monitor")):
        for value in ([1, 3], 1):
            with pytest.raises(ValueError, match=rf"share {name!r}.*pass {argument}= to tune"):
                gs.tune(ring, "gru4rec", {"fit": {name: value}}, trials=1, epochs=1)
    with pytest.raises(ValueError, match=r"share 'exclude_seen'.*pass exclude_seen= to tune"):
        gs.tune(ring, "gru4rec", {"fit": {"exclude_seen": [True, False]}}, trials=1)


def test_rows_hold_the_settings_that_the_search_used(ring: gs.Split) -> None:
    fit = {"max_epochs": 9, "monitor": "hr@3", "seed": 5, "exclude_seen": True, "batch_size": 16}
    line = Entry("mine", "gru4rec", {"hidden_channels": 4}, fit)
    tuning = gs.tune(ring, line, {"fit": {}}, trials=1, epochs=1, seed=2)
    used = {"max_epochs": 1, "monitor": "mrr@20", "seed": 2, "exclude_seen": False}
    (row,) = tuning.content["rows"]
    assert row["settings"]["fit"] == {"batch_size": 16} | used
    assert tuning.best.fit == row["settings"]["fit"]


def test_trained_instance_is_not_searched(ring: gs.Split) -> None:
    model = gs.models.GRU4Rec(ring.num_items, hidden_channels=4)
    gs.fit(model, ring, max_epochs=1, progress=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="trained already: pass its class or its name"):
        gs.tune(ring, model, {"fit": {"batch_size": [8]}}, trials=1, epochs=1)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


class Own(gs.models.GRU4Rec):
    """A class that no settings file can name."""


def test_best_settings_of_an_own_class_are_a_line_and_no_file(
    tmp_path: Path, ring: gs.Split
) -> None:
    space = {"arguments": {"hidden_channels": [4]}}
    tuning = gs.tune(ring, Own, space, trials=1, epochs=1, out=tmp_path)
    assert not (tmp_path / "best.json").exists()
    with pytest.raises(ValueError, match="no settings file can name: pass tuning"):
        tuning.settings()
    compared = gs.compare(ring, [tuning.best], seeds=1, progress=False)
    assert [row["settings"]["arguments"] for row in compared.content["rows"]] == [
        {"hidden_channels": 4}
    ]


def test_search_says_what_is_missing(
    tmp_path: Path, ring: gs.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no model 'gru5rec': choose from popularity"):
        gs.tune(ring, "gru5rec")
    with pytest.raises(ValueError, match="popularity has no predefined search space, as bert4rec"):
        gs.tune(ring, "popularity")
    with pytest.raises(ValueError, match="monitor is 'hr@k'"):
        search(ring, monitor="recall")
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        search(ring, trials=0)
    with pytest.raises(ValueError, match="needs a validation part"):
        search(gs.fixed_split(ring.train, ring.test))
    for content in ('{"model": {}}', "[]", "{"):
        (tmp_path / "space.json").write_text(content)
        with pytest.raises(ValueError, match=r"holds no search space: .*[^.]\.$"):
            gs.tune(ring, "markov", tmp_path / "space.json")
    with pytest.raises(ValueError, match=r"holds no search space"):
        gs.tune(ring, "markov", tmp_path / "nothing.json")
    known = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "optuna":
            raise ModuleNotFoundError(name)
        return known(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'graphseq\[tune\]'"):
        search(ring)


FAMILIES = sorted(file.name.removesuffix(".json") for file in FOLDER.iterdir())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_space_fits_its_family(family: str) -> None:
    space = Space.from_entry(Entry(family, family))
    names = [name for name, _ in space.searched()]
    assert names
    for pick in (0, -1):

        def choose(name: str, choices: list[Any], pick: int = pick) -> Any:
            return choices[pick]

        def number(name: str, low: Any, high: Any, log: bool = False, pick: int = pick) -> Any:
            return (low, high)[pick]

        trial = SimpleNamespace(
            suggest_categorical=choose, suggest_int=number, suggest_float=number
        )
        entry = space.suggest(trial)
        gs.models.MODELS[family](20, **entry.arguments)
        assert entry.training.batch_size > 0


def test_known_settings_are_the_first_trial_where_they_lie_in_the_space() -> None:
    base = Entry(
        "sasrec",
        "sasrec",
        {"hidden_channels": 8, "dropout": 0.9, "max_length": 7},
        {"loss": {"name": "sampled_softmax", "num_negatives": 4}, "learning_rate": 0.01},
    )
    space = Space(base, SPACE)
    known = space.of_base()
    assert known == {
        "arguments.hidden_channels": 8,
        "fit.learning_rate": 0.01,
        "fit.loss": json.dumps(SPACE["fit"]["loss"][1]),  # type: ignore[index]
    }
    assert space.entry({"arguments.hidden_channels": 8}).arguments["max_length"] == 7


def test_known_settings_at_the_ends_of_a_range_lie_in_it_and_no_patience_in_none() -> None:
    space = {
        "fit": {"learning_rate": {"low": 0.01, "high": 0.1}, "patience": {"low": 1, "high": 9}}
    }
    for rate, inside in ((0.01, True), (0.1, True), (0.2, False), (0.005, False)):
        base = Entry("sasrec", "sasrec", {}, {"learning_rate": rate, "patience": None})
        assert Space(base, space).of_base() == ({"fit.learning_rate": rate} if inside else {})


def test_space_of_a_wrong_form_is_refused() -> None:
    base = Entry("sasrec", "sasrec")
    with pytest.raises(ValueError, match="has 'arguments' and 'fit', got model"):
        Space(base, {"model": {}})
    with pytest.raises(ValueError, match=r"fit\.learning_rate needs low < high, got 2, 1"):
        Space(base, {"fit": {"learning_rate": {"low": 2, "high": 1}}})
    with pytest.raises(ValueError, match=r"arguments\.heads has no choice"):
        Space(base, {"arguments": {"heads": []}})
    with pytest.raises(ValueError, match=r"'arguments' of a space maps names to values, got 5"):
        Space(base, {"arguments": 5})  # type: ignore[dict-item]


@pytest.mark.parametrize("part", ["arguments", "fit"])
def test_space_of_a_setting_that_does_not_exist_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="sasrec has no setting 'nonsense': the model takes"):
        Space(Entry("sasrec", "sasrec"), {part: {"nonsense": [1, 2]}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 1}, "is a range of 'low' and 'high'"),
        ({"high": 1}, "is a range of 'low' and 'high'"),
        ({"low": 1, "high": 2, "logg": True}, "is a range of 'low' and 'high'"),
        ({"low": "a", "high": 3}, "is a range between two numbers, got 'a', 3"),
        ({"low": 1, "high": float("inf")}, "is a range between two numbers, got 1, inf"),
        ({"low": 0, "high": 3, "log": True}, "has 'log' of true or false, and true needs low > 0"),
        ({"low": 1, "high": 3, "log": "yes"}, "has 'log' of true or false"),
    ],
)
def test_space_of_a_wrong_range_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"arguments.hidden_channels {message}"):
        Space(Entry("sasrec", "sasrec"), {"arguments": {"hidden_channels": given}})


def test_drawn_numbers_are_short_enough_to_read() -> None:
    draw = np.random.default_rng(0).uniform(0.001, 0.1)
    trial = SimpleNamespace(suggest_float=lambda *args, **options: float(draw))
    space = Space(
        Entry("sasrec", "sasrec"), {"fit": {"learning_rate": {"low": 0.001, "high": 0.1}}}
    )
    rate = space.suggest(trial).fit["learning_rate"]
    assert rate == pytest.approx(draw, rel=1e-3)
    assert len(str(rate)) <= 8


@pytest.mark.parametrize(("low", "high"), [(0.9, 0.99999), (0.1, 0.123456), (0.123456, 0.5)])
def test_drawn_numbers_stay_in_their_range(low: float, high: float) -> None:
    space = Space(Entry("sasrec", "sasrec"), {"arguments": {"dropout": {"low": low, "high": high}}})
    for end in (low, high):
        trial = SimpleNamespace(suggest_float=lambda *args, end=end, **options: end)
        assert low <= space.suggest(trial).arguments["dropout"] <= high
