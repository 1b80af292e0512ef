"""Searches a split for leaks: every kind is counted and shown by examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.sessions.ragged import count_codes
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.split_parts import Split, require_split
from graphseq.evaluation import session_hashes
from graphseq.evaluation.inputs import require_model
from graphseq.evaluation.significance import mean_error
from graphseq.models.base import SessionModel

Verdict = Literal["ok", "note", "fault", "unknown"]

MOST_EXAMPLES = 3
"""Number of examples per finding."""

SESSION_GAP = 30 * 60.0
"""Seconds without a click after which a visit ends, the convention of web analytics."""

REPEATED = 0.1
"""Share of test targets, beyond that of training, above which inputs hold what is asked for."""

FEWEST_TARGETS = 20
"""Training targets with about as many clicks before them that a share in training needs."""

FEWEST_COMPARED = 5
"""Test targets that a comparison with training needs."""

UNLIKELY = 0.01
"""Expected chance coincidences below which two equal sessions count as copies of one."""


@dataclass(frozen=True)
class Finding:
    """The result of one check of an audit.

    Args:
        check: Name of the check.
        verdict: ``"ok"``; ``"note"``: found, but allowed by the protocol; ``"fault"``: metrics do
            not measure unseen data; ``"unknown"``: the data cannot show it.
        count: Number of cases that break the rule.
        total: Number of cases checked.
        says: The finding in one sentence.
        examples: Some of the cases that break the rule.
    """

    check: str
    verdict: Verdict
    count: int
    total: int
    says: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """The findings of an audit; ``audit(split) + audit_model(model, split)`` holds both.

    Args:
        findings: One per check.
    """

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether all checks passed without a fault."""
        return not self.faults

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are faults."""
        return tuple(finding for finding in self.findings if finding.verdict == "fault")

    def __getitem__(self, check: str) -> Finding:
        """The finding of the check with this name.

        Raises:
            KeyError: If there is no such check.
        """
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(
            f"There is no check {check!r}; the checks are {[f.check for f in self.findings]}."
        )

    def __add__(self, other: Audit) -> Audit:
        return Audit(self.findings + other.findings)

    def to_frame(self) -> pd.DataFrame:
        """One row per check: ``verdict``, ``count``, ``total``, ``says``, ``examples``."""
        rows = [
            vars(finding) | {"examples": "; ".join(finding.examples)} for finding in self.findings
        ]
        columns = ["check", "verdict", "count", "total", "says", "examples"]
        return pd.DataFrame(rows, columns=columns).set_index("check")

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, for a report or a ``results.json``."""
        rows = [vars(finding) | {"examples": list(finding.examples)} for finding in self.findings]
        return {"passed": self.passed, "findings": rows}

    def __repr__(self) -> str:
        verdict = "passed" if self.passed else "refuted: " + ", ".join(f.check for f in self.faults)
        return f"{type(self).__name__}({verdict}, checks={len(self.findings)})"


