"""Models trained by counting; their state is counts in torch buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel
from graphseq.models.use.ties import roundings


class Evidence(NamedTuple):
    r"""The sparse parts of a batch's scores, when few items of a session have evidence.

    .. math::
        \hat y_{sj} = \frac1u e_{sj} + \beta_s p_j

    An item whose score is then 0 is never recommended: its score is ``-inf``.

    Attributes:
        blocks: The sums :math:`e` of the batch's sessions, one block of sessions after another,
            each float64 [sessions of the block, num_items], with each cell at most once.
        backoff: Weight :math:`\beta_s` of popularity: one number, or float64 [num_sessions].
        unit: Unit of the sums, :math:`u`.
        share: Popularity :math:`p`, float64 [num_items]; ``None``: the shares of training clicks.
    """

    blocks: Iterable[csr_matrix]
    backoff: float | Tensor
    unit: float = 1.0
    share: Tensor | None = None


class CountingModel(SessionModel):
    """A model without gradients: :meth:`fit_counts` counts, :meth:`score` looks up.

    All counts are buffers, so that ``state_dict``, ``to(device)`` and saving work as in any module,
    but casts to another float type do not change them. Scores are float64: shares of millions of
    clicks differ in digits that float32 does not have.

    A family implements :meth:`count`, and :meth:`score` or :meth:`evidence`. The latter gives the
    evidence for a few items of every session, so that ``evaluate`` compares only these. Scores are
    sums of non-negative terms, so that each is exact up to ``num_roundings`` roundings.

    Args:
        num_items: Items of the catalog.
    """

    samples = "counts"
    scores_by_table = False
    num_roundings = 8

    in_main_memory: ClassVar[tuple[str, ...]] = ()
    """Buffers that stay where NumPy reads them, on whatever device the model's scores are."""

    sparse: bool = True
    """Whether scores are those of :meth:`evidence`, where a family defines it."""

    item_counts: Tensor

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.set_buffer("item_counts")

    def fit_counts(self, sessions: Sessions) -> Self:
        """Counts all clicks of these sessions, and replaces earlier counts.

        A click outside the vocabulary is skipped, and its neighbors become adjacent, as in the
        session graph.

        Args:
            sessions: Training sessions, with a vocabulary of ``num_items`` items.

        Raises:
            ValueError: If the vocabulary has another size, or no click is known.
        """
        if sessions.num_items != self.num_items:
            raise ValueError(
                f"This {type(self).__name__} has num_items={self.num_items}, but the sessions have "
                f"{sessions.num_items}: build it with num_items=split.num_items."
            )
        items = np.asarray(sessions.items)
        session = sessions.session_index
        known = items >= 0
        if not known.all():
            items, session = items[known], session[known]
        time = None if sessions.time is None else np.asarray(sessions.time, dtype=np.float64)[known]
        if items.size == 0:
            raise ValueError("There is nothing to count: no click of these sessions is known.")
        device = self.device
        catalog = sessions.catalog()
        self.attach(catalog, sessions)
        self.item_counts = torch.from_numpy(catalog.counts.copy())
        self.count(items.astype(np.int64), session, time)
        return self.to(device)

    def count(
        self,
        items: NDArray[np.int64],
        session: NDArray[np.int64],
        time: NDArray[np.float64] | None,
    ) -> None:
        """Sets the family's buffers from the known clicks.

        Args:
            items: Item codes, int64 [num_clicks], in the order of clicks within each session.
            session: The session of each click, int64 [num_clicks], ascending.
            time: The time of each click, float64 [num_clicks], if the log has times.
        """

    def evidence(self, batch: Batch) -> Evidence:
        """The evidence for a few items of every session, on the CPU; all others are scored by
        popularity.

        Args:
            batch: Session graphs.
        """
        raise AttributeError(f"{type(self).__name__} defines neither evidence nor score.")

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """The evidence for each item; popularity decides between items with equal evidence or none.

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] or [num_sessions, C].

        Returns:
            float64 [num_sessions, num_items] or [num_sessions, C]; ``-inf``: never recommended.

        Raises:
            ValueError: If the model is not fitted yet.
        """
        blocks, backoff, unit, _ = self.evidence(batch)
        assert isinstance(backoff, (int, float))
        return self.evidence_scores(batch, items, blocks, backoff=backoff, unit=unit)

    def set_buffer(
        self, name: str, values: NDArray[Any] | None = None, *, dtype: torch.dtype = torch.long
    ) -> None:
        """Stores counts as a buffer; without values an empty buffer of the later type."""
        empty = torch.empty(0, dtype=dtype)
        self.register_buffer(name, empty if values is None else torch.from_numpy(values))

    def popularity(self, smoothing: float = 0.0) -> Tensor:
        r"""Share of training clicks, :math:`(c_j + s) / (N + s V)`: float64 [num_items].

        Raises:
            ValueError: If the model is not fitted yet.
        """
        self.check_counted()
        counts = self.item_counts.double() + smoothing
        return counts / counts.sum()

    def check_counted(self) -> None:
        """Refuses to score where nothing was counted.

        Raises:
            ValueError: If the model is not fitted yet.
        """
        if self.item_counts.numel() == 0:
            raise ValueError(
                f"This {type(self).__name__} has counted nothing yet: call fit(model, split) or "
                "model.fit_counts(sessions) first."
            )

    def score_tolerance(self, scores: Tensor, rows: Tensor) -> Tensor:
        """Maximum distance of equal items' scores: ``num_roundings`` roundings of the score, [n,
        m]."""
        return roundings(self.num_roundings, scores, scores.abs())

    def evidence_scores(
        self,
        batch: Batch,
        items: Tensor | None,
        evidence: Iterable[csr_matrix],
        *,
        backoff: float,
        unit: float = 1.0,
    ) -> Tensor:
        r"""The evidence for each item; popularity decides between items with equal evidence or
        none.

        .. math::
            \hat y_{sj} = \frac1u e_{sj} + \beta \frac{c_j}{N}

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] or [num_sessions, C].
            evidence: The sums :math:`e` of the batch's sessions in blocks, one after another, each
                float64 [sessions of the block, num_items], with each cell at most once.
            backoff: Weight :math:`\beta` of popularity; 0: items without evidence get ``-inf``.
            unit: Unit of the sums, :math:`u`.

        Returns:
            float64 [num_sessions, num_items] or [num_sessions, C].

        Raises:
            ValueError: If the model is not fitted yet.
        """
        share = self.popularity()
        shape = (int(batch.num_graphs), self.num_items if items is None else items.size(-1))
        scores = share.new_zeros(shape)
        start = 0
        for block in evidence:
            rows = slice(start, start + block.shape[0])
            start = rows.stop
            if items is None:
                cell, value = _cells(block, scores.device)
                scores[rows].view(-1).index_copy_(0, cell, value)
                continue
            block.sort_indices()
            key, value = _cells(block, scores.device)
            wanted = items if items.dim() == 1 else items[rows]
            first = torch.arange(block.shape[0], device=items.device) * self.num_items
            at, equal = searchsorted_exact(
                key, first.unsqueeze(-1) + wanted
            )  # [sessions of the block, C]
            if len(key):
                scores[rows] = torch.where(equal, value[at], 0.0)
        if items is not None:
            share = share[items]
        if backoff == 0:
            return scores.mul_(1 / unit).masked_fill_(scores <= 0, -torch.inf)
        return torch.add(backoff * share, scores, alpha=1 / unit, out=scores)

    def of_own_items(self, batch: Batch, value: Tensor) -> csr_matrix:
        """Evidence for the sessions' own items.

        Args:
            batch: Session graphs.
            value: Evidence for each node, float64 [num_nodes].

        Returns:
            float64 [num_sessions, num_items].
        """
        lists = tuple(part.cpu().numpy() for part in (value, batch.x, batch.ptr))
        return csr_matrix(lists, (int(batch.num_graphs), self.num_items))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Only the device of a cast is applied: counts need all their digits.
        staying = {id(self._buffers[name]) for name in self.in_main_memory}

        def move(tensor: Tensor) -> Tensor:
            if id(tensor) in staying:
                return tensor
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # The sizes of the buffers depend on the training data, so loading also sets the sizes. Only
        # the catalog's size is fixed; torch raises an error if it differs.
        for name, buffer in self._buffers.items():
            loaded = state_dict.get(prefix + name)
            if buffer is None or loaded is None or loaded.shape == buffer.shape:
                continue
            if name != "item_counts" or loaded.numel() in (0, self.num_items):
                self._buffers[name] = torch.empty_like(loaded, device=buffer.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_items})"


