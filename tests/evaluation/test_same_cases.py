"""Reports are compared on the same test cases alone, not on cases of the same shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import graphseq as gs
from graphseq.evaluation import Report, differences
from graphseq.evaluation.targets import fingerprint_of

LISTS = [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "c", "b"]]
SESSIONS = gs.Sessions.from_lists(LISTS)


def report_on(sessions: gs.Sessions, exclude_seen: bool = False) -> Report:
    model = gs.models.MarkovChain(3)
    gs.fit(model, SESSIONS)
    return gs.evaluate(model, sessions, exclude_seen=exclude_seen)


def of(lists: list[list[str]]) -> gs.Sessions:
    return gs.Sessions.from_lists(lists, vocabulary=SESSIONS.vocabulary)


@pytest.mark.parametrize(
    "other",
    [
        of(LISTS[::-1]),
        of([["b", "a", "c"], *LISTS[1:]]),
        of([["a", "b", "x"], *LISTS[1:]]),
    ],
    ids=["permuted", "other clicks", "unknown target"],
)
def test_reports_on_other_sessions_of_the_same_shape_are_not_compared(other: gs.Sessions) -> None:
    one, two = report_on(SESSIONS), report_on(other)
    assert one.ranks[["session", "position"]].equals(two.ranks[["session", "position"]])
    with pytest.raises(
        ValueError, match=r"of 8 and 8 cases that are not the same \(\w{12} and \w{12}\)"
    ):
        one.compare(two, "mrr")


def test_reports_on_the_same_sessions_in_other_codes_are_compared(tmp_path: Path) -> None:
    backwards = SESSIONS.with_vocabulary(SESSIONS.vocabulary.subset([2, 1, 0]))
    assert not np.array_equal(backwards.items, SESSIONS.items)
    one, two = report_on(SESSIONS), report_on(backwards)
    assert one.fingerprint == two.fingerprint == fingerprint_of(SESSIONS)
    assert one.compare(two, "mrr").difference == 0
    one.save(tmp_path / "report")
    loaded = Report.load(tmp_path / "report")
    assert loaded.fingerprint == one.fingerprint
    assert loaded.compare(two, "mrr").difference == 0


def test_what_is_a_target_is_part_of_the_cases() -> None:
    last = replace(SESSIONS, first_target=np.full(4, 2))
    assert fingerprint_of(last) != fingerprint_of(SESSIONS)
    every = replace(SESSIONS, first_target=np.full(4, 1))
    assert fingerprint_of(every) == fingerprint_of(SESSIONS)


def test_ids_that_are_read_alike_are_other_items() -> None:
    numbers, text = ([[1, 2], [2, 1]], [["1", "2"], ["2", "1"]])
    assert fingerprint_of(gs.Sessions.from_lists(numbers)) != fingerprint_of(
        gs.Sessions.from_lists(text)
    )


def test_report_of_which_the_cases_are_not_known_is_compared_by_their_places() -> None:
    one = report_on(SESSIONS)
    assert one.compare(replace(one, fingerprint=""), "mrr").difference == 0


def test_reports_with_other_clusters_are_not_compared() -> None:
    of_two = gs.Sessions.from_lists(LISTS, users=["u", "v", "u", "v"])
    model = gs.models.MarkovChain(3)
    gs.fit(model, SESSIONS)
    by_session = gs.evaluate(model, of_two)
    by_user = gs.evaluate(model, of_two, cluster="user")
    for one, other, numbers in ((by_session, by_user, "4 and"), (by_user, by_session, "2 and")):
        with pytest.raises(ValueError, match=f"clusters of dependent cases .* are {numbers}"):
            one.compare(other, "mrr")
        with pytest.raises(ValueError, match="clusters of dependent cases"):
            differences({"one": one, "other": other}, "mrr")
    alone = gs.evaluate(model, gs.Sessions.from_lists(LISTS, users=list("zyxw")), cluster="user")
    assert by_session.compare(alone, "mrr").difference == 0  # every user has one session
