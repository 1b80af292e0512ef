"""The Split class: parts that do not match raise errors."""

import pytest

from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.split_parts import Split, assemble


def test_split_parts_of_other_vocabularies_says_so():
    train, test = Sessions.from_lists([["a", "b"]]), Sessions.from_lists([["b", "a"]])
    with pytest.raises(ValueError, match="test has a vocabulary of 2 items"):
        Split(train, test)


def test_split_parts_of_equal_vocabularies_are_taken():
    train, test = Sessions.from_lists([["a", "b"]]), Sessions.from_lists([["a", "b", "a"]])
    assert Split(train, test).num_items == 2


def test_assemble_training_without_known_click_says_so():
    test = Sessions.from_lists([["a", "b"]])
    train = Sessions.from_lists([["x", "y"]], vocabulary=test.vocabulary)
    with pytest.raises(ValueError, match="no known click"):
        assemble(train, test, None, {})


def test_assemble_sessions_of_unknown_items_remain():
    train = Sessions.from_lists([["a", "b"]])
    test = Sessions.from_lists([["x", "y"], ["a", "b"], ["x"]])
    split = assemble(train, test, None, {}, {"test": 7})
    assert split.test.to_lists() == [[None, None], ["a", "b"], [None]]
    assert split.report.loc["test", "sessions_without_target"] == 1
    assert split.report.loc["test", "sessions_too_short"] == 7