def audit(split: Split, model: SessionModel | None = None) -> Audit:
    """Searches a split for information about its test part that leaks into training.

    ======================== =====================================================================
    check                    fault if
    ======================== =====================================================================
    copies                   a test session is a training session
    prefixes                 a training session starts with a prefix of a test session that includes
                             a target, or with a whole test session
    shared sessions          training and test share a session id, except histories of which only
                             the end is tested
    cut sessions             note only: a user's visit continues from training into test
    future                   a training click is later than the first test session's end (note only
                             for splits that allow it: by user and at random)
    ties of time             note only: clicks of unknown order, within sessions and at the cut
    catalog                  an item without training clicks is ranked
    popularity               the counts that models know differ from the counts of training
    negatives                items without training clicks can be drawn as negatives
    core                     the test part decided which items exist: a k-core of the whole log
    targets in input         targets repeat the first click, the click right before, or any click
                             of their input far more often than training targets do
    duplicates               note only: clicks on one item at one time, training sessions twice
    ======================== =====================================================================

    Sessions with the same items at the same times are copies, unless training repeats itself in
    the same way, as a log of whole days does. A fault then needs more than twice as many of them as
    training repeats of itself. With equal items alone, it also needs sessions that are unlikely to
    coincide (fewer than 0.01 expected, by the popularity of their items).

    People return to items, so that targets in their input are no fault as such: in RetailRocket
    they are 38 %. They are compared with training targets that have about as many clicks before
    them (the same power of two), all targets and each session's last. A fault needs a share of 10 %
    of the targets, and four standard errors, beyond that in training.

    Args:
        split: Any split.
        model: A model whose catalog is compared with training; ``None``: the split's catalog.

    Raises:
        ValueError: If ``split`` is not a split, ``model`` is not a model, or a part is empty.
    """
    require_split(split)
    if model is not None:
        require_model(model)
    for name, part in (("training", split.train), ("test", split.test)):
        if part.num_sessions == 0:
            raise ValueError(f"There is nothing to audit: the {name} part of this split is empty.")
    checks: Sequence[Callable[[], list[Finding]]] = (
        lambda: _copies(split),
        lambda: _shared_sessions(split),
        lambda: _cut_sessions(split),
        lambda: _future(split),
        lambda: _ties_of_time(split),
        lambda: _catalog(split, model),
        lambda: _core(split),
        lambda: _targets_in_input(split),
        lambda: _duplicates(split),
    )
    return Audit(tuple(finding for check in checks for finding in check()))


# -- sessions of both parts --------------------------------------------------------------------


def _copies(split: Split) -> list[Finding]:
    """Test sessions that are in training whole, as a prefix, or with a prefix of their own."""
    train, test = split.train, split.test
    learned = session_hashes.of(train, timed=False)
    found = session_hashes.matches(session_hashes.of(test, timed=False), learned, same=False)
    usual = session_hashes.matches(learned, learned, same=True)
    counts = count_codes(train.items, train.num_items)
    bound = np.log(UNLIKELY) - np.log(float(train.num_sessions) * test.num_sessions)
    rare = session_hashes.unlikely(test, counts, bound)
    rare_train = session_hashes.unlikely(train, counts, bound)
    exact = tuple(np.zeros_like(kind) for kind in found)
    exact_train = tuple(np.zeros_like(kind) for kind in usual)
    timed = train.time is not None and test.time is not None
    if timed:
        asked, known = (session_hashes.of(part, timed=True) for part in (test, train))
        exact = session_hashes.matches(asked, known, same=False)
        exact_train = session_hashes.matches(known, known, same=True)

    def beyond(here: NDArray[np.bool_], own: NDArray[np.bool_]) -> tuple[bool, float]:
        """Whether more test sessions match than training lets expect, and how many it does."""
        expected = float(own.mean()) * test.num_sessions
        # Twice: the training data just before the test resembles it more than training resembles
        # itself.
        return bool(here.sum() > 2 * expected + 4 * expected**0.5), expected

    findings = []
    for check, said, here, own, sure, own_sure in zip(
        ("copies", "prefixes"),
        ("are training sessions", "start with, or are a prefix of, a training session"),
        found,
        usual,
        exact,
        exact_train,
        strict=True,
    ):
        unlikely = here & rare
        many, expected = beyond(unlikely, own & rare_train)
        at_times, usual_at_times = beyond(sure, own_sure)
        fault = many or at_times or beyond(sure & rare, own_sure & rare_train)[0]
        says = f"{int(here.sum()):,} of {test.num_sessions:,} test sessions {said}: "
        says += f"{int(sure.sum()):,} at the same times, " if timed else ""
        says += f"where {usual_at_times:,.0f} would be expected, " if sure.any() else ""
        says += (
            f"{int(unlikely.sum()):,} unlikely by chance, where {expected:,.0f} would be expected "
        )
        says += "from what training repeats of itself."
        shown = np.flatnonzero(sure if sure.any() else unlikely if unlikely.any() else here)
        verdict: Verdict = "fault" if fault else "note" if here.any() else "ok"
        examples = tuple(_session(test, number) for number in shown[:MOST_EXAMPLES])
        total = test.num_sessions
        findings.append(Finding(check, verdict, int(here.sum()), total, says, examples))
    return findings


