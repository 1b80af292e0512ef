"""Session-kNN: scores items by the sessions of the log that share items with the current one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_not_negative
from graphseq.data.logs.times import Duration, half_life_of
from graphseq.models.counting.counting import CountingModel, Evidence, last_visit
from graphseq.models.counting.lists import (
    entries_of,
    highest,
    row_sums,
    sparse_rows,
    weighted_sums,
)
from graphseq.models.use import inference
from graphseq.ragged import ptr_of
from graphseq.typing import Floats, Ints

OLDEST = 2**31 - 1
"""More clicks than a session has."""


class SessionKNN(CountingModel):
    r"""Base class of session-kNN models: the log as two sparse tables, neighbors, summed scores.

    The newest ``sample_size`` sessions of the log with an item of the current session are its
    candidates. The ``k`` most similar of them are its neighbors :math:`N_s`; equally similar ones
    are ordered by recency. Then

    .. math::
        \hat y_{sj} = \sum_{n \in N_s,\, j \in n} \mathrm{sim}(s, n) \, m(s, n) \, p(j, n)
            \, (1 + \omega \, \mathrm{idf}_j) + \beta \frac{c_j}{N}, \qquad
        \mathrm{idf}_j = \ln \frac{\text{sessions}}{\text{sessions with } j}

    A family defines the weights: :meth:`click_weight` and :meth:`similarity` for clicks in the
    similarity, :meth:`match_weight` for the newest common item, and :meth:`place_weight` for
    positions in the neighbor. Items of the session itself are scored like all others.

    With ``half_life`` :math:`h`, a candidate's similarity is multiplied by
    :math:`2^{-\Delta t / h}`, with :math:`\Delta t` the time by which it is older than the newest
    candidate of the session. The newest candidate always counts in full, so that a month without
    clicks does not reduce the weight of neighbors. Sessions that ended after the current time count
    as if they ended at it.

    The state has 8 bytes per distinct item of each session, and 4 bytes for each of the
    ``sample_size`` newest sessions per item. A session that is not among them for any item of the
    current session cannot be a candidate, so this limit is exact. An item of the current session
    with weight zero gives no candidates.

    Scoring processes sessions in blocks that read at most
    :data:`~graphseq.models.use.inference.MOST_ENTRIES` entries of these lists at once, or the
    entries of one session; a session's scores do not depend on the block.

    Args:
        num_items: Items of the catalog.
        k: Number of neighbors per session.
        sample_size: Number of candidates per session.
        half_life: A candidate that is older than the newest one by this time counts half. In the
            unit of click times (for seconds also text as ``"30min"`` or a timedelta) or, in a log
            without times, in sessions. ``None``: no decay. The current time is the time of the
            session's last click, or the end of the log without it.
        idf_weight: Weight :math:`\omega` of rare items.
        last_clicks: Number of last clicks of the current session that count; ``None``: all.
        backoff: Weight :math:`\beta` of the share of training clicks; 0: items that no neighbor
            clicked get ``-inf``.

    Raises:
        ValueError: If an argument is out of its range.
    """

    num_roundings = 512  # an item may get a term of every neighbor
    in_main_memory = (
        "session_ptr",
        "session_item",
        "session_place",
        "session_time",
        "item_ptr",
        "item_session",
        "item_sessions",
    )

    session_ptr: Tensor
    session_item: Tensor
    session_place: Tensor
    session_time: Tensor
    item_ptr: Tensor
    item_session: Tensor
    item_sessions: Tensor

    def __init__(
        self,
        num_items: int,
        k: int,
        sample_size: int,
        half_life: Duration | None,
        idf_weight: float,
        last_clicks: int | None,
        backoff: float,
    ) -> None:
        super().__init__(num_items)
        for name, number in (("k", k), ("sample_size", sample_size)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1 session, got {number}.")
        if last_clicks is not None and last_clicks < 1:
            raise ValueError(f"last_clicks must be at least 1 click, or None, got {last_clicks}.")
        check_not_negative(idf_weight=idf_weight, backoff=backoff)
        self.k = k
        self.sample_size = sample_size
        self.half_life = half_life_of(half_life)
        self.reads_times = self.half_life is not None  # ages are those at the last click
        self.idf_weight = idf_weight
        self.last_clicks = last_clicks
        self.backoff = backoff
        # Sessions are numbered by recency, the newest is 0. Their items are distinct, each with the
        # position of its last click, from 1.
        self.set_buffer("session_ptr")  # [num_sessions + 1]
        self.set_buffer("session_item", dtype=torch.int)  # [num_entries]
        self.set_buffer("session_place", dtype=torch.int)  # [num_entries]
        self.set_buffer("session_time", dtype=torch.double)  # last click, [num_sessions] or [0]
        self.set_buffer("item_ptr")  # [num_items + 1]
        self.set_buffer("item_session", dtype=torch.int)  # newest first, at most sample_size
        self.set_buffer("item_sessions")  # how many sessions clicked it, [num_items]

    # -- what a family defines -----------------------------------------------------------------

    def click_weight(self, age: Tensor, length: Tensor) -> Tensor:
        """Weight of the current session's items.

        Args:
            age: Clicks since the last one on the item, including it, int64 [n]; 1: the newest.
            length: Number of clicks of its session, int64 [n].

        Returns:
            float64 [n].
        """
        raise AttributeError(f"{type(self).__name__} defines no click_weight.")

    def similarity(self, common: Tensor, total: Tensor, squares: Tensor, size: Tensor) -> Tensor:
        """Similarity of pairs of sessions.

        Args:
            common: Summed weights of the items in common, float64 [n].
            total: Distinct items of the current session, float64 [n].
            squares: Their summed squared weights, float64 [n].
            size: Distinct items of the session of the log, float64 [n].

        Returns:
            float64 [n].
        """
        raise AttributeError(f"{type(self).__name__} defines no similarity.")

    def match_weight(self, age: Tensor) -> Tensor:
        """Weight of a neighbor by the age of the newest item in common, int64 -> float64 [n]."""
        raise AttributeError(f"{type(self).__name__} defines no match_weight.")

    def place_weight(self, distance: Tensor) -> Tensor | None:
        """Weight of a neighbor's items by their distance to the last common item, in clicks."""
        return None

    # -- counting ------------------------------------------------------------------------------

    def count(
        self,
        items: NDArray[np.int64],
        session: NDArray[np.int64],
        time: NDArray[np.float64] | None,
    ) -> None:
        starts = np.flatnonzero(np.diff(session, prepend=-1))
        lengths = np.diff(np.append(starts, len(session)))
        num_sessions = len(starts)
        newest_first = np.arange(num_sessions)[::-1]
        if time is not None:
            end = time[starts + lengths - 1]
            newest_first = newest_first[np.argsort(-end[::-1], kind="stable")]
            self.set_buffer("session_time", end[newest_first])
        else:
            self.set_buffer("session_time", dtype=torch.double)
        number = np.empty(num_sessions, dtype=np.int64)
        number[newest_first] = np.arange(num_sessions)

        # Each item of each session once, with its last place: the last of equal keys.
        key = np.repeat(number, lengths) * self.num_items + items
        order = np.argsort(key, kind="stable")
        key = key[order]
        last = np.append(key[1:] != key[:-1], True)
        order, key = order[last], key[last]
        place = (order - np.repeat(starts, lengths)[order] + 1).astype(np.int32)
        size = np.bincount(key // self.num_items, minlength=num_sessions)
        ptr = ptr_of(size)
        item = (key % self.num_items).astype(np.int32)
        self.set_buffer("session_ptr", ptr)
        self.set_buffer("session_item", item)
        self.set_buffer("session_place", place)

        by_item = csr_matrix((place, item, ptr), (num_sessions, self.num_items)).tocsc()
        sessions = np.diff(by_item.indptr).astype(np.int64)
        rank = np.arange(by_item.nnz) - np.repeat(by_item.indptr[:-1], sessions)
        kept = rank < self.sample_size
        self.set_buffer("item_sessions", sessions)
        self.set_buffer("item_ptr", ptr_of(np.minimum(sessions, self.sample_size)))
        self.set_buffer("item_session", by_item.indices[kept].astype(np.int32))

    # -- scoring -------------------------------------------------------------------------------

    def neighbors(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The neighbors of every session, most similar first.

        Args:
            batch: Session graphs.

        Returns:
            For each pair, session by session: the session of the batch and the session of the log
            (0: the newest), int64; their similarity, float64; the age of the newest common item,
            and the position of the last common item in the neighbor, int64; [num_pairs] each.
        """
        parts: list[tuple[NDArray[Any], ...]] = []
        start = 0
        for near in self._neighborhoods(self._query(batch)):
            parts.append((near.row + start, near.session, near.similarity, near.age, near.place))
            start += len(near.query.total)
        kinds = (np.int64, np.int64, np.float64, np.int64, np.int64)
        return tuple(  # type: ignore[return-value]
            torch.from_numpy(np.concatenate([np.empty(0, kind), *values])).to(batch.x.device)
            for kind, *values in zip(kinds, *parts, strict=True)
        )

    def evidence(self, batch: Batch) -> Evidence:
        """Summed similarities of the neighbors that clicked the item.

        Args:
            batch: Session graphs; with ``click_time``, the last time is the current time.

        Raises:
            ValueError: If nothing was counted yet.
        """
        self.check_counted()
        neighborhoods = self._neighborhoods(self._query(batch))
        return Evidence(map(self._evidence, neighborhoods), self.backoff)

    def _query(self, batch: Batch) -> _Query:
        node, row, age = batch.x, batch.batch, last_visit(batch)
        length = batch.click_ptr.diff()
        if self.last_clicks is not None:
            recent = age <= self.last_clicks
            node, row, age = node[recent], row[recent], age[recent]
            length = length.clamp(max=self.last_clicks)
        weight = self.click_weight(age, length[row]).cpu()  # [num_nodes]
        row = row.cpu()
        total = torch.bincount(row, minlength=length.numel())
        squares = weight.new_zeros(length.numel()).index_add_(0, row, weight.square())
        now = None
        time = batch.get("click_time")
        if time is not None:
            now = time.double()[batch.click_ptr[1:] - 1].cpu().numpy()
        return _Query(
            ptr=ptr_of(total.numpy()),
            item=node.cpu().numpy(),
            age=age.cpu().numpy(),
            weight=weight.numpy(),
            total=total.double(),
            squares=squares,
            now=now,
        )

    def _neighborhoods(self, query: _Query) -> Iterator[_Neighborhood]:
        """The neighbors of all sessions, block by block, most similar first."""
        posted = self.item_session.numpy()

        def sessions(entry: Ints, item: Ints) -> tuple[NDArray[Any], Floats]:
            return posted[entry], np.ones(len(entry))

        num_sessions = self.session_ptr.numel() - 1
        commons = weighted_sums(
            query.ptr, query.item, query.weight, self.item_ptr.numpy(), sessions, num_sessions
        )
        for rows, common in commons:
            part = query.rows(rows)
            row, session, similarity = self._nearest(part, common)
            pair_ptr = np.searchsorted(row, np.arange(common.shape[0] + 1))
            clicks = np.diff(ptr_of(self._sizes(session))[pair_ptr])
            most = max(1, inference.MOST_ENTRIES // (len(part.item) + 1))
            for few in inference.blocks(clicks, most, inference.MOST_ENTRIES):
                pairs = slice(pair_ptr[few.start], pair_ptr[few.stop])
                yield self._neighborhood(
                    part.rows(few), row[pairs] - few.start, session[pairs], similarity[pairs]
                )

    def _nearest(self, query: _Query, common: csr_matrix) -> tuple[Ints, Ints, Floats]:
        """Row, session of the log and similarity of the neighbors, most similar first."""
        count = np.diff(common.indptr)
        row = np.repeat(np.arange(len(count)), count)
        session, weight = common.indices.astype(np.int64), common.data
        rank = np.arange(len(row)) - np.repeat(common.indptr[:-1], count)
        if (rank >= self.sample_size).any():
            sampled = rank < self.sample_size
            row, session, weight, rank = (
                values[sampled] for values in (row, session, weight, rank)
            )
        similarity = self.similarity(
            torch.from_numpy(weight),
            query.total[row],
            query.squares[row],
            torch.from_numpy(self._sizes(session)).double(),
        ).numpy()
        if self.half_life is not None:
            age = self._age(query, row, session)
            newest = np.flatnonzero(rank == 0)  # of each row's candidates
            age -= np.repeat(age[newest], np.diff(np.append(newest, len(age))))
            similarity = similarity * np.exp2(-age / self.half_life)
        kept = highest(row, similarity, self.k)
        row, session, similarity = row[kept], session[kept], similarity[kept]
        order = np.lexsort((-similarity, row))  # stable: equal ones by recency
        return row, session[order], similarity[order]

    def _sizes(self, session: Ints) -> Ints:
        """Distinct items of sessions of the log, int64 [n]."""
        ptr = self.session_ptr.numpy()
        size: Ints = ptr[session + 1] - ptr[session]
        return size

    def _age(self, query: _Query, row: Ints, session: Ints) -> Floats:
        """Ages of sessions of the log, relative to sessions of the batch, float64 [n]."""
        if self.session_time.numel() == 0:
            return session.astype(np.float64)
        end = self.session_time.numpy()
        now = end[0] if query.now is None else query.now[row]
        return np.maximum(now - end[session], 0.0)

    def _neighborhood(
        self, query: _Query, row: Ints, session: Ints, similarity: Floats
    ) -> _Neighborhood:
        # A table of the age of each item in the session, for the items of neighbors.
        own, column = np.unique(query.item, return_inverse=True)
        column_of = np.zeros(self.num_items, dtype=np.int32)  # 0: in none of these sessions
        column_of[own] = np.arange(1, len(own) + 1)
        num_rows, width = len(query.total), len(own) + 1
        newness = np.zeros((num_rows, width), dtype=np.int32)  # 0: not in this session
        newness[np.repeat(np.arange(num_rows), np.diff(query.ptr)), column + 1] = OLDEST - query.age

        entry, ptr = entries_of(self.session_ptr.numpy(), session)
        item, place = self.session_item.numpy().take(entry), self.session_place.numpy().take(entry)
        cell = column_of.take(item) + np.repeat(row * width, np.diff(ptr))
        found = newness.reshape(-1).take(cell)
        first = ptr[:-1]  # no list of clicks is empty
        return _Neighborhood(
            query=query,
            row=row,
            session=session,
            similarity=similarity,
            age=OLDEST - np.maximum.reduceat(found, first).astype(np.int64),
            place=np.maximum.reduceat(place * (found > 0), first),
            ptr=ptr,
            item=item,
            item_place=place,
        )

    def _evidence(self, near: _Neighborhood) -> csr_matrix:
        """The summed weights of the neighbors' items: [num_rows, num_items]."""
        num_rows, num_pairs = len(near.query.total), len(near.row)
        value = near.similarity * self.match_weight(torch.from_numpy(near.age)).numpy()
        # Added from the largest: items with equal weights get bit-equal sums.
        order = np.lexsort((-value, near.row))
        distance = np.abs(near.item_place - np.repeat(near.place, np.diff(near.ptr)))
        # There are few distinct distances: each weight is computed once.
        farthest = 1 << int(distance.max(initial=0)).bit_length()
        place = self.place_weight(torch.arange(farthest))
        share = np.ones(len(distance)) if place is None else place.numpy().take(distance)
        if num_rows == 1:
            entry, end = entries_of(near.ptr, order)
            weight = np.repeat(value[order], np.diff(end)) * share[entry]
            sums = row_sums(weight, near.item[entry], self.num_items)
        else:
            row_ptr = np.searchsorted(near.row, np.arange(num_rows + 1))
            weights = sparse_rows(value[order], order, row_ptr, (num_rows, num_pairs))
            sums = weights @ sparse_rows(share, near.item, near.ptr, (num_pairs, self.num_items))
        if self.idf_weight > 0:
            with_item = self.item_sessions.numpy()[sums.indices]
            idf = np.log((self.session_ptr.numel() - 1) / with_item)
            sums.data *= 1 + self.idf_weight * idf
        return sums

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, with the half-life as a number."""
        return {**super().settings, "half_life": self.half_life}

    def __repr__(self) -> str:
        settings = self.settings
        named = (f"{name}={settings[name]!r}" for name in settings if name != "num_items")
        return f"{type(self).__name__}({self.num_items}, {', '.join(named)})"


@dataclass(frozen=True)
class _Query:
    """Sessions of a batch: their distinct items, and the inputs of their similarities."""

    ptr: Ints  # first item of each session, and the end
    item: Ints
    age: Ints  # clicks since the last one on the item
    weight: Floats
    total: Tensor  # distinct items of each session
    squares: Tensor  # their summed squared weights
    now: Floats | None  # the current time of each session

    def rows(self, rows: slice) -> _Query:
        """Some consecutive sessions."""
        ptr = self.ptr[rows.start : rows.stop + 1]
        items = slice(ptr[0], ptr[-1])
        return _Query(
            ptr=ptr - ptr[0],
            item=self.item[items],
            age=self.age[items],
            weight=self.weight[items],
            total=self.total[rows],
            squares=self.squares[rows],
            now=None if self.now is None else self.now[rows],
        )


@dataclass(frozen=True)
class _Neighborhood:
    """The neighbors of some sessions of a batch, session by session, and all of their clicks."""

    query: _Query
    row: Ints  # the session of each pair, from 0
    session: Ints  # of the log
    similarity: Floats
    age: Ints  # of the newest item in common
    place: NDArray[np.int32]  # of the last item in common
    ptr: Ints  # first item of each neighbor, and the end
    item: NDArray[np.int32]
    item_place: NDArray[np.int32]
