"""Markov chains of any order over the clicks of a session, with back-off to popularity."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_not_negative
from graphseq.data.logs.times import Duration, half_life_of
from graphseq.models.base import Traits
from graphseq.models.counting.counting import CountingModel, Evidence, searchsorted_exact
from graphseq.models.recommender import SessionsLike
from graphseq.models.registry import register
from graphseq.models.use import inference
from graphseq.nn.ragged import ragged_range
from graphseq.ragged import ptr_of, ragged_arange


@register("markov")
class MarkovChain(CountingModel):
    r"""The next item given the last ``order`` clicks, with back-off to shorter contexts.

    .. math::
        P_k(j \mid i_1 \dots i_k) =
            \frac{c(i_1 \dots i_k \to j) + \beta \, P_{k-1}(j \mid i_2 \dots i_k)}
                 {n(i_1 \dots i_k) + \beta}, \qquad
        P_0(j) = \frac{c(j) + s}{N + s V}

    with :math:`c` the transitions counted in training, :math:`n` the occurrences of the context
    before a click, :math:`\beta` ``backoff`` and :math:`s` ``smoothing``. With the default, order 1
    ranks by ``count + 0.001 * share``: popularity decides between equal counts, and among items
    that never followed. An unseen context leaves the shorter one's probabilities unchanged. A
    session with fewer clicks than ``order`` is scored by all of its clicks.

    ``backoff=0`` is the plain chain: an item that never followed the context gets ``-inf``, is not
    recommended and never counts as a hit.

    Self-transitions count. All clicks of the training sessions are counted, including clicks before
    ``first_target``. Counts are stored sparsely, with 16 bytes per distinct transition and order,
    and found by binary search.

    With ``half_life`` :math:`h`, a transition that is older by :math:`\Delta` than the newest one
    out of the same context counts :math:`2^{-\Delta / h}` in :math:`c` and :math:`n`, so that new
    behavior outweighs old; :math:`P_0` counts all clicks. The time of a transition is the time of
    its later click or, in a log without times, its number. The newest transition of every context
    counts 1, independent of later clicks elsewhere in the log.

    Args:
        num_items: Items of the catalog, ``V``.
        order: Clicks in the longest context, at least 1.
        backoff: Weight of the shorter context's probabilities, in clicks.
        smoothing: Clicks added to the count of every item in ``P_0``.
        half_life: Age at which a transition counts half of the newest one out of its context, in
            the unit of click times (for seconds also text as ``"30min"`` or a timedelta) or, in a
            log without times, in transitions; ``None``: all count the same.

    Raises:
        ValueError: If ``order`` or ``half_life`` is not positive, or ``backoff`` or ``smoothing``
            is negative.
    """

    traits = Traits(
        architecture="counts of transitions",
        parallel=True,
        reach="last order clicks",
        side_features=False,
        best_for="a first number in a second; always in the table",
    )

    context_count_1: Tensor

    def __init__(
        self,
        num_items: int,
        order: int = 1,
        *,
        backoff: float = 0.001,
        smoothing: float = 0.0,
        half_life: Duration | None = None,
    ) -> None:
        super().__init__(num_items)
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}: order 0 is Popularity.")
        check_not_negative(backoff=backoff, smoothing=smoothing)
        self.order = order
        self.backoff = backoff
        self.smoothing = smoothing
        self.half_life = half_life_of(half_life)
        counts = torch.long if half_life is None else torch.double
        for k in range(1, order + 1):
            # Contexts of k clicks are numbered in the order of their keys: the number of the
            # context without its oldest click, times V, plus that click. Contexts of one click
            # are numbered as items are.
            if k > 1:
                self.set_buffer(f"context_key_{k}")  # [num_contexts], sorted
            self.set_buffer(f"context_ptr_{k}")  # [num_contexts + 1], into the transitions
            self.set_buffer(f"context_count_{k}", dtype=counts)  # n: [num_contexts]
            # The number of the context, times V, plus the item that follows.
            self.set_buffer(f"transition_key_{k}")  # [num_transitions], sorted
            self.set_buffer(f"transition_count_{k}", dtype=counts)  # c: [num_transitions]

    def count(
        self,
        items: NDArray[np.int64],
        session: NDArray[np.int64],
        time: NDArray[np.float64] | None,
    ) -> None:
        # Every position with a context of k clicks in its session and a next click.
        last = np.flatnonzero(session[1:] == session[:-1])  # [n], position of the newest click
        age = self._ages(last + 1, time)  # [n], of the click that follows
        context, num_contexts = items[last], self.num_items
        for k in range(1, self.order + 1):
            if k > 1:
                first = last - (k - 1)  # position of the oldest click
                inside = first >= 0
                inside[inside] = session[first[inside]] == session[last[inside]]
                last, context = last[inside], context[inside]
                age = None if age is None else age[inside]
                key = context * self.num_items + items[last - (k - 1)]
                unique, context = np.unique(key, return_inverse=True)
                self.set_buffer(f"context_key_{k}", unique)
                num_contexts = len(unique)
            weight = None if age is None else _weights(context, age, num_contexts)
            key, count = _counted(context * self.num_items + items[last + 1], weight)
            transitions = np.bincount(key // self.num_items, minlength=num_contexts)
            self.set_buffer(f"context_ptr_{k}", ptr_of(transitions))
            self.set_buffer(
                f"context_count_{k}", np.bincount(context, weight, minlength=num_contexts)
            )
            self.set_buffer(f"transition_key_{k}", key)
            self.set_buffer(f"transition_count_{k}", count)

    def _ages(
        self, end: NDArray[np.int64], time: NDArray[np.float64] | None
    ) -> NDArray[np.float64] | None:
        """Ages of transitions to these clicks, in half-lives; ``None``: all count the same."""
        if self.half_life is None:
            return None
        age = np.arange(len(end), 0.0, -1) if time is None else time.max() - time[end]
        return age / self.half_life

    def predict_next(
        self, sessions: SessionsLike, k: int = 10, *, backoff: float | None = None, **options: Any
    ) -> list[list[tuple[Any, float]]]:
        """The most likely next items of every session and their probabilities, by the user's ids.

        Args:
            sessions: As :func:`graphseq.models.use.recommend.recommend` takes them.
            k: Items of each session.
            backoff: Replaces the model's value; 0: the plain estimate, ``P(j | i)`` as the share of
                ``j`` among all clicks that followed ``i``, without items that never followed.
            **options: Further arguments of :func:`~graphseq.models.use.recommend.recommend`.

        Returns:
            One list of ``(item id, probability)`` per session, most likely first. A session without
            a known item gets shares of training clicks.

        Raises:
            ValueError: If ``backoff`` is negative, or as
                :func:`~graphseq.models.use.recommend.recommend`.
        """
        model = copy.copy(self)  # with the same counts
        if backoff is not None:
            check_not_negative(backoff=backoff)
            model.backoff = backoff
        return model.recommend(sessions, k, **options)

    def contexts(self, batch: Batch) -> list[Tensor]:
        """The context numbers of the last 1, 2, ... ``order`` clicks.

        Args:
            batch: Session graphs.

        Returns:
            One tensor per order, int64 [num_sessions]; -1: never seen in training, or the session
            is shorter.
        """
        ptr, item = batch.click_ptr, batch.click_item
        last = ptr[1:] - 1
        context = item[last]
        found = [torch.where(self.context_count_1[context] > 0, context, -1)]
        for k in range(2, self.order + 1):
            keys: Tensor = getattr(self, f"context_key_{k}")
            first = last - (k - 1)
            inside = (first >= ptr[:-1]) & (found[-1] >= 0)
            key = found[-1] * self.num_items + item[first.clamp(min=0)]
            place, equal = searchsorted_exact(keys, key)
            found.append(torch.where(inside & equal, place, -1))
        return found

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """Probabilities of the next item.

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] or [num_sessions, C].

        Returns:
            float64 [num_sessions, num_items] or [num_sessions, C]; with ``backoff=0``, ``-inf`` for
            transitions that were never seen.

        Raises:
            ValueError: If nothing was counted yet.
        """
        scores = self.popularity(self.smoothing)
        if items is not None:
            scores = scores[items]
        if scores.dim() == 1:
            scores = scores.expand(batch.num_graphs, -1)
        contexts = self.contexts(batch)
        if self.backoff == 0:
            return self._plain(scores, contexts, batch, items)

        # The recursion written out: P = prod_k a_k P_0 + sum_k (prod_{l > k} a_l) c_k / (n_k + b)
        # with a_k = b / (n_k + b), so that the dense rows are read once.
        weights: list[Tensor] = []
        shrink = torch.ones_like(scores[:, 0])  # prod_{l > k} a_l: [num_sessions]
        for k in range(self.order, 0, -1):
            n = self._context_count(k, contexts[k - 1])
            weights.append(shrink / (n + self.backoff))
            shrink = shrink * (self.backoff / (n + self.backoff))
        scores = scores * shrink.unsqueeze(-1)
        for k, weight in enumerate(reversed(weights), start=1):
            self._add_counts(scores, k, contexts[k - 1], weight, items)
        return scores

    def evidence(self, batch: Batch) -> Evidence:
        """Weighted counts of the transitions out of the last clicks; they reduce the weight of
        popularity.

        Args:
            batch: Session graphs.

        Raises:
            ValueError: If nothing was counted yet.
        """
        share = self.popularity(self.smoothing)
        contexts = self.contexts(batch)
        lengths = batch.click_ptr.diff().clamp(max=self.order)
        shrink = share.new_ones(int(batch.num_graphs))
        weights: dict[int, Tensor] = {}
        for k in range(self.order, 0, -1):
            context = contexts[k - 1]
            if self.backoff == 0:
                context = contexts[k - 1] = torch.where(lengths == k, context, -1)
            n = self._context_count(k, context)
            found = n + self.backoff
            weights[k] = torch.where(found > 0, shrink / found, 0.0)
            shrink = torch.where(found > 0, shrink * (self.backoff / found), shrink)
        scale = shrink if self.backoff > 0 else 0.0
        return Evidence(self._transitions(contexts, weights), scale, share=share)

    def _transitions(
        self, contexts: list[Tensor], weights: dict[int, Tensor]
    ) -> Iterator[csr_matrix]:
        """Weighted counts of the items that follow the contexts, block by block of sessions."""
        ptrs = [getattr(self, f"context_ptr_{k}").cpu().numpy() for k in weights]
        size = np.zeros(len(contexts[0]), dtype=np.int64)
        lists = []
        for k, ptr in sorted(zip(weights, ptrs, strict=True)):
            context = contexts[k - 1].cpu().numpy()
            known = context >= 0
            start, stop = ptr[context * known], ptr[context * known + known]
            lists.append((k, start, stop))
            size += stop - start
        for rows in inference.blocks(size, len(size), inference.MOST_ENTRIES):
            block = csr_matrix((rows.stop - rows.start, self.num_items), dtype=np.float64)
            for k, start, stop in lists:
                begin, length = start[rows], (stop - start)[rows]
                end = ptr_of(length)
                entry = ragged_arange(begin, length)
                count = getattr(self, f"transition_count_{k}").cpu().numpy()[entry]
                item = getattr(self, f"transition_key_{k}").cpu().numpy()[entry] % self.num_items
                weight = np.repeat(weights[k].cpu().numpy()[rows], length)
                block = block + csr_matrix((count * weight, item, end), block.shape)
            yield block

    def _plain(
        self, scores: Tensor, contexts: list[Tensor], batch: Batch, items: Tensor | None
    ) -> Tensor:
        scores = torch.zeros_like(scores, memory_format=torch.contiguous_format)
        lengths = batch.click_ptr.diff().clamp(max=self.order)
        for k, context in enumerate(contexts, start=1):
            context = torch.where(lengths == k, context, -1)
            n = self._context_count(k, context)
            weight = torch.where(n > 0, 1 / n, 0.0)
            self._add_counts(scores, k, context, weight, items)
        return scores.masked_fill_(scores <= 0, -torch.inf)

    def _context_count(self, k: int, context: Tensor) -> Tensor:
        """``n`` of these contexts, 0 for -1: float64 [num_sessions]."""
        counts: Tensor = getattr(self, f"context_count_{k}")
        if counts.numel() == 0:
            return torch.zeros_like(context, dtype=torch.double)
        return torch.where(context >= 0, counts[context.clamp(min=0)], 0).double()

    def _add_counts(
        self, scores: Tensor, k: int, context: Tensor, weight: Tensor, items: Tensor | None
    ) -> None:
        """Adds ``weight * c`` of every transition out of ``context`` to ``scores``, in place."""
        keys: Tensor = getattr(self, f"transition_key_{k}")
        counts: Tensor = getattr(self, f"transition_count_{k}")
        row = (context >= 0).nonzero().view(-1)
        context, weight = context[row], weight[row]
        if items is not None:
            wanted = items if items.dim() == 1 else items[row]
            place, equal = searchsorted_exact(keys, context.unsqueeze(-1) * self.num_items + wanted)
            if keys.numel():
                scores[row] += torch.where(equal, counts[place], 0) * weight.unsqueeze(-1)
            return
        ptr: Tensor = getattr(self, f"context_ptr_{k}")
        size = (ptr[context + 1] - ptr[context]).cpu().numpy()
        for part in inference.blocks(size, len(size), inference.MOST_ENTRIES):
            of = context[part]
            entry, list_ptr = ragged_range(ptr[of], ptr[of + 1])
            source = torch.repeat_interleave(list_ptr.diff())  # which of the rows: [num_entries]
            cell = row[part][source], keys[entry] % self.num_items
            # No cell comes twice: the transitions out of one context are distinct.
            scores[cell] += counts[entry] * weight[part][source]

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, with the half-life as a number."""
        return {**super().settings, "half_life": self.half_life}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, order={self.order}, "
            f"backoff={self.backoff}, smoothing={self.smoothing}"
            + (")" if self.half_life is None else f", half_life={self.half_life})")
        )


def _weights(
    context: NDArray[np.int64], age: NDArray[np.float64], num_contexts: int
) -> NDArray[np.float64]:
    """The weights of transitions out of these contexts: the newest one of each counts 1."""
    newest = np.full(num_contexts, np.inf)
    np.minimum.at(newest, context, age)
    return np.exp2(newest[context] - age)


def _counted(
    key: NDArray[np.int64], weight: NDArray[np.float64] | None
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The distinct keys, ascending, with their counts or summed weights."""
    if weight is None:
        key = np.sort(key)
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        return key[starts], np.diff(np.append(starts, len(key)))
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    total = np.add.reduceat(weight[order], starts) if len(starts) else weight
    return key[starts], total