def _shared_sessions(split: Split) -> list[Finding]:
    """Session ids in both parts, except histories that continue in the test."""
    train, test = split.train, split.test
    name = "shared sessions"
    if train.session_ids is None or test.session_ids is None:
        return [Finding(name, "unknown", 0, test.num_sessions, "The sessions have no ids.")]
    first = pd.Series(np.arange(train.num_sessions), index=pd.Index(train.session_ids))
    first = first[~first.index.duplicated()]
    owner = first.reindex(pd.Index(test.session_ids)).to_numpy(dtype=float, na_value=-1)
    shared = np.flatnonzero(owner >= 0)
    theirs = owner[shared].astype(np.int64)
    # The protocol of histories allows it: training holds the test session up to its targets, or
    # less.
    timed = train.time is not None and test.time is not None
    learned = session_hashes.of(train, timed=timed)
    asked = session_hashes.of(test, timed=timed)
    size = train.lengths[theirs]
    own = size <= test.targets_from[shared]
    last = test.ptr[shared] + np.minimum(size, test.lengths[shared]) - 1
    own &= asked.prefix[last] == learned.whole[theirs]
    wrong = shared[~own]
    says = (
        f"{len(wrong):,} of {test.num_sessions:,} test sessions have the id of a training session"
    )
    if own.any():
        says += f"; {int(own.sum()):,} more are histories whose beginning is in training"
    ids = pd.Index(test.session_ids)
    return [
        Finding(
            name,
            "fault" if len(wrong) else "ok",
            len(wrong),
            test.num_sessions,
            f"{says}.",
            tuple(f"session id {name!r}" for name in ids[wrong[:MOST_EXAMPLES]].tolist()),
        )
    ]


def _cut_sessions(split: Split) -> list[Finding]:
    """Test sessions that begin within the session gap after a training click of their user."""
    train, test = split.train, split.test
    name, total = "cut sessions", test.num_sessions
    if train.users is None or test.users is None:
        return [Finding(name, "unknown", 0, total, "There are no users.")]
    if train.time is None or test.time is None or _untimed(train, test):
        return [Finding(name, "unknown", 0, total, _untimed(train, test))]
    fresh = np.flatnonzero((test.users >= 0) & (test.targets_from <= 1))
    begins = pd.DataFrame(
        {"user": test.users[fresh], "time": test.time[test.ptr[:-1]][fresh], "session": fresh}
    )
    ends = pd.DataFrame({"user": train.users, "time": train.time[train.ptr[1:] - 1]})
    ends["end"] = ends["time"]
    before = pd.merge_asof(begins.sort_values("time"), ends.sort_values("time"), "time", by="user")
    near = before["time"] - before["end"] < SESSION_GAP
    cut = np.sort(before["session"][near].to_numpy())
    return [
        Finding(
            name,
            "note" if len(cut) else "ok",
            len(cut),
            total,
            f"{len(cut):,} of {total:,} test sessions begin within 30 minutes of their user's last "
            "training click: a visit that the split has cut.",
            tuple(_session(test, number) for number in cut[:MOST_EXAMPLES]),
        )
    ]


# -- time --------------------------------------------------------------------------------------


