"""Arguments of the wrong type: every function of the data room names them and what to pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.arguments import check_annotated, flag

LISTS = [[1, 2, 3], [2, 3], [3, 1]]
TAKE_SESSIONS: dict[str, Callable[[Any], Any]] = {
    "session_split": gs.session_split,
    "leave_last_split": gs.leave_last_split,
    "temporal_split": lambda s: gs.temporal_split(s, test_days=1),
    "keep_min_length": gs.data.keep_min_length,
    "keep_min_support": gs.data.keep_min_support,
    "keep_newest": lambda s: gs.data.keep_newest(s, 2),
    "collapse_repeats": gs.data.collapse_repeats,
    "suggest_max_length": gs.suggest_max_length,
    "sliding_windows": lambda s: gs.data.sliding_windows(s, 2),
    "with_history": gs.data.with_history,
    "join_sessions": gs.data.join_sessions,
    "describe": gs.data.describe,
    "SessionGraphDataset": gs.SessionGraphDataset,
    "rolling_split": lambda s: gs.rolling_split(s, test_days=1),
}
TAKE_SPLITS = {"keep_min_length", "keep_min_support", "keep_newest", "collapse_repeats"}


@pytest.mark.parametrize("name", TAKE_SESSIONS)
@pytest.mark.parametrize("given", [LISTS, None])
def test_what_is_no_log_is_refused_by_its_type(name: str, given: Any) -> None:
    with pytest.raises(ValueError, match=rf"must be gs.Sessions, got {type(given).__name__}: gs"):
        TAKE_SESSIONS[name](given)


@pytest.mark.parametrize("name", [n for n in TAKE_SESSIONS if n not in TAKE_SPLITS])
def test_a_split_is_refused_with_the_part_to_pass(name: str) -> None:
    split = gs.session_split(gs.Sessions.from_lists(LISTS), 0.4)
    with pytest.raises(ValueError, match=r"must be gs.Sessions, got Split: pass .*split.train"):
        TAKE_SESSIONS[name](split)


def test_fixed_split_names_the_part_that_is_no_log() -> None:
    train = gs.Sessions.from_lists(LISTS)
    with pytest.raises(ValueError, match=r"train must be gs.Sessions, got list"):
        gs.fixed_split(LISTS, train)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1.5},
        {"batch_size": "5"},
        {"seed": -1},
        {"max_clicks": 2.5},
        {"batch_size": True},
    ],
)
def test_loader_takes_whole_numbers(options: dict[str, Any]) -> None:
    dataset = gs.SessionGraphDataset(gs.Sessions.from_lists(LISTS))
    (name,) = options
    with pytest.raises(ValueError, match=rf"{name} must be .*, got {options[name]}|got '5'"):
        gs.SessionGraphLoader(dataset, **options)


def test_loader_of_sessions_says_how_to_make_a_dataset() -> None:
    with pytest.raises(
        ValueError, match=r"must be a SessionGraphDataset, got Sessions: gs.Session"
    ):
        gs.SessionGraphLoader(gs.Sessions.from_lists(LISTS))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 1.5, "a", None])
def test_session_split_takes_a_whole_seed(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be"):
        gs.session_split(gs.Sessions.from_lists(LISTS), 0.4, seed=seed)


def test_flag_takes_truths_alone() -> None:
    assert flag("f", np.True_) is True
    assert flag("f", False) is False
    for value in ("no", 0, None, torch.tensor(True)):
        with pytest.raises(ValueError, match="f must be True or False, got"):
            flag("f", value)


def test_check_annotated_looks_at_plain_types_alone() -> None:
    kinds = {"a": "int", "b": "float | None", "c": "bool", "d": "Kind", "e": "int | str"}
    check_annotated(kinds, {"a": np.int64(3), "b": None, "c": True, "d": 1.5, "e": "x", "x": 1})
    check_annotated(kinds, {"b": np.float32(0.5)})
    check_annotated(kinds, {"b": 1})
    for wrong, said in (
        ({"a": 1.0}, "a must be a whole number, got 1.0"),
        ({"a": True}, "a must be a whole number, got True"),
        ({"a": None}, "a must be a whole number, got None"),
        ({"b": "1"}, "b must be a number or None, got '1'"),
        ({"b": False}, "b must be a number or None, got False"),
        ({"c": 1}, "c must be True or False, got 1"),
    ):
        with pytest.raises(ValueError, match=said):
            check_annotated(kinds, wrong)


@pytest.mark.parametrize("share", ["x", None, True, 0, 1.0, float("nan")])
def test_splits_take_shares(share: Any) -> None:
    sessions = gs.Sessions.from_lists(LISTS)
    with pytest.raises(ValueError, match="test_fraction is a share of the sessions, above 0 and"):
        gs.session_split(sessions, share)
    if share is not None:
        with pytest.raises(ValueError, match="validation is a share of the sessions, above 0 and"):
            gs.fixed_split(sessions, sessions, share)


@pytest.mark.parametrize(
    "name", ["num_sessions", "num_items", "mean_length", "drift", "pattern", "days", "seed"]
)
def test_generate_sessions_takes_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be a (whole )?number, got 'x'"):
        gs.generate_sessions(**{name: "x"})  # type: ignore[arg-type]


@pytest.mark.parametrize("shuffle", ["no", 1, None])
def test_loaders_take_truths_to_shuffle(shuffle: Any) -> None:
    dataset = gs.SessionGraphDataset(gs.Sessions.from_lists(LISTS))
    for options in ({}, {"max_clicks": 5}):
        with pytest.raises(ValueError, match="shuffle must be True or False, got"):
            gs.SessionGraphLoader(dataset, shuffle=shuffle, **options)
    whole = gs.SessionGraphDataset(gs.Sessions.from_lists(LISTS), samples="sessions")
    with pytest.raises(ValueError, match="shuffle must be True or False, got"):
        gs.SessionParallelLoader(whole, 2, shuffle=shuffle)
