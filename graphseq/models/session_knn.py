"""Session-kNN: sessions of the log that share items with the current one, and what they clicked."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.models.counting import CountingModel, last_visit
from graphseq.models.recommend import best
from graphseq.nn.ragged import ragged_range


class SessionKNN(CountingModel):
    r"""What session-kNN models share: the log as two sparse tables, neighbours, summed scores.

    The newest ``sample_size`` sessions of the log with an item of the current session are its
    candidates, the ``k`` most similar of them its neighbours :math:`N_s`; equally similar ones go
    by recency. Then

    .. math::
        \hat y_{sj} = \sum_{n \in N_s,\, j \in n} \mathrm{sim}(s, n) \, m(s, n) \, p(j, n)
            \, (1 + \omega \, \mathrm{idf}_j) + \beta \frac{c_j}{N}, \qquad
        \mathrm{idf}_j = \ln \frac{\text{sessions}}{\text{sessions with } j}

    with the weights that a family defines: of clicks in the similarity, :meth:`click_weight` and
    :meth:`similarity`; of the newest item in common, :meth:`match_weight`; of places in the
    neighbour, :meth:`place_weight`. Items of the session itself are scored like all others.

    The state is 8 bytes for each distinct item of each session, and as much again for the
    ``sample_size`` newest sessions of each item: a session that is not among them for any item of
    the current session is no candidate, so that nothing is lost by the cut.

    Args:
        num_items: Items of the catalogue.
        k: Neighbours of a session.
        sample_size: Candidates of a session.
        half_life: Time after which a session of the log counts half, in the unit of click times;
            where the log has none, in sessions counted back from its end. ``None``: no decay. The
            current time is that of the session's last click, or the log's end where it has none.
        idf_weight: Weight :math:`\omega` of rare items.
        last_clicks: Clicks at the end of the current session that count; ``None``: all.
        backoff: Weight :math:`\beta` of the share of training clicks; 0: what no neighbour clicked
            gets ``-inf``.

    Raises:
        ValueError: If an argument is out of its range.
    """

    num_roundings: ClassVar[int] = 512  # an item may get a term of every neighbour

    session_ptr: Tensor
    session_item: Tensor
    session_place: Tensor
    session_time: Tensor
    item_ptr: Tensor
    item_session: Tensor
    item_place: Tensor
    item_sessions: Tensor

    def __init__(
        self,
        num_items: int,
        k: int,
        sample_size: int,
        half_life: float | None,
        idf_weight: float,
        last_clicks: int | None,
        backoff: float,
    ) -> None:
        super().__init__(num_items)
        for name, number in (("k", k), ("sample_size", sample_size)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1 session, got {number}.")
        if half_life is not None and not 0 < half_life < math.inf:
            raise ValueError(f"half_life must be positive and finite, or None, got {half_life}.")
        if last_clicks is not None and last_clicks < 1:
            raise ValueError(f"last_clicks must be at least 1 click, or None, got {last_clicks}.")
        for name, value in (("idf_weight", idf_weight), ("backoff", backoff)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {value}.")
        self.k = k
        self.sample_size = sample_size
        self.half_life = half_life
        self.idf_weight = idf_weight
        self.last_clicks = last_clicks
        self.backoff = backoff
        # Sessions are numbered by recency, the newest is 0. Their items are distinct, each with the
        # place of its last click, from 1.
        self.set_buffer("session_ptr")  # [num_sessions + 1]
        self.set_buffer("session_item", dtype=torch.int)  # [num_entries]
        self.set_buffer("session_place", dtype=torch.int)  # [num_entries]
        self.set_buffer("session_time", dtype=torch.double)  # last click, [num_sessions] or [0]
        self.set_buffer("item_ptr")  # [num_items + 1]
        self.set_buffer("item_session", dtype=torch.int)  # newest first, at most sample_size
        self.set_buffer("item_place", dtype=torch.int)  # of the item in that session
        self.set_buffer("item_sessions")  # how many sessions clicked it, [num_items]

    # -- what a family defines -----------------------------------------------------------------

    def click_weight(self, age: Tensor, length: Tensor) -> Tensor:
        """Weight of the current session's items.

        Args:
            age: Clicks since the last one on the item, that one included, int64 [n]; 1: the newest.
            length: Clicks of its session, int64 [n].

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
        """Weight of a neighbour by the age of the newest item in common, int64 -> float64 [n]."""
        raise AttributeError(f"{type(self).__name__} defines no match_weight.")

    def place_weight(self, distance: Tensor) -> Tensor | None:
        """Weight of a neighbour's items by their distance to the last one in common, in clicks."""
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
        ptr = np.concatenate(([0], np.cumsum(size)))
        item = (key % self.num_items).astype(np.int32)
        self.set_buffer("session_ptr", ptr)
        self.set_buffer("session_item", item)
        self.set_buffer("session_place", place)

        by_item = csr_matrix((place, item, ptr), (num_sessions, self.num_items)).tocsc()
        sessions = np.diff(by_item.indptr).astype(np.int64)
        rank = np.arange(by_item.nnz) - np.repeat(by_item.indptr[:-1], sessions)
        kept = rank < self.sample_size
        self.set_buffer("item_sessions", sessions)
        self.set_buffer(
            "item_ptr", np.concatenate(([0], np.cumsum(np.minimum(sessions, self.sample_size))))
        )
        self.set_buffer("item_session", by_item.indices[kept].astype(np.int32))
        self.set_buffer("item_place", by_item.data[kept])

    # -- scoring -------------------------------------------------------------------------------

    def neighbors(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The neighbours of every session, most similar first.

        Args:
            batch: Session graphs.

        Returns:
            For each pair, session by session: the session of the batch and that of the log (0: the
            newest), int64; their similarity, float64; the age of the newest item in common, and the
            place of the last one in the neighbour, int64; [num_pairs] each.
        """
        node, row, age = batch.x, batch.batch, last_visit(batch)
        length = batch.click_ptr.diff()
        if self.last_clicks is not None:
            recent = age <= self.last_clicks
            node, row, age = node[recent], row[recent], age[recent]
            length = length.clamp(max=self.last_clicks)
        weight = self.click_weight(age, length[row])  # [num_nodes]
        pair_row, session, pair, source, place = self._candidates(row, node)

        common = weight.new_zeros(session.numel()).index_add_(0, pair, weight[source])
        total = torch.bincount(row, minlength=length.numel()).double()
        squares = weight.new_zeros(length.numel()).index_add_(0, row, weight.square())
        size = (self.session_ptr[session + 1] - self.session_ptr[session]).double()
        similarity = self.similarity(common, total[pair_row], squares[pair_row], size)
        similarity = similarity * self._freshness(batch, pair_row, session)
        newest = torch.full_like(session, torch.iinfo(torch.long).max)
        newest.scatter_reduce_(0, pair, age[source], "amin")
        last_place = torch.zeros_like(session).scatter_reduce_(0, pair, place, "amax")

        nearest = torch.arange(0, device=session.device)
        if session.numel():
            counts = torch.bincount(pair_row, minlength=length.numel())
            first = counts.cumsum(0) - counts
            column = torch.arange(session.numel(), device=session.device) - first[pair_row]
            dense = similarity.new_full((counts.numel(), int(counts.max())), -torch.inf)
            dense[pair_row, column] = similarity  # by recency, as ties shall go
            best_row, best_column, _ = best(dense, self.k)
            nearest = first[best_row] + best_column
        found = (pair_row, session, similarity, newest, last_place)
        return tuple(values[nearest] for values in found)  # type: ignore[return-value]

    def _candidates(
        self, row: Tensor, node: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The newest ``sample_size`` sessions with an item of each row, merged by sorting.

        Args:
            row, node: Rows, never falling, and their items, int64 [num_nodes].

        Returns:
            Row and session of each pair, by row and recency, int64 [num_pairs]; and for every item
            in common its pair, which of the nodes it is, and its place in the session, int64.
        """
        num_sessions = self.session_ptr.numel() - 1
        entry, ptr = ragged_range(self.item_ptr[node], self.item_ptr[node + 1])
        source = torch.repeat_interleave(ptr.diff())  # which of the nodes: [num_entries]
        # Stable, so that an item comes before those that the session visited later.
        key, order = (row[source] * num_sessions + self.item_session[entry]).sort(stable=True)
        starts = torch.ones_like(key, dtype=torch.bool)
        torch.ne(key[1:], key[:-1], out=starts[1:])
        pair = starts.cumsum(0) - 1  # [num_entries]
        key = key[starts]
        pair_row = key // num_sessions
        counts = torch.bincount(pair_row)
        first = counts.cumsum(0) - counts
        sampled = torch.arange(key.numel(), device=key.device) - first[pair_row] < self.sample_size
        kept = sampled[pair]
        pair, order = (sampled.cumsum(0) - 1)[pair[kept]], order[kept]
        place = self.item_place[entry[order]].long()
        return pair_row[sampled], (key % num_sessions)[sampled], pair, source[order], place

    def _freshness(self, batch: Batch, row: Tensor, session: Tensor) -> Tensor:
        """Decay of sessions of the log by their age, float64 [n]."""
        if self.half_life is None:
            return torch.ones_like(session, dtype=torch.double)
        if self.session_time.numel() == 0:
            return torch.exp2(-session.double() / self.half_life)
        now = self.session_time[:1].expand(int(batch.num_graphs))
        time = batch.get("click_time")
        if time is not None:
            now = time.double()[batch.click_ptr[1:] - 1]
        passed = (now[row] - self.session_time[session]).clamp(min=0)
        return torch.exp2(-passed / self.half_life)

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """Summed similarities of the neighbours that clicked the item.

        Args:
            batch: Session graphs; with ``click_time``, the last is the current time.
            items: ``None``: all items; else candidates, [C] or [num_sessions, C].

        Returns:
            float64 [num_sessions, num_items] or [num_sessions, C]; with ``backoff=0``, ``-inf``
            for what no neighbour clicked.

        Raises:
            ValueError: If nothing was counted yet.
        """
        self.popularity()  # refuses where nothing was counted
        row, session, similarity, age, last_place = self.neighbors(batch)
        value = similarity * self.match_weight(age)  # [num_pairs]
        entry, ptr = ragged_range(self.session_ptr[session], self.session_ptr[session + 1])
        source = torch.repeat_interleave(ptr.diff())  # which of the pairs: [num_entries]
        item, value = self.session_item[entry].long(), value[source]
        place = self.place_weight((self.session_place[entry] - last_place[source]).abs())
        if place is not None:
            value = value * place
        if self.idf_weight > 0:
            with_item = self.item_sessions[item].double()
            idf = ((self.session_ptr.numel() - 1) / with_item).log()
            value = value * (1 + self.idf_weight * idf)
        return self.evidence_scores(batch, items, row[source], item, value, backoff=self.backoff)

    def __repr__(self) -> str:
        settings = self.settings
        named = (f"{name}={settings[name]!r}" for name in settings if name != "num_items")
        return f"{type(self).__name__}({self.num_items}, {', '.join(named)})"