def _future(split: Split) -> list[Finding]:
    """Training clicks after the start of the test."""
    train, test = split.train, split.test
    total = train.num_clicks
    if train.time is None or test.time is None or _untimed(train, test):
        return [Finding("future", "unknown", 0, total, _untimed(train, test))]
    begins = _first_test_time(split)
    # A cut by the ends of sessions allows a test session to begin before the cut, during training.
    ends = float(test.time[test.ptr[1:] - 1].min())
    late = train.time > begins
    count, surely = int(late.sum()), int((train.time > ends).sum())
    claims = split.protocol.get("split") not in ("session", "leave_last")
    says = f"{count:,} of {total:,} training clicks are later than the first test click, "
    says += f"{surely:,} than the end of the first test session"
    if surely and not claims:
        says += ", as this kind of split has it: it measures no forecast"
    first = np.flatnonzero(late)[:MOST_EXAMPLES]
    owner = np.searchsorted(train.ptr, first, side="right") - 1
    verdict: Verdict = "fault" if surely and claims else "note" if count else "ok"
    examples = tuple(
        f"training session {session}, click {click - train.ptr[session]}: "
        f"{train.time[click] - begins:,.0f} s later"
        for session, click in zip(owner, first, strict=True)
    )
    return [Finding("future", verdict, count, total, f"{says}.", examples)]


def _untimed(train: Sessions, test: Sessions) -> str:
    """Why nothing can be said of times; empty if every click has one."""
    if train.time is None or test.time is None:
        return "There are no times."
    lacking = sum(int(np.isnan(part.time).sum()) for part in (train, test) if part.time is not None)
    return f"{lacking:,} clicks have no time (NaN)." if lacking else ""


def _first_own_click(split: Split, part: Sessions) -> NDArray[np.int64]:
    """The first click of each session that is in no earlier part, int64 [num_sessions].

    The clicks of a history before its targets are training clicks.
    """
    if split.protocol.get("split") == "leave_last":
        return part.targets_from
    return np.where(part.targets_from > 1, part.targets_from, 0)


def _first_test_time(split: Split) -> float:
    """The time of the first test click; for a history, of its first target."""
    test = split.test
    assert test.time is not None
    start = np.minimum(_first_own_click(split, test), test.lengths - 1)
    return float(test.time[test.ptr[:-1] + start].min())


def _ties_of_time(split: Split) -> list[Finding]:
    train, test = split.train, split.test
    total = train.num_clicks + test.num_clicks
    if train.time is None or test.time is None or _untimed(train, test):
        return [Finding("ties of time", "unknown", 0, total, _untimed(train, test))]
    tied = sum(int(_same_time(part).sum()) for part in (train, test))
    at_cut = int((train.time == _first_test_time(split)).sum())
    return [
        Finding(
            "ties of time",
            "note" if tied or at_cut else "ok",
            tied + at_cut,
            total,
            f"{tied:,} of {total:,} clicks have the time of the click before them, so that their "
            f"order is the file's; {at_cut:,} training clicks have the time of the first test "
            "click.",
        )
    ]


def _same_time(part: Sessions) -> NDArray[np.bool_]:
    """Clicks with the time of the click before them in their session, bool [num_clicks]."""
    assert part.time is not None
    same = np.zeros(part.num_clicks, dtype=bool)
    same[1:] = part.time[1:] == part.time[:-1]
    same[part.ptr[:-1]] = False
    return same


# -- items -------------------------------------------------------------------------------------


def _catalog(split: Split, model: SessionModel | None) -> list[Finding]:
    """Items, counts and negatives, which must come from training only."""
    train = split.train
    catalog = split.catalog if model is None else model.catalog
    if catalog is None:
        says = f"This {type(model).__name__} has no catalog: it was not trained by gs.fit."
        return [Finding(n, "unknown", 0, 0, says) for n in ("catalog", "popularity", "negatives")]
    true = count_codes(train.items, train.num_items)
    same = catalog.items == train.vocabulary
    codes = np.arange(len(true)) if same else train.vocabulary.encode(catalog.items.ids)
    counts = np.where(codes >= 0, true[codes], 0)
    never = np.flatnonzero(counts == 0)
    differs = np.flatnonzero(np.asarray(catalog.counts) != counts)
    total = len(counts)
    ids = catalog.items
    return [
        Finding(
            name,
            "fault" if len(wrong) else "ok",
            len(wrong),
            total,
            f"{len(wrong):,} of {total:,} items {said}.",
            tuple(
                f"item {ids.decode([item])[0]!r}: {int(catalog.counts[item])} for {counts[item]}"
                for item in wrong[:MOST_EXAMPLES]
            ),
        )
        for name, wrong, said in (
            ("catalog", never, "of the catalog have no training click"),
            ("popularity", differs, "have another count in the catalog than in training"),
            # A uniform draw takes every item of the catalog.
            ("negatives", never, "can be drawn as negatives, though training never clicks them"),
        )
    ]