def of_items(scores: Tensor, items: Tensor | None) -> Tensor:
    """Scores of candidates, from those of all items.

    Args:
        scores: [num_sessions, num_items].
        items: ``None``: all items; else candidates, [C] or [num_sessions, C].

    Returns:
        [num_sessions, num_items] or [num_sessions, C].
    """
    if items is None:
        return scores
    return scores[:, items] if items.dim() == 1 else scores.gather(1, items)


def searchsorted_exact(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The index of ``wanted`` in the sorted ``keys``, and whether it is in ``keys``."""
    if keys.numel() == 0:
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    place = torch.searchsorted(keys, wanted.contiguous()).clamp(max=keys.numel() - 1)
    return place, keys[place] == wanted


def _cells(block: csr_matrix, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cell numbers of a sparse block, row by row, int64 [n], and their values, float64 [n]."""
    row = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    cell = torch.from_numpy(row * block.shape[1] + block.indices)
    return cell.to(device), torch.from_numpy(block.data).to(device)


def last_visit(batch: Batch) -> Tensor:
    """Clicks since the last visit of each node, including that click: int64 [num_nodes], 1:
    last."""
    ptr = batch.click_ptr
    age = ptr[1:][batch.click_batch] - torch.arange(batch.click_index.numel(), device=ptr.device)
    oldest = torch.full_like(batch.x, torch.iinfo(torch.long).max)
    return oldest.scatter_reduce_(0, batch.click_index, age, "amin")
