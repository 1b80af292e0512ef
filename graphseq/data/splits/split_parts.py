"""The parts of a split: the vocabulary of training, and a report of unknown items."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions, only_sessions
from graphseq.data.sessions.vocabulary import as_index
from graphseq.ragged import ragged_arange
from graphseq.typing import Ints

logger = logging.getLogger(__name__)

REPORT_COLUMNS = (
    "sessions",
    "clicks",
    "items",
    "targets",
    "unknown_items",
    "unknown_clicks",
    "unknown_targets",
    "targets_without_history",
    "sessions_without_target",
    "sessions_too_short",
)


@dataclass(frozen=True, eq=False)
class Split:
    """Training, test and optional validation sessions, in the codes of the training items.

    Made by :func:`~graphseq.data.splits.splits.temporal_split`,
    :func:`~graphseq.data.splits.splits.leave_last_split`,
    :func:`~graphseq.data.splits.splits.session_split` and
    :func:`~graphseq.data.splits.splits.fixed_split`. In test and validation, items outside training
    have the code -1: they are kept, and are misses as targets.

    Args:
        train: Training data; its vocabularies hold only what occurs in it.
        test: Sessions whose clicks from ``first_target`` on are to be predicted.
        validation: Like ``test``, taken from the training part.
        report: One row per part (``train``, ``validation``, ``test``) with the columns

            - ``sessions``, ``clicks``, ``items`` that occur, and ``targets``;
            - ``unknown_items``, ``unknown_clicks``, ``unknown_targets``: not in training;
            - ``targets_without_history``: targets with no known click before them;
            - ``sessions_without_target``: sessions that are kept but predict nothing;
            - ``sessions_too_short``: sessions that stay in training, because they have no click for
              a target of this part.
        protocol: A description of the split in plain values: its name, arguments, and cut.

    Raises:
        ValueError: If the parts do not share one vocabulary.
    """

    train: Sessions
    test: Sessions
    validation: Sessions | None = None
    report: pd.DataFrame = field(default_factory=pd.DataFrame)
    protocol: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ours = self.train.vocabulary
        for name, part in (("test", self.test), ("validation", self.validation)):
            if part is not None and part.vocabulary is not ours and part.vocabulary != ours:
                raise ValueError(
                    f"All parts of a split share the items of training, but {name} has a "
                    f"vocabulary of {part.num_items} items and training one of "
                    f"{self.train.num_items}: fixed_split(train, test, validation) brings them "
                    "together."
                )

    @property
    def num_items(self) -> int:
        return self.train.num_items

    @property
    def catalog(self) -> Catalog:
        """Items, counts and users of the training part."""
        return self.train.catalog()

    def map_parts(
        self, change: Callable[[Sessions], Sessions], *, train_only: bool = False
    ) -> Split:
        """The split with changed parts, in the codes of the changed training part.

        For changes of single sessions:
        ``split.map_parts(lambda part: part.with_item_features(table))``. Test clicks on items that
        are no longer in training are unknown, and the report counts them.

        Args:
            change: Function from a part to its new sessions.
            train_only: Whether test and validation are left unchanged.

        Raises:
            ValueError: If a part is left without a session or a target.
        """
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        changed = {
            name: part if part is None or (train_only and name != "train") else change(part)
            for name, part in parts.items()
        }
        train, test = changed["train"], changed["test"]
        assert train is not None
        assert test is not None
        found = assemble(train, test, changed["validation"], self.protocol)
        if len(self.report):
            # Clicks that were unknown before have lost their ids; sessions that were too short are
            # gone.
            before = self.report.loc[found.report.index]
            # Of how many items the clicks were that are left is not known: at most one each.
            left = pd.Series({name: _unknown_clicks(changed[name]) for name in before.index})
            lost = np.minimum(before["unknown_items"], left)
            for column in ("items", "unknown_items"):
                found.report[column] += lost
            found.report["sessions_too_short"] = before["sessions_too_short"]
        return found

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name}={0 if part is None else part.num_sessions}"
            for name, part in (
                ("train", self.train),
                ("validation", self.validation),
                ("test", self.test),
            )
        )
        return f"{type(self).__name__}({sizes}, num_items={self.num_items})"


def assemble(
    train: Sessions,
    test: Sessions,
    validation: Sessions | None,
    protocol: Mapping[str, Any],
    too_short: Mapping[str, int] | None = None,
) -> Split:
    """Recodes all parts to the items that occur in training, and makes the report.

    Args:
        train, test, validation: The parts, each with its own vocabularies.
        protocol: How the split was made.
        too_short: Part -> number of sessions that were too short to give it a target.

    Raises:
        ValueError: If a part is empty, has no target or nothing to learn from, features differ, or
            ids have another type.
    """
    require_sessions("train", train)
    if not (train.items >= 0).any():
        raise ValueError("The training part has no known click: nothing can be learnt from it.")
    parts = {"train": train, "validation": validation, "test": test}
    shrunk = _shrunk(train)
    shared: dict[str, Sessions] = {}
    rows: dict[str, dict[str, int]] = {}
    for name, part in parts.items():
        if part is None:
            continue
        require_sessions(name, part)
        after = shrunk if name == "train" else _in_codes_of(shrunk, part, name)
        after = replace(after, first_target=np.maximum(after.targets_from, 1))
        row = _report_row(after)
        own = part.vocabulary.ids[_occurs(part.items, part.num_items)]
        row["items"] = len(own)
        row["unknown_items"] = int((shrunk.vocabulary.encode(own) < 0).sum())
        row["sessions_too_short"] = (too_short or {}).get(name, 0)
        if name != "train" and row["targets"] == 0:
            raise ValueError(
                f"The {name} part has no target: none of its {row['sessions']} sessions has a "
                "click to predict after its first one."
            )
        if name != "train" and row["unknown_clicks"] == row["clicks"]:
            clicked = np.unique(part.items)
            logger.warning(
                "No item of the %s part occurs in training: %r does not, %r does.",
                name,
                next(iter(part.vocabulary.decode(clicked[clicked >= 0][:1])), None),
                train.vocabulary.decode(np.unique(train.items)[-1:])[0],
            )
        shared[name], rows[name] = after, row
    report = pd.DataFrame.from_dict(rows, orient="index")[list(REPORT_COLUMNS)].astype(np.int64)
    return Split(shared["train"], shared["test"], shared.get("validation"), report, protocol)


def _unknown_clicks(part: Sessions | None) -> int:
    return 0 if part is None else int((np.asarray(part.items) < 0).sum())


def _report_row(part: Sessions) -> dict[str, int]:
    first = np.minimum(part.targets_from, part.lengths)
    row = {
        "sessions": part.num_sessions,
        "clicks": part.num_clicks,
        "targets": part.num_targets,
        "unknown_clicks": 0,
        "unknown_targets": 0,
        "targets_without_history": 0,
        "sessions_without_target": int((first >= part.lengths).sum()),
    }
    known = np.asarray(part.items) >= 0
    if known.all():
        return row
    click = np.arange(part.num_clicks)
    is_target = click >= np.repeat(part.ptr[:-1] + first, part.lengths)
    first_known = np.minimum.reduceat(np.where(known, click, part.num_clicks), part.ptr[:-1])
    no_history = click <= np.repeat(first_known, part.lengths)
    row["unknown_clicks"] = int((~known).sum())
    row["unknown_targets"] = int((~known & is_target).sum())
    row["targets_without_history"] = int((no_history & is_target).sum())
    return row


def _shrunk(train: Sessions) -> Sessions:
    """Training sessions with vocabularies of only what occurs in them."""
    train = train.drop_unused_items()
    if train.users is not None and train.user_vocabulary is not None:
        used = _occurs(train.users, len(train.user_vocabulary))
        if not used.all():
            train = train.with_user_vocabulary(train.user_vocabulary.subset(np.flatnonzero(used)))
    vocabularies = dict(train.feature_vocabularies)
    for name, vocabulary in vocabularies.items():
        used = _occurs(train.click_features[name], len(vocabulary))
        if not used.all():
            vocabularies[name] = vocabulary.subset(np.flatnonzero(used))
    return train.with_feature_vocabularies(vocabularies)


def _in_codes_of(train: Sessions, part: Sessions, name: str) -> Sessions:
    """``part`` with the vocabularies (and the item features) of ``train``."""
    if set(train.click_features) != set(part.click_features) or set(
        train.feature_vocabularies
    ) != set(part.feature_vocabularies):
        raise ValueError(
            f"The click features of training are {sorted(train.click_features)} (with ids: "
            f"{sorted(train.feature_vocabularies)}), those of {name} "
            f"{sorted(part.click_features)} (with ids: {sorted(part.feature_vocabularies)}): read "
            "both with the same features."
        )
    part = replace(part.with_vocabulary(train.vocabulary), item_features=train.item_features)
    if train.user_vocabulary is not None or part.user_vocabulary is not None:
        part = part.with_user_vocabulary(train.user_vocabulary)
    return part.with_feature_vocabularies(train.feature_vocabularies)


def _occurs(codes: NDArray[Any], size: int) -> NDArray[np.bool_]:
    """Which of the codes ``0..size-1`` occur, bool [size]."""
    occurs = np.zeros(size + 1, dtype=bool)
    occurs[codes] = True  # -1 marks the place that is cut off
    return occurs[:size]


def require_split(value: Any) -> None:
    """Raises unless the value is a :class:`Split`.

    Raises:
        ValueError: If it is not; the message shows how to make one.
    """
    if not isinstance(value, Split):
        raise ValueError(
            f"split must be a gs.Split, got {type(value).__name__}: gs.temporal_split, "
            "gs.session_split and gs.leave_last_split make one of Sessions, gs.load_split of a "
            "data set's name."
        )


def require_own_ids(split: Split) -> None:
    """Raises if two parts contain the same session id.

    Parts of one history are allowed: the earlier part ends before the targets of the later one,
    which has the same clicks up to there.

    Raises:
        ValueError: If there is one; the message names the first id.
    """
    parts = {"training": split.train, "validation": split.validation, "test": split.test}
    named = [
        (name, part, as_index(part.session_ids))
        for name, part in parts.items()
        if part is not None and part.session_ids is not None
    ]
    for (first, earlier, ids), (second, later, others) in combinations(named, 2):
        mine, theirs = np.flatnonzero(ids.isin(others)), np.flatnonzero(others.isin(ids))
        pairs = pd.DataFrame({"id": ids[mine], "earlier": mine}).merge(
            pd.DataFrame({"id": others[theirs], "later": theirs}), on="id"
        )
        grown = _goes_on(earlier, pairs["earlier"].to_numpy(), later, pairs["later"].to_numpy())
        shared = pairs["id"][~grown].drop_duplicates()
        if len(shared):
            raise ValueError(
                f"The {first} and {second} parts share {len(shared):,} of their session ids, the "
                f"first is {shared.tolist()[0]!r}: split whole sessions, or pass shared_ids=True "
                "where each file numbers sessions of its own."
            )


def _goes_on(earlier: Sessions, mine: Ints, later: Sessions, theirs: Ints) -> NDArray[np.bool_]:
    """Whether each later session has the clicks of the earlier one before its targets, bool [n]."""
    lengths = earlier.lengths[mine]
    goes_on: NDArray[np.bool_] = lengths <= later.targets_from[theirs]
    some = np.flatnonzero(goes_on)
    lengths = lengths[some]
    same = (
        earlier.items[ragged_arange(earlier.ptr[mine[some]], lengths)]
        == later.items[ragged_arange(later.ptr[theirs[some]], lengths)]
    )
    wrong = np.repeat(some, lengths)[~same]
    goes_on[wrong] = False
    return goes_on


def require_sessions(name: str, sessions: Sessions) -> None:
    """Raises unless the value is sessions with at least one session.

    Raises:
        ValueError: If it is not; the message names the part.
    """
    only_sessions(name, sessions)
    if sessions.num_sessions == 0:
        raise ValueError(f"There is no session in {name}: every part needs at least one.")
