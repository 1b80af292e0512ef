r"""Augmentations of many sessions at once, on ragged arrays, before graphs are built.

An augmentation takes :class:`RaggedClicks` and returns changed ones; PyG's
:class:`~torch_geometric.transforms.Compose` chains several. Changes of a session depend only on its
own random stream, not on other sessions of the batch. Any part of a batch, in any order, is
therefore changed in the same way.

Shares refer to the clicks that may be changed. Where training predicts the last click of a session
(``tail=1``), it stays the last one, and at least one click is left before it. A crop may end a
session earlier; its new last click then becomes the target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from graphseq.arguments import check_fractions, whole
from graphseq.data.graphs.item_graph import near_counts
from graphseq.data.sessions.sessions import Sessions
from graphseq.ragged import ptr_of, ragged_arange, share_of
from graphseq.random import Words, integers, substreams, uniform
from graphseq.typing import Ints


@dataclass(frozen=True)
class RaggedClicks:
    """Clicks of many sessions, and a random stream for each.

    Args:
        items: Item codes, session after session, int64 [num_clicks].
        ptr: First click of each session, and the end, int64 [num_sessions + 1].
        origin: Original position of each click, to look up its other fields, int64 [num_clicks].
        streams: Random stream of each session, uint64 [num_sessions]
            (:func:`~graphseq.random.substreams`).
        tail: Clicks at the end of each session that are not history: 1 with a target, else 0.
        step: Number of augmentations so far; each one uses its own random numbers.
    """

    items: Ints
    ptr: Ints
    origin: Ints
    streams: Words
    tail: int = 0
    step: int = 0

    @property
    def lengths(self) -> Ints:
        return np.diff(self.ptr)

    @property
    def session(self) -> Ints:
        """The session of each click, int64 [num_clicks]."""
        return np.repeat(np.arange(len(self.ptr) - 1), self.lengths)

    @property
    def position(self) -> Ints:
        """The position of each click in its session, from 0, int64 [num_clicks]."""
        return np.arange(len(self.items)) - self.ptr[self.session]

    @property
    def in_order(self) -> Ints:
        """``origin`` in ascending order within each session, int64 [num_clicks]: the positions of
        its times, which stay in order even if clicks do not."""
        return self.origin[np.lexsort((self.origin, self.session))]

    def keep(self, kept: NDArray[np.bool_]) -> RaggedClicks:
        """Only these clicks, bool [num_clicks]."""
        ptr = ptr_of(kept)[self.ptr]
        return replace(self, items=self.items[kept], ptr=ptr, origin=self.origin[kept])

    def reordered(self, order: Ints) -> RaggedClicks:
        """These clicks in another order within their sessions, int64 [num_clicks]."""
        return replace(self, items=self.items[order], origin=self.origin[order])

    def sessions(self, number: Ints) -> RaggedClicks:
        """Only these sessions, in this order, int64 [n]."""
        lengths = self.lengths[number]
        ptr = ptr_of(lengths)
        click = ragged_arange(self.ptr[number], lengths)
        return replace(self.reordered(click), ptr=ptr, streams=self.streams[number])


Augmentation = Callable[[RaggedClicks], RaggedClicks]


class ClickAugmentation:
    """An augmentation with separate random numbers per session; a subclass defines ``change``."""

    def __call__(self, clicks: RaggedClicks) -> RaggedClicks:
        streams = substreams(clicks.streams, clicks.step)
        return replace(self.change(clicks, streams), step=clicks.step + 1)

    def change(self, clicks: RaggedClicks, streams: Words) -> RaggedClicks:
        """The clicks changed, by the random numbers of each session, uint64 [num_sessions]."""
        raise AttributeError(f"{type(self).__name__} defines no change(clicks, streams).")

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if name[0] != "_"
        )
        return f"{type(self).__name__}({arguments})"


class CropToPrefix(ClickAugmentation):
    """Keeps the first clicks of each session; their number is uniform (Tan et al., DLRS 2016).

    With samples of whole sessions or of last targets this trains on prefixes of random lengths,
    while ``samples="prefixes"`` uses all prefixes.
    """

    def change(self, clicks: RaggedClicks, streams: Words) -> RaggedClicks:
        lengths, least = clicks.lengths, _least(clicks)
        kept = least + integers(streams, 0, lengths - least + 1)  # [num_sessions]
        return clicks.keep(clicks.position < kept[clicks.session])


class RandomCrop(ClickAugmentation):
    """Keeps a random contiguous part of each session (CL4SRec: Xie et al., ICDE 2022, section
    III-C).

    Args:
        share: Of the session's clicks, rounded up; the paper's :math:`\\eta`.

    Raises:
        ValueError: If the share is outside (0, 1].
    """

    def __init__(self, share: float = 0.6) -> None:
        self.share = _share(share, above_zero=True)

    def change(self, clicks: RaggedClicks, streams: Words) -> RaggedClicks:
        lengths = clicks.lengths
        size = np.maximum(np.ceil(share_of(self.share, lengths)).astype(np.int64), _least(clicks))
        start = integers(streams, 0, lengths - size + 1)  # [num_sessions]
        place = clicks.position - start[clicks.session]
        return clicks.keep((place >= 0) & (place < size[clicks.session]))


class ClickDropout(ClickAugmentation):
    """Drops each click of the history at random (Tan et al., DLRS 2016).

    Args:
        share: Probability of dropping a click; if all would be dropped, the newest is kept.

    Raises:
        ValueError: If the share is outside [0, 1].
    """

    def __init__(self, share: float = 0.1) -> None:
        self.share = _share(share)

    def change(self, clicks: RaggedClicks, streams: Words) -> RaggedClicks:
        chance = uniform(streams[clicks.session], clicks.position)
        return _without(clicks, chance < self.share)


class ItemMask(ClickAugmentation):
    """Drops all clicks on some items of the history (after CL4SRec, section III-C).

    The paper replaces them by a [mask] token. Vocabularies here have no such token, so masked
    clicks are removed: a graph without some of its nodes.

    Args:
        share: Probability of an item, the paper's :math:`\\gamma`; where all would be dropped, the
            newest click stays.

    Raises:
        ValueError: If the share is outside [0, 1].
    """

    def __init__(self, share: float = 0.3) -> None:
        self.share = _share(share)

    def change(self, clicks: RaggedClicks, streams: Words) -> RaggedClicks:
        # One number per item of a session, the same for all its clicks; -1 belongs to a target.
        chance = uniform(streams[clicks.session], np.maximum(clicks.items, 0))
        return _without(clicks, chance < self.share)


class SegmentReorder(ClickAugmentation):
    """Shuffles a random contiguous part of the history (CL4SRec, section III-C).

    Args:
        share: Of the history, rounded down; the paper's :math:`\\beta`.

    Raises:
        ValueError: If the share is outside [0, 1].
    """

    def __init__(self, share: float = 0.3) -> None:
        self.share = _share(share)

    def change(self, clicks: RaggedClicks, streams: Words) -> RaggedClicks:
        session, position = clicks.session, clicks.position
        free = np.maximum(clicks.lengths - clicks.tail, 0)
        size = share_of(self.share, free).astype(np.int64)
        start = integers(streams, 0, free - size + 1)
        place = position - start[session]
        inside = (place >= 0) & (place < size[session])
        chance = uniform(streams[session], 1 + position)
        # Inside the part, sort keys are random between the positions before and after it.
        key = np.where(inside, start[session] + chance * size[session], position)
        return clicks.reordered(np.lexsort((key, session)))


class ClickReorder(ClickAugmentation):
    """Swaps some pairs of clicks of the history that are not adjacent: a light reordering.

    Args:
        share: Share of the history that is paired; adjacent pairs are not swapped.

    Raises:
        ValueError: If the share is outside [0, 1].
    """

    def __init__(self, share: float = 0.2) -> None:
        self.share = _share(share)

    def change(self, clicks: RaggedClicks, streams: Words) -> RaggedClicks:
        session, position = clicks.session, clicks.position
        free = np.maximum(clicks.lengths - clicks.tail, 0)
        is_free = position < free[session]
        chance = np.where(is_free, uniform(streams[session], position), 2.0)  # the tail comes last
        order = np.lexsort((chance, session))  # of each session, its clicks by chance
        paired = position < 2 * (share_of(self.share, free) / 2).astype(np.int64)[session]
        left = order[paired & (position % 2 == 0)]
        right = order[paired & (position % 2 == 1)]
        apart = np.abs(left - right) > 1
        left, right = left[apart], right[apart]
        places = np.arange(len(position))
        places[left], places[right] = right, left
        return clicks.reordered(places)


class Substitute(ClickAugmentation):
    """Replaces some clicks of the history by items that occur near theirs in the training sessions.

    An item is drawn in proportion to how often it occurs there (CoSeRec, Liu et al., 2021, uses the
    most correlated one). The click keeps its old features.

    Args:
        sessions: Only the training sessions; items that they do not contain are never drawn.
        share: Probability of replacing a click; a click on an item without neighbors is kept.
        steps: Maximum distance of near clicks, in clicks.

    Raises:
        ValueError: If the share is outside [0, 1] or ``steps`` is below 1.
    """

    def __init__(self, sessions: Sessions, share: float = 0.2, *, steps: int = 1) -> None:
        self.share = _share(share)
        steps = whole("steps", steps)
        self.steps = steps
        counts = near_counts(sessions, steps)
        self._ptr = counts.indptr.astype(np.int64)  # [num_items + 1]
        self._near = counts.indices  # [num_pairs]
        self._before = ptr_of(counts.data)  # [num_pairs + 1]

    def change(self, clicks: RaggedClicks, streams: Words) -> RaggedClicks:
        session, position, items = clicks.session, clicks.position, clicks.items
        free = position < (clicks.lengths - clicks.tail)[session]
        chosen = np.flatnonzero(free & (uniform(streams[session], 2 * position) < self.share))
        item = items[chosen]
        low, high = self._before[self._ptr[item]], self._before[self._ptr[item + 1]]
        has_any = high > low
        chosen, low, high = chosen[has_any], low[has_any], high[has_any]
        draw = low + integers(streams[session[chosen]], 2 * position[chosen] + 1, high - low)
        changed = items.copy()
        changed[chosen] = self._near[np.searchsorted(self._before, draw, side="right") - 1]
        return replace(clicks, items=changed)


class OneOf(ClickAugmentation):
    """Applies one of several augmentations to each session, drawn uniformly, as CL4SRec per view.

    Args:
        augmentations: At least one.

    Raises:
        ValueError: If there is none.
    """

    def __init__(self, augmentations: Sequence[Augmentation]) -> None:
        if not augmentations:
            raise ValueError("OneOf needs at least one augmentation, got none.")
        self.augmentations = list(augmentations)

    def change(self, clicks: RaggedClicks, streams: Words) -> RaggedClicks:
        choice = integers(streams, 0, len(self.augmentations))  # [num_sessions]
        # Streams of their own: a change by the number that chose it would see a part of its range.
        own = replace(clicks, streams=substreams(streams, 1), step=0)
        numbers, parts = [], []
        for which, augmentation in enumerate(self.augmentations):
            number = np.flatnonzero(choice == which)
            if len(number):
                numbers.append(number)
                parts.append(augmentation(own.sessions(number)))
        if not parts:
            return clicks
        lengths = np.concatenate([part.lengths for part in parts])
        together = replace(
            clicks,
            items=np.concatenate([part.items for part in parts]),
            origin=np.concatenate([part.origin for part in parts]),
            ptr=ptr_of(lengths),
            streams=clicks.streams[np.concatenate(numbers)],
        )
        return together.sessions(np.argsort(np.concatenate(numbers)))


def _least(clicks: RaggedClicks) -> Ints:
    """Minimum number of clicks to keep per session: one, and the target."""
    return np.minimum(clicks.lengths, 1 + clicks.tail)


def _without(clicks: RaggedClicks, out: NDArray[np.bool_]) -> RaggedClicks:
    """The clicks without these of the history; if all would be dropped, the newest is kept."""
    session, position = clicks.session, clicks.position
    free = (clicks.lengths - clicks.tail)[session]
    kept = ~out | (position >= free)
    is_free = position < free
    left = np.bincount(session[kept & is_free], minlength=len(clicks.ptr) - 1)
    return clicks.keep(kept | ((left[session] == 0) & (position == free - 1)))


def _share(value: float, above_zero: bool = False) -> float:
    check_fractions(share=value)
    if above_zero and value == 0:
        raise ValueError("share must lie in (0, 1], got 0.")
    return value