def _core(split: Split) -> list[Finding]:
    """Whether items were filtered by their number of clicks in all parts together."""
    train = split.train
    counts = count_codes(train.items, train.num_items)
    together: NDArray[np.int64] = counts
    for part in (split.validation, split.test):
        if part is not None:
            position = np.arange(part.num_clicks) - np.repeat(part.ptr[:-1], part.lengths)
            new = position >= np.repeat(_first_own_click(split, part), part.lengths)
            items = np.asarray(part.items)[new]
            together = together + count_codes(items, train.num_items)
    least, size = int(together.min()), np.bincount(together)
    below = np.flatnonzero(counts < least)
    # A filter shows if the rarest count is the most common one, as in a log with a long tail.
    cut_off = least >= 2 and size[least] == size.max() and size[least] >= 3
    fault = bool(cut_off and len(below))
    says = f"{len(below):,} of {len(counts):,} items have fewer training clicks than any has in all"
    says += f" parts together ({least})"
    says += ": the log was filtered before it was split." if fault else "."
    return [
        Finding(
            "core",
            "fault" if fault else "ok",
            len(below) if fault else 0,
            len(counts),
            says,
            tuple(
                f"item {train.vocabulary.decode([item])[0]!r}: {counts[item]} in training, "
                f"{together[item]} in all"
                for item in (below[:MOST_EXAMPLES] if fault else ())
            ),
        )
    ]


def _targets_in_input(split: Split) -> list[Finding]:
    """Targets that repeat an item of their input, compared with training."""
    test, train = _Repeats(split.test), _Repeats(split.train)
    total = len(test.click)
    said, wrong = [], []
    for of, one, other in (("targets", test, train), ("last targets", test.last, train.last)):
        for kind in REPEATS:
            told, excess = _compared(one, other, kind)
            if of == "targets":
                said.append(told)
            if excess:
                wrong.append((excess, f"of {len(one.click):,} {of} {told}", one, kind))
    says = f"Of {total:,} test targets, {', '.join(said)}"
    which, kind = test, REPEATS[0]
    if wrong:
        _, told, which, kind = max(wrong, key=lambda found: found[0])
        says += f": the input holds what is asked for, {told}"
    shown = np.flatnonzero(which.repeated[kind])
    examples = tuple(which.example(target) for target in shown[: MOST_EXAMPLES if wrong else 0])
    verdict: Verdict = "fault" if wrong else "note" if len(shown) else "ok"
    return [
        Finding("targets in input", verdict, len(shown), len(which.click), f"{says}.", examples)
    ]


def _compared(test: _Repeats, train: _Repeats, kind: str) -> tuple[str, float]:
    """What is said of targets that repeat, and the share beyond training; 0: none to speak of."""
    repeated, total = test.repeated[kind], len(test.click)
    says = f"{int(repeated.sum()):,} {kind} ({100 * repeated.sum() / max(1, total):.1f} %"
    size = int(max(test.depth.max(initial=0), train.depth.max(initial=0))) + 1
    number = np.bincount(train.depth, minlength=size)
    usual = np.bincount(train.depth, train.repeated[kind], minlength=size) / np.maximum(1, number)
    known = number[test.depth] >= FEWEST_TARGETS  # [num_targets]
    if known.sum() < FEWEST_COMPARED:
        return f"{says}; too few to compare)", 0.0
    expected = usual[test.depth[known]]
    excess = repeated[known] - expected
    error, num_clusters = mean_error(excess, test.session[known])
    if num_clusters < 2:
        return f"{says}; in one session, too few to compare)", 0.0
    # If all cases are the same there is no spread, but still chance.
    least = float(np.sqrt((expected * (1 - expected)).sum())) / len(expected)
    beyond = float(excess.mean())
    fault = beyond > max(REPEATED, 4 * error, 4 * least)
    return f"{says}; {100 * expected.mean():.1f} % in training)", beyond if fault else 0.0


