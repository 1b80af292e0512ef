"""The lines of a comparison: ways to name models, and equality of lines."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import graphseq as gs
from graphseq.comparison import Entry, entries_of, entry_of

KNOWN = [
    Entry("markov, plain", "markov", {"backoff": 0.0}),
    Entry("markov", "markov"),
    Entry("small", "sasrec", {"hidden_channels": 8}, {"max_epochs": 2}),
]


class Mine(gs.models.SASRec):
    """A custom family."""


def named(models: Any) -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    return [(e.name, e.model, e.arguments, e.fit) for e in entries_of(models, KNOWN)]


def test_entries_name_of_a_line_comes_before_that_of_a_model() -> None:
    assert named("markov") == [("markov", "markov", {}, {})]
    assert named(["small"]) == named(["sasrec"])
    assert named(["srgnn"]) == [("srgnn", "srgnn", {}, {})]


def test_entries_model_with_two_lines_stands_for_both() -> None:
    known = [Entry("a", "markov"), Entry("b", "markov", {"backoff": 0.0})]
    assert [entry.name for entry in entries_of(["markov"], known)] == ["a", "b"]
    for ask in (lambda: entry_of("markov", known), lambda: entries_of([("mine", "markov")], known)):
        with pytest.raises(ValueError, match=r"^'markov' stands for a, b: name one of them\.$"):
            ask()
    assert entries_of([("mine", "b")], known) == [Entry("mine", "markov", {"backoff": 0.0})]


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_channels": 16, "max_epochs": 3},
        {"arguments": {"hidden_channels": 16}, "fit": {"max_epochs": 3}},
    ],
)
def test_entries_settings_change_those_that_are_known(settings: dict[str, Any]) -> None:
    assert named([("small", settings)]) == [
        ("small", "sasrec", {"hidden_channels": 16}, {"max_epochs": 3})
    ]


def test_entries_labels_name_lines_and_classes_and_instances() -> None:
    built = gs.models.Popularity(5)
    models = {
        "one": "small",
        "two": ("srgnn", {"hidden_channels": 4}),
        "three": Mine,
        "four": built,
    }
    pairs = [(e.name, e.model) for e in entries_of(models, KNOWN)]
    assert pairs[:2] == [("one", "sasrec"), ("two", "srgnn")]
    assert pairs[2] == ("three", f"{__name__}.Mine")
    assert pairs[3] == ("four", "popularity")
    (pair,) = entries_of([("mine", Mine, {"hidden_channels": 8})])
    assert (pair.name, pair.own, pair.arguments) == ("mine", Mine, {"hidden_channels": 8})
    assert [e.name for e in entries_of(Mine)] == ["Mine"]


def test_entries_line_given_twice_is_one_line() -> None:
    assert named(["small", "markov", "small"]) == named(["small", "markov"])


def test_entries_labels_of_any_script_are_told_apart() -> None:
    lines = entries_of({"モデル一": "markov", "モデル二": "popularity", "Größe_1": "srgnn"})
    assert [line.slug for line in lines] == ["モデル一", "モデル二", "größe-1"]


def test_entries_loss_with_arguments_becomes_plain() -> None:
    (entry,) = entries_of([("srgnn", {"loss": gs.SampledLoss("bpr_max", num_negatives=7)})])
    assert entry.fit["loss"]["name"] == "bpr_max"
    assert entry.training.loss == gs.SampledLoss("bpr_max", num_negatives=7)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["gru5rec"], r"no model 'gru5rec'.*markov, plain.*srgnn"),
        ([("srgnn", {"hiden": 3})], r"no setting 'hiden'.*hidden_channels.*max_epochs"),
        ([("srgnn", {"max_epochs": 0})], "max_epochs must be at least 1"),
        ([("srgnn", {"fit": {"epochs": 1}})], "no setting 'epochs'"),
        ([("small", {"dropout": 0.1}), "small"], "called 'small' and 'small'.*label"),
        ({"a b": "markov", "a-b": "small"}, "'a b' and 'a-b'"),
        ([], "needs a model"),
        ([3], "got 3"),
        (3, "got 3"),
        ([("markov", "popularity", "srgnn")], r"got \('markov', 'popularity', 'srgnn'\)"),
        ([("small", {"fit": 3})], "'fit' of small maps names to values, got 3"),
        ([("x", gs.models.Popularity(5), {"k": 1})], "built already"),
    ],
)
def test_entries_what_is_wrong_is_said(models: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        entries_of(models, KNOWN)


def test_entry_that_is_drawn_has_other_weights_for_another_seed() -> None:
    (entry,) = entries_of([("sasrec", {"hidden_channels": 4})])
    weights = [entry.new_model(5, seed).items.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    state = torch.random.get_rng_state()
    entry.new_model(5, 3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_entry_counting_and_trained_models_are_not_drawn(ring: gs.Split) -> None:
    trained = gs.models.SASRec(ring.num_items, 4)
    assert [e.is_drawn for e in entries_of(["markov", "small", trained, Mine], KNOWN)] == [
        False,
        True,
        True,
        True,
    ]
    trained.attach(ring.catalog)
    (entry,) = entries_of([trained])
    assert not entry.is_drawn
    assert entry.new_model(ring.num_items, 0) is trained


def test_entry_instance_is_copied_before_it_is_trained() -> None:
    built = gs.models.SASRec(5, 4)
    (entry,) = entries_of([built])
    copied = entry.new_model(5, 0)
    assert copied is not built
    assert torch.equal(copied.items.weight, built.items.weight)


def test_entry_settings_differ_with_weights_and_source() -> None:
    first, second = (Entry("a", "x", own=gs.models.SASRec(5, 4)) for _ in range(2))
    assert first.settings != second.settings  # drawn one after the other
    assert Entry("a", "x", own=Mine).settings["source"] is not None
    assert Entry("a", "x", own=Mine).settings != Entry("a", "x", own=gs.models.SRGNN).settings


def test_entry_arguments_that_do_not_fit_are_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"markov cannot be built: .*hidden"):
        Entry("markov", "markov", {"hidden_channels": 3}).new_model(5, 0)
