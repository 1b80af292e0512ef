"""Sessions: the clicks of all sessions in flat arrays with one pointer (CSR)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from os import PathLike
from typing import Any, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from graphseq.data.logs.conversion import convert
from graphseq.data.logs.errors import missing_rows
from graphseq.data.logs.events import check_feature_names, plain_array, session_fields
from graphseq.data.logs.ids import id_column
from graphseq.data.logs.lists import read_lists
from graphseq.data.logs.memory import column_of
from graphseq.data.logs.source import Log, LogOptions
from graphseq.data.logs.times import Duration
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.fingerprint import fingerprint
from graphseq.data.sessions.item_table import check_columns, join_tables, take_rows
from graphseq.data.sessions.ragged import count_codes, session_numbers, window_clicks
from graphseq.data.sessions.statistics import statistics_of
from graphseq.data.sessions.vocabulary import Vocabulary, as_index
from graphseq.data.storage import as_saved, open_sessions, save_sessions
from graphseq.ragged import ptr_of


@dataclass(frozen=True, eq=False)
class Sessions:
    """Ragged sessions: session ``s`` is ``items[ptr[s]:ptr[s + 1]]``, oldest click first.

    Made by :meth:`from_frame`, :meth:`from_lists`, :meth:`from_events` and similar methods. Arrays
    can be memory-mapped and are never modified. Arrays of another type are converted where this
    changes no value.

    Args:
        items: Item codes of all clicks, int32 [num_clicks]; -1: not in ``vocabulary``.
        ptr: First click of each session, and the end, int64 [num_sessions + 1].
        vocabulary: Ids of the items.
        time: Seconds since 1970 (or the log's own unit) of each click, float64 [num_clicks].
        users: User code of each session, int32 [num_sessions]; -1: unknown.
        user_vocabulary: Ids of the users.
        click_features: Name -> value of each click, [num_clicks].
        feature_vocabularies: Name -> ids behind the codes of a categorical click feature.
        item_features: One row per item in code order, with columns named by text.
        session_ids: The log's own name of each session, [num_sessions]; text in Arrow's memory.
        first_target: Position of the first target in each session, int64 [num_sessions]; ``None``:
            1 for all sessions, so that every prefix counts.
        listed: Items that stay in the catalog without a click, bool [num_items]; see
            :meth:`with_items`. ``None``: none.

    Raises:
        ValueError: If the arrays do not match.
    """

    items: NDArray[np.int32]
    ptr: NDArray[np.int64]
    vocabulary: Vocabulary
    time: NDArray[np.float64] | None = None
    users: NDArray[np.int32] | None = None
    user_vocabulary: Vocabulary | None = None
    click_features: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    feature_vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict)
    item_features: pd.DataFrame | None = None
    session_ids: NDArray[Any] | pd.api.extensions.ExtensionArray | None = None
    first_target: NDArray[np.int64] | None = None
    listed: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        # Only shapes and ends are checked: reading all values would load a whole memory-mapped log.
        shapes_fit = self.items.ndim == 1 and self.ptr.ndim == 1 and self.ptr.size > 0
        if not shapes_fit or self.items.dtype != np.int32 or self.ptr.dtype != np.int64:
            raise ValueError(
                "Sessions need items int32 [num_clicks] and ptr int64 [num_sessions + 1], got "
                f"{self.items.dtype} {list(self.items.shape)} and {self.ptr.dtype} "
                f"{list(self.ptr.shape)}: from_ragged makes them."
            )
        if self.ptr[0] != 0 or self.ptr[-1] != self.num_clicks:
            raise ValueError(
                f"ptr must run from 0 to the number of clicks, {self.num_clicks}, got "
                f"{self.ptr[0]}..{self.ptr[-1]}."
            )
        for name in ("time", "users", "first_target", "listed"):
            if getattr(self, name) is not None:  # frozen, and not yet seen by anyone
                object.__setattr__(self, name, as_saved(name, getattr(self, name)))
        object.__setattr__(self, "click_features", _click_features(self.click_features))
        if self.item_features is not None:
            check_columns(self.item_features)
        per_click = {"time": self.time, **self.click_features}
        named = ("users", "session_ids", "first_target")
        per_session = {name: getattr(self, name) for name in named}
        for fields, size, unit in (
            (per_click, self.num_clicks, "value per click"),
            (per_session, self.num_sessions, "value per session"),
            (
                {"item_features": self.item_features, "listed": self.listed},
                self.num_items,
                "row per item",
            ),
        ):
            for name, v in fields.items():
                if v is not None and len(v) != size:
                    raise ValueError(f"Sessions.{name} needs one {unit}: {size}, got {len(v)}.")

    # -- making them ---------------------------------------------------------------------------

    @classmethod
    def from_ragged(
        cls,
        item_ids: Iterable[Any],
        ptr: ArrayLike,
        *,
        vocabulary: Vocabulary | None = None,
        **fields: Any,
    ) -> Sessions:
        """Sessions of flat item ids and a pointer.

        Args:
            item_ids: Ids of all clicks, session after session, [num_clicks].
            ptr: First click of each session, and the end, [num_sessions + 1].
            vocabulary: Known item ids; others become -1. ``None``: the ids that occur.
            **fields: Any further field of :class:`Sessions`.

        Raises:
            ValueError: If there is no session, an empty one, or a missing item id; or if no item is
                known, since all ids have another type.
        """
        ptr = as_saved("ptr", ptr)
        if ptr.size < 2:
            raise ValueError("There is no session in this log: it needs at least one click.")
        steps = np.diff(ptr)
        if ptr[0] != 0:
            raise ValueError(f"ptr must start at 0, got {ptr[0]}.")
        if (steps <= 0).any():
            bad = int(np.argmax(steps <= 0))
            raise ValueError(
                f"ptr must grow at every step, but session {bad} spans clicks "
                f"{ptr[bad]}..{ptr[bad + 1]} ({int((steps <= 0).sum())} such in all): leave empty "
                "sessions out."
            )
        item_ids = id_column(column_of(item_ids, "item"))
        if vocabulary is None:
            vocabulary, codes = Vocabulary.factorize(item_ids)
            if codes.size and codes.min() < 0:
                raise ValueError(missing_rows("item", codes < 0, unit="click"))
        else:
            codes = vocabulary.encode(item_ids, what="items")
        if len(codes) != ptr[-1]:
            raise ValueError(f"ptr ends at {ptr[-1]}, but there are {len(codes)} clicks.")
        return cls(codes.astype(np.int32), ptr, vocabulary, **fields)

    @classmethod
    def concat(cls, parts: Sequence[Sessions]) -> Sessions:
        """The sessions of all parts, one part after the other, in one vocabulary.

        Parts of one log keep their codes. Otherwise the vocabulary of the first part comes first,
        followed by the new ids of the next parts. Users and values of click features are joined in
        the same way. An item has the features of the first part that knows it.

        Args:
            parts: At least one part; a part without sessions contributes only its vocabulary.

        Raises:
            ValueError: If there is no part, one is not a :class:`Sessions`, or one has times,
                users, session ids or click features and another does not.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("concat needs at least one part, got none.")
        for number, part in enumerate(parts):
            only_sessions(f"parts[{number}]", part)
        first = parts[0]
        fields = {
            "click features": lambda part: sorted(part.click_features),
            "times": lambda part: part.time is not None,
            "users": lambda part: part.users is not None,
            "a user_vocabulary": lambda part: part.user_vocabulary is not None,
            "session ids": lambda part: part.session_ids is not None,
            "feature_vocabularies": lambda part: sorted(part.feature_vocabularies),
        }
        for what, of in fields.items():
            for number, part in enumerate(parts):
                if of(part) != of(first):
                    raise ValueError(
                        f"All parts have the same fields, but parts[0] and parts[{number}] differ "
                        f"in {what}: {of(first)} and {of(part)}."
                    )
        if len(parts) == 1:
            return first
        items = first.vocabulary.extended([part.vocabulary for part in parts[1:]], "items")
        table = join_tables(items, [(part.vocabulary, part.item_features) for part in parts])
        parts = [replace(part, item_features=None).with_vocabulary(items) for part in parts]
        users = first.user_vocabulary
        if users is not None:
            others = [part.user_vocabulary for part in parts if part.user_vocabulary is not None]
            users = users.extended(others, "users")
            parts = [part.with_user_vocabulary(users) for part in parts]
        values = {
            name: ids.extended([p.feature_vocabularies[name] for p in parts], f"values of {name!r}")
            for name, ids in first.feature_vocabularies.items()
        }
        parts = [part.with_feature_vocabularies(values) for part in parts]
        listed = None
        if any(part.listed is not None for part in parts):
            marks = [part.listed for part in parts if part.listed is not None]
            listed = np.logical_or.reduce(marks)
        told = any(part.first_target is not None for part in parts)
        ends = np.cumsum([0, *(part.num_clicks for part in parts)])
        names = None
        if first.session_ids is not None:
            named, *more = (as_index(part.session_ids) for part in parts)  # type: ignore[arg-type]
            names = plain_array(named.append(more))
        return replace(
            first,
            items=np.concatenate([part.items for part in parts]),
            ptr=np.concatenate(
                [[0], *(part.ptr[1:] + end for part, end in zip(parts, ends, strict=False))]
            ),
            vocabulary=items,
            time=_joined([part.time for part in parts]),
            users=_joined([part.users for part in parts]),
            user_vocabulary=users,
            click_features={
                name: np.concatenate([part.click_features[name] for part in parts])
                for name in first.click_features
            },
            feature_vocabularies=values,
            item_features=table,
            session_ids=names,
            first_target=_joined([part.targets_from for part in parts]) if told else None,
            listed=listed,
        )

    @classmethod
    def from_lists(
        cls,
        sessions: Any,
        *,
        vocabulary: Vocabulary | None = None,
        users: Sequence[Any] | None = None,
    ) -> Sessions:
        """Sessions of lists of item ids, oldest click first.

        Args:
            sessions: One list, array, tensor or column of item ids per session; an array or tensor
                [num_sessions, num_clicks]; or a column of lists of pandas, polars or Arrow.
            vocabulary: Known item ids; others become -1. ``None``: the ids that occur.
            users: The user of each session.

        Raises:
            ValueError: If there is no session, one is empty or missing, or an item id is missing or
                of a type that cannot be saved. The message gives its position. Also if no item is
                known, since all ids have another type.
        """
        items, ptr = read_lists(sessions)
        fields: dict[str, Any] = {}
        if users is not None:
            named = id_column(column_of(users, "users"))
            if len(named) != len(ptr) - 1:
                raise ValueError(
                    f"users needs one user per session: {len(ptr) - 1}, got {len(named)}."
                )
            fields["user_vocabulary"], codes = Vocabulary.factorize(named)
            fields["users"] = codes.astype(np.int32)
        return cls.from_ragged(items, ptr, vocabulary=vocabulary, **fields)

    @classmethod
    def from_frame(
        cls,
        log: Log,
        *,
        session: str = "session_id",
        item: str = "item_id",
        time: str | None = None,
        user: str | None = None,
        gap: Duration | None = None,
        features: Sequence[str] = (),
        item_features: pd.DataFrame | Sequence[str] | None = None,
        out: str | PathLike[str] | None = None,
        **options: Any,
    ) -> Sessions:
        """Sessions of a log with one click per row, or with one session per row.

        Clicks of one session are ordered by time; clicks of equal time keep the log's order.
        Without ``time`` the order of the log is kept. Only the named columns are read.

        Args:
            log: A frame of pandas or polars, a table of Arrow, a relation of DuckDB, or any other
                object with Arrow's stream. Also a list of dicts or a dict of columns. Or files: a
                path, a list of paths, a glob or a folder (``day=3/`` is a column ``day``). Formats
                are Parquet, CSV and its variants, and JSON lines, compressed or not.
            session, item, time, user: Names of its columns; time as dates (without a zone: UTC) or
                as numbers (seconds, or see ``time_unit``). A session whose user is missing has
                user -1. Where items are lists, each row is a session, and lists of times and
                features belong to them; ``events.aid`` is a part of a list of objects.
            gap: Longest pause within a session, as ``"30min"`` or in seconds; a session with a
                longer pause is split, and its parts keep its name.
            features: Columns that describe the click: numbers stay numbers, all else gets codes
                (-1: missing).
            item_features: Columns that describe the item (its first click decides), or a frame
                indexed by item id.
            out: A folder to build the sessions in, for a log larger than memory; see
                :func:`graphseq.data.logs.conversion.convert`.
            **options: How the log is read, see :class:`~graphseq.data.logs.source.LogOptions`:
                ``names``, ``separator``, ``encoding``, ``quote``, ``null_values``, ``ids``,
                ``time_unit``, ``time_format``, ``bad_lines``, ``item_separator``.

        Raises:
            ValueError: If it is not a log or is empty, or a column is missing (existing ones are
                listed). Also if a value is missing or cannot be read (rows are counted and named),
                numbers cannot be seconds, a session has two users, or a file is damaged or
                truncated.
            TypeError: If there is no such option.
        """
        columns: dict[str, Any] = {
            "session": session,
            "item": item,
            "time": time,
            "user": user,
            "gap": gap,
            "features": features,
            "item_features": item_features,
        }
        return cls._from_log(log, out, columns, options)

    @classmethod
    def from_events(
        cls,
        log: Log,
        *,
        user: str | Sequence[str] = "user_id",
        item: str = "item_id",
        time: str = "timestamp",
        gap: Duration | None = "30min",
        features: Sequence[str] = (),
        item_features: pd.DataFrame | Sequence[str] | None = None,
        out: str | PathLike[str] | None = None,
        **options: Any,
    ) -> Sessions:
        """Sessions from a log of users, split where a user was inactive for longer than ``gap``.

        Each session keeps its user and its time: see :meth:`session_table`.

        Args:
            log: The log, one event per row: anything that :meth:`from_frame` takes.
            user, item, time: Names of its columns. ``user`` may be several columns, as
                ``["user_id", "cookie"]``: the first one with a value determines the user of a row.
                Ids of the other columns are prefixed with the column name, as ``"cookie=7"``,
                because cookie 7 is not user 7.
            gap: The longest pause within a session, as ``"30min"`` or in seconds; ``None``: one
                session per user.
            features, item_features, out, options: As in :meth:`from_frame`.

        Raises:
            ValueError: As :meth:`from_frame`; or if ``gap`` is not positive.
            TypeError: If there is no such option.
        """
        columns: dict[str, Any] = {
            "session": None,
            "item": item,
            "time": time,
            "user": user,
            "gap": gap,
            "features": features,
            "item_features": item_features,
        }
        return cls._from_log(log, out, columns, options)

    @classmethod
    def _from_log(
        cls,
        log: Log,
        out: str | PathLike[str] | None,
        columns: dict[str, Any],
        options: dict[str, Any],
    ) -> Sessions:
        reading = LogOptions.from_options(options)
        if out is None:
            return cls(**session_fields(log, **columns, options=reading))
        convert(log, out, **columns, options=reading)
        return cls.open(out, verify=False)

    @classmethod
    def from_parquet(cls, log: Log, out: str | PathLike[str], **columns: Any) -> Sessions:
        """What ``out=`` does; see :func:`graphseq.data.logs.conversion.convert`."""
        convert(log, out, **columns)
        return cls.open(out, verify=False)

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes all fields to a folder; see :func:`graphseq.data.storage.save_sessions`."""
        save_sessions(vars(self), folder)

    @classmethod
    def open(cls, folder: str | PathLike[str], *, verify: bool = True) -> Sessions:
        """Saved sessions, memory-mapped; see :func:`graphseq.data.storage.open_sessions`."""
        return open_sessions(folder, cls, verify=verify)

    # -- reading them --------------------------------------------------------------------------

    @property
    def num_sessions(self) -> int:
        return len(self.ptr) - 1

    @property
    def num_clicks(self) -> int:
        return len(self.items)

    @property
    def num_items(self) -> int:
        return len(self.vocabulary)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Clicks of each session, int64 [num_sessions]."""
        return np.diff(self.ptr)

    @property
    def session_index(self) -> NDArray[np.int64]:
        """The session of each click, int64 [num_clicks]."""
        return np.repeat(np.arange(self.num_sessions), self.lengths)

    @property
    def targets_from(self) -> NDArray[np.int64]:
        """``first_target`` of every session, also if it is ``None``: int64 [num_sessions]."""
        if self.first_target is None:
            return np.ones(self.num_sessions, dtype=np.int64)
        return self.first_target

    @property
    def num_targets(self) -> int:
        """Number of targets: the clicks from ``first_target`` on in every session."""
        return int(np.maximum(self.lengths - self.targets_from, 0).sum())

    def __len__(self) -> int:
        return self.num_sessions

    @overload
    def __getitem__(self, index: int) -> list[Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sessions: ...

    def __getitem__(self, index: int | slice) -> list[Any] | Sessions:
        """The item ids of one session; for a slice, its sessions.

        ``None`` stands for a click outside the vocabulary.

        Raises:
            IndexError: If there is no such session.
            TypeError: If it is neither a number nor a slice.
        """
        if isinstance(index, slice):
            return self.select(np.arange(*index.indices(len(self))))
        if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
            raise TypeError(
                f"Sessions are asked for by a number or a slice, as sessions[3] or sessions[2:5], "
                f"got {type(index).__name__}: sessions.select takes numbers and masks."
            )
        if not -len(self) <= index < len(self):
            raise IndexError(f"Session {index} does not exist: there are {len(self)}.")
        index %= len(self)
        codes = self.items[self.ptr[index] : self.ptr[index + 1]]
        known = codes >= 0
        ids: list[Any] = [None] * len(codes)
        for position, value in zip(
            np.flatnonzero(known).tolist(), self.vocabulary.decode(codes[known]), strict=True
        ):
            ids[position] = value
        return ids

    def __iter__(self) -> Iterator[list[Any]]:
        return (self[index] for index in range(len(self)))

    def with_item_features(self, table: pd.DataFrame | pd.Series) -> Sessions:
        """The same sessions with features of their items.

        Args:
            table: One row per item, indexed by item id, in any order. Items without a row get
                missing values, and rows of unknown items are ignored. It replaces existing
                features.

        Raises:
            ValueError: If an item has two rows, or no item of the sessions has one.
        """
        table = table.to_frame() if isinstance(table, pd.Series) else table
        row = Vocabulary(table.index).encode(self.vocabulary.ids, what="items of the sessions")
        if len(row) and (row < 0).all():
            raise ValueError(
                f"No item of these sessions has a row in the table: its index has "
                f"{table.index[:1].tolist()}, the sessions have {self.vocabulary.ids[:1].tolist()}."
            )
        return replace(self, item_features=take_rows(table, row))

    def with_items(self, items: Any) -> Sessions:
        """The same sessions with more items in their catalog, which need no clicks.

        A model of these sessions knows the items, with a training count of 0: a neural model can
        score them, and does so better with item features. Splits and filters keep these items, so
        that a test click on one is known.

        Args:
            items: Ids of items, in any order, including clicked items. Or a frame indexed by item
                id, whose columns are item features and replace existing features of these items.

        Raises:
            ValueError: If an item is given twice, or ids have another type than the sessions' ids.
        """
        table = None
        if isinstance(items, pd.DataFrame):
            table, items = items, items.index
        given = Vocabulary(id_column(column_of(items, "items")))
        vocabulary = self.vocabulary.extended([given], "items")
        listed = np.zeros(len(vocabulary), dtype=bool)
        if self.listed is not None:
            listed[: self.num_items] = self.listed
        listed[vocabulary.encode(given.ids)] = True
        known = [(given, table), (self.vocabulary, self.item_features)]
        bare = replace(self, item_features=None, listed=None).with_vocabulary(vocabulary)
        return replace(bare, item_features=join_tables(vocabulary, known), listed=listed)

    def to_lists(self) -> list[list[Any]]:
        """One list of item ids per session; ``None`` stands for a click outside the vocabulary."""
        known = self.vocabulary.ids.tolist()
        ids = np.fromiter([*known, None], dtype=object, count=len(known) + 1)
        flat, ptr = ids[self.items].tolist(), self.ptr.tolist()
        return [flat[start:stop] for start, stop in pairwise(ptr)]

    def to_frame(self) -> pd.DataFrame:
        """One click per row: ``session_id``, ``item_id``, ``time``, ``user_id``, features.

        Users without a vocabulary are their codes; an unknown user is a missing value.

        Raises:
            ValueError: If a click feature has the name of another column, and other values.
        """
        columns: dict[str, Any] = {
            "session_id": self.session_index
            if self.session_ids is None
            else self.session_ids[self.session_index],
            "item_id": self.vocabulary.column(self.items),
        }
        if self.time is not None:
            columns["time"] = np.asarray(self.time)
        if self.users is not None:
            columns["user_id"] = self._user_ids(self.users[self.session_index])
        for name, values in self.click_features.items():
            vocabulary = self.feature_vocabularies.get(name)
            column = np.asarray(values) if vocabulary is None else vocabulary.column(values)
            if name in columns and not pd.Series(columns[name]).equals(pd.Series(column)):
                raise ValueError(
                    f"The frame has a column {name!r} already, and a click feature of this name "
                    "has other values: read the log with another name for the feature."
                )
            columns[name] = column
        return pd.DataFrame(columns)

    def _user_ids(self, codes: NDArray[np.int32]) -> pd.Series:
        """Ids of users as a column; where users have no vocabulary, their codes are their ids."""
        known = self.user_vocabulary
        if known is None:
            known = Vocabulary.from_unique(pd.RangeIndex(int(codes.max(initial=-1)) + 1))
        return known.column(codes)

    def session_table(self) -> pd.DataFrame:
        """One row per session, in their order, with user and times.

        Returns:
            Columns ``session_id`` (the log's own name, else the number), with users ``user_id``,
            with times ``start`` and ``end`` in seconds, and ``clicks``.
        """
        table: dict[str, Any] = {
            "session_id": np.arange(self.num_sessions)
            if self.session_ids is None
            else self.session_ids
        }
        if self.users is not None:
            table["user_id"] = self._user_ids(self.users)
        if self.time is not None:
            table["start"] = np.asarray(self.time[self.ptr[:-1]])
            table["end"] = np.asarray(self.time[self.ptr[1:] - 1])
        return pd.DataFrame({**table, "clicks": self.lengths})

    def catalog(self) -> Catalog:
        """Items, training counts, users and features of these sessions."""
        counts = count_codes(self.items, self.num_items)
        features = self.item_features, self.feature_vocabularies
        return Catalog(self.vocabulary, counts, self.user_vocabulary, *features)

    def describe(self) -> pd.DataFrame:
        """Statistics, one per row: see :func:`graphseq.data.describe`."""
        return statistics_of(self)

    def fingerprint(self) -> str:
        """SHA-256 over clicks, sessions, targets, times, users, click features and all ids.

        Equal for equal data only; session ids and item features do not count. A memory-mapped log
        is read completely.
        """
        return fingerprint(
            {
                "items": self.items,
                "ptr": self.ptr,
                "first_target": self.targets_from,
                "time": self.time,
                "users": self.users,
                **{f"click_{name}": values for name, values in self.click_features.items()},
            },
            {
                "items": self.vocabulary,
                "users": self.user_vocabulary,
                **{f"click_{name}": ids for name, ids in self.feature_vocabularies.items()},
            },
        )

    # -- cutting them --------------------------------------------------------------------------

    def select(self, index: ArrayLike) -> Sessions:
        """These sessions, in the order given.

        Args:
            index: Session numbers, int [n], or a mask, bool [num_sessions].
        """
        index = session_numbers(index, self.num_sessions)
        return self.window(index, np.zeros(len(index), dtype=np.int64), self.lengths[index])

    def window(self, index: ArrayLike, start: ArrayLike, stop: ArrayLike) -> Sessions:
        """Clicks ``start..stop-1`` of these sessions; ``first_target`` is adjusted.

        Adjacent whole sessions in their old order stay views of these arrays; anything else is
        copied.

        Args:
            index: Session numbers, int [n], or a mask, bool [num_sessions].
            start, stop: Positions within the session, int [n], ``start < stop``.

        Raises:
            ValueError: If a session does not exist, or a window is empty or outside its session.
        """
        index = session_numbers(index, self.num_sessions)
        start, stop = np.asarray(start, dtype=np.int64), np.asarray(stop, dtype=np.int64)
        ptr, clicks = window_clicks(self.ptr, index, start, stop)
        return replace(
            self,
            items=self.items[clicks],
            ptr=ptr,
            time=None if self.time is None else self.time[clicks],
            users=None if self.users is None else self.users[index],
            click_features={k: v[clicks] for k, v in self.click_features.items()},
            session_ids=None if self.session_ids is None else self.session_ids[index],
            first_target=(
                None
                if self.first_target is None
                else np.maximum(self.first_target[index] - start, 1)
            ),
        )

    def keep_clicks(self, keep: NDArray[np.bool_]) -> Sessions:
        """The clicks where ``keep`` [num_clicks] is true; empty sessions are dropped.

        ``first_target`` counts the clicks that are kept, so that the same clicks stay targets.

        Raises:
            ValueError: If ``keep`` is not a mask over all clicks.
        """
        keep = np.asarray(keep)
        if keep.dtype != bool or keep.shape != self.items.shape:
            raise ValueError(
                f"keep must be bool [{self.num_clicks}], got {keep.dtype} {list(keep.shape)}."
            )
        kept = ptr_of(keep)
        lengths = np.diff(kept[self.ptr])
        sessions = lengths > 0
        first_target = None
        if self.first_target is not None:
            boundary = np.minimum(self.ptr[:-1] + self.first_target, self.ptr[1:])
            first_target = np.maximum(kept[boundary] - kept[self.ptr[:-1]], 1)[sessions]
        return replace(
            self,
            items=self.items[keep],
            ptr=ptr_of(lengths[sessions]),
            time=None if self.time is None else self.time[keep],
            users=None if self.users is None else self.users[sessions],
            click_features={k: v[keep] for k, v in self.click_features.items()},
            session_ids=None if self.session_ids is None else self.session_ids[sessions],
            first_target=first_target,
        )

    def with_vocabulary(self, vocabulary: Vocabulary) -> Sessions:
        """The same sessions in the codes of another vocabulary; unknown items become -1.

        Raises:
            ValueError: If none of the items is in it, and all have another type.
        """
        if vocabulary is self.vocabulary:
            return self
        table = self.vocabulary.map_to(vocabulary, "items").astype(np.int32)
        item_features, listed = None, None
        if self.item_features is not None or self.listed is not None:
            row = self.vocabulary.encode(vocabulary.ids)
        if self.item_features is not None:
            item_features = take_rows(self.item_features, row)
        if self.listed is not None:
            listed = np.append(self.listed, False)[row]
        return replace(
            self,
            items=table[self.items],
            vocabulary=vocabulary,
            item_features=item_features,
            listed=listed,
        )

    def with_user_vocabulary(self, vocabulary: Vocabulary | None) -> Sessions:
        """The same sessions in another vocabulary of users; unknown users become -1.

        Raises:
            ValueError: If none of the users is in it, and all have another type.
        """
        if vocabulary is None or self.users is None or self.user_vocabulary is None:
            return replace(self, users=None, user_vocabulary=None)
        if vocabulary is self.user_vocabulary:
            return self
        table = self.user_vocabulary.map_to(vocabulary, "users").astype(np.int32)
        return replace(self, users=table[self.users], user_vocabulary=vocabulary)

    def with_feature_vocabularies(self, vocabularies: Mapping[str, Vocabulary]) -> Sessions:
        """The same sessions with values of click features in the codes of other vocabularies.

        Args:
            vocabularies: Name of a categorical click feature -> its values; unknown values become
                -1. Names that these sessions do not have are ignored.

        Raises:
            ValueError: If no value of a feature is in it, and all have another type.
        """
        features, owned = dict(self.click_features), dict(self.feature_vocabularies)
        for name, vocabulary in vocabularies.items():
            ours = owned.get(name)
            if ours is None or ours is vocabulary or ours == vocabulary:
                continue
            table = ours.map_to(vocabulary, f"values of {name!r}").astype(np.int32)
            features[name], owned[name] = table[features[name]], vocabulary
        if owned == dict(self.feature_vocabularies):
            return self
        return replace(self, click_features=features, feature_vocabularies=owned)

    def in_codes_of(self, catalog: Catalog) -> Sessions:
        """The implementation of :meth:`Catalog.encode`."""
        own = self.item_features
        if self.vocabulary != catalog.items:
            recoded = replace(self, item_features=None).with_vocabulary(catalog.items)
            tables = [(self.vocabulary, own), (catalog.items, catalog.item_features)]
            recoded = replace(recoded, item_features=join_tables(catalog.items, tables))
        else:
            recoded = replace(self, item_features=catalog.item_features if own is None else own)
        if catalog.users is not None and catalog.users != self.user_vocabulary:
            recoded = recoded.with_user_vocabulary(catalog.users)
        return recoded.with_feature_vocabularies(catalog.click_vocabularies)

    def drop_unused_items(self) -> Sessions:
        """The same sessions with a vocabulary of items that occur or are :attr:`listed`."""
        used = count_codes(self.items, self.num_items) > 0
        if self.listed is not None:
            used |= self.listed
        if used.all():
            return self
        return self.with_vocabulary(self.vocabulary.subset(np.flatnonzero(used)))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_sessions={self.num_sessions}, "
            f"num_clicks={self.num_clicks}, num_items={self.num_items})"
        )


def _click_features(given: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
    """Click features as arrays of numbers; raises for other values and for names that are taken."""
    check_feature_names(given)
    found = {
        name: values if isinstance(values, np.ndarray) else np.asarray(values)
        for name, values in given.items()
    }
    for name, values in found.items():
        if not isinstance(name, str) or values.ndim == 0 or values.dtype.kind not in "iufb":
            raise ValueError(
                f"A click feature has a name that is text and one number per click, got {name!r} "
                f"with {values.dtype} {list(values.shape)}: Vocabulary.factorize makes codes."
            )
    return found


def _joined(values: Sequence[Any]) -> Any:
    return None if values[0] is None else np.concatenate(values)


def only_sessions(name: str, value: Any) -> None:
    """Raises unless the value is :class:`Sessions`.

    Raises:
        ValueError: If it is not; the message names the argument and shows how to make sessions.
    """
    if isinstance(value, Sessions):
        return
    way_out = "gs.Sessions.from_frame reads a log, gs.Sessions.from_lists lists of item ids"
    if hasattr(value, "train") and hasattr(value, "test"):
        way_out = f"pass one of its parts, as {name}=split.train"
    raise ValueError(f"{name} must be gs.Sessions, got {type(value).__name__}: {way_out}.")