REPEATS = ("are in their own input", "are the click right before", "are its first click")
"""What is said of targets that repeat an item."""


class _Repeats:
    """The known targets of sessions, and which of them repeat an item of their input.

    Args:
        part: Sessions.

    Attributes:
        click, session: The click and session of each target, int64 [num_targets].
        depth: The power of two of the number of clicks before it, int64 [num_targets].
        repeated: By :data:`REPEATS`, bool [num_targets].
    """

    def __init__(self, part: Sessions) -> None:
        items = np.asarray(part.items)
        session = np.repeat(np.arange(part.num_sessions), part.lengths)
        position = np.arange(part.num_clicks) - part.ptr[session]
        target = (position >= np.maximum(part.targets_from, 1)[session]) & (items >= 0)
        order = np.lexsort((items, session))  # stable: in the order of time
        again = np.zeros(len(items), dtype=bool)
        same = (items[order][1:] == items[order][:-1]) & (session[order][1:] == session[order][:-1])
        again[order[1:]] = same
        self.part = part
        self.click = np.flatnonzero(target)
        self.session = session[self.click]
        self.depth = np.log2(position[self.click]).astype(np.int64)
        repeats = (
            again[self.click],
            items[self.click - 1] == items[self.click],
            items[part.ptr[self.session]] == items[self.click],
        )
        self.repeated = dict(zip(REPEATS, repeats, strict=True))

    @property
    def last(self) -> _Repeats:
        """Only the last target of each session."""
        found, chosen = copy(self), np.flatnonzero(np.diff(self.session, append=-1))
        for name in ("click", "session", "depth"):
            setattr(found, name, getattr(self, name)[chosen])
        found.repeated = {kind: each[chosen] for kind, each in self.repeated.items()}
        return found

    def example(self, target: int) -> str:
        """A target and the click that it repeats, as text."""
        start, click = self.part.ptr[self.session[target]], self.click[target]
        items = np.asarray(self.part.items)[start : click + 1]
        place = int(np.flatnonzero(items[:-1] == items[-1])[-1])
        shown = _session(self.part, self.session[target])
        return f"{shown}: its click {click - start} is click {place} again"


def _duplicates(split: Split) -> list[Finding]:
    train, test = split.train, split.test
    timed = train.time is not None
    clicks = 0
    for part in (train, test):
        if part.time is not None:
            items = np.asarray(part.items)
            same = _same_time(part)
            same[1:] &= items[1:] == items[:-1]
            clicks += int((same & (items >= 0)).sum())
    hashes = session_hashes.of(train, timed=timed).whole
    sessions = len(hashes) - len(np.unique(hashes))
    where = "items and times" if timed else "items; there are no times"
    return [
        Finding(
            "duplicates",
            "note" if clicks or sessions else "ok",
            clicks + sessions,
            train.num_clicks + test.num_clicks,
            f"{clicks:,} clicks repeat item and time of the click before them; {sessions:,} of "
            f"{train.num_sessions:,} training sessions are there before (same {where}).",
        )
    ]


def _session(part: Sessions, number: int) -> str:
    """A session as text, for an example."""
    clicks = part[int(number)]
    shown = ", ".join(map(repr, clicks[:6]))
    return f"test session {number}: [{shown}{', ...' if len(clicks) > 6 else ''}]"
