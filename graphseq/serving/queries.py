"""Parts of a call: some of its sessions, with what is hidden from and allowed to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xxhash
from numpy.typing import NDArray

from graphseq.data.storage.checksums import bytes_of
from graphseq.models.use.item_filter import ItemLists
from graphseq.models.use.requests import Queries
from graphseq.ragged import ptr_of, ragged_arange
from graphseq.serving.item_vectors import Codes


@dataclass(frozen=True, eq=False)
class Asked:
    """What one call asks, in codes of the model.

    Args:
        queries: The sessions.
        hidden: Items never to recommend.
        allowed: Items to choose from; ``None``: all.
        exclude_seen: Whether the items of the session itself are left out.
    """

    queries: Queries
    hidden: ItemLists | None
    allowed: ItemLists | None
    exclude_seen: bool

    def rows(self, rows: Codes) -> Asked:
        """The call of these sessions alone, in this order."""
        q = self.queries
        if len(rows) == q.size and (rows == np.arange(q.size)).all():
            return self
        lengths = np.diff(q.ptr)[rows]
        clicks = ragged_arange(q.ptr[rows], lengths)
        queries = Queries(
            q.items[clicks],
            ptr_of(lengths),
            {name: values[clicks] for name, values in q.click_fields.items()},
            None if q.users is None else q.users[rows],
            q.names[rows],
            request_time=None if q.request_time is None else q.request_time[rows],
        )
        return Asked(
            queries, _lists(self.hidden, rows), _lists(self.allowed, rows), self.exclude_seen
        )

    def without_history(self) -> Asked:
        """The same sessions as if nothing were known of them: what they have seen is open again."""
        n = self.queries.size
        empty = np.empty(0, dtype=np.int64)
        queries = Queries(empty, np.zeros(n + 1, dtype=np.int64), {}, None, self.queries.names)
        return Asked(queries, self.hidden, self.allowed, False)

    def within(self, servable: NDArray[np.bool_] | None) -> Asked:
        """The same call, of items that may be served, bool [num_items]; ``None``: all may."""
        if servable is None:
            return self
        return replace(self, allowed=narrowed(self.allowed, servable))

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Which sessions have no known item, [num_sessions]."""
        return np.diff(self.queries.ptr) == 0

    def hides(self, items: Codes, num_items: int) -> NDArray[np.bool_]:
        """Which candidates [n, m] are hidden from their session; -1 is not."""
        n, _ = items.shape
        found = np.zeros(items.shape, dtype=bool)
        if self.hidden is None and self.allowed is None and not self.exclude_seen:
            return found
        if self.hidden is not None:
            found |= _listed(self.hidden, items, n, num_items)
        if self.allowed is not None:
            found |= ~_listed(self.allowed, items, n, num_items)
        if self.exclude_seen:
            seen = ItemLists(self.queries.items, self.queries.ptr)
            found |= _listed(seen, items, n, num_items)
        return found & (items >= 0)

    @property
    def most_hidden(self) -> int:
        """How many items are hidden from a session at most."""
        most = 0
        if self.hidden is not None:
            most += _longest(self.hidden)
        if self.exclude_seen:
            most += int(np.diff(self.queries.ptr).max(initial=0))
        return most

    def key(self, row: int) -> bytes:
        """What answers of a session depend on beside the model: equal keys, equal answers."""
        q = self.queries
        clicks = slice(int(q.ptr[row]), int(q.ptr[row + 1]))
        parts = [q.items[clicks].tobytes(), b"|", bytes([self.exclude_seen])]
        parts += [
            np.ascontiguousarray(v[clicks]).tobytes() for _, v in sorted(q.click_fields.items())
        ]
        for values in (q.users, q.request_time):
            parts.append(b"|" if values is None else values[row : row + 1].tobytes())
        for lists in (self.hidden, self.allowed):
            if lists is None:
                parts.append(b"|none")
            else:
                own = lists if lists.ptr is None else _lists(lists, np.array([row]))
                assert own is not None
                parts.append(b"|" + xxhash.xxh3_128_digest(bytes_of(own.codes)))
        return b"".join(parts)


def narrowed(allowed: ItemLists | None, servable: NDArray[np.bool_] | None) -> ItemLists | None:
    """What is allowed of the items that may be served at all."""
    if servable is None:
        return allowed
    if allowed is None:
        return ItemLists(np.flatnonzero(servable), None)
    kept = servable[allowed.codes]
    if allowed.ptr is None:
        return ItemLists(allowed.codes[kept], None)
    return ItemLists(allowed.codes[kept], ptr_of(kept)[allowed.ptr])


def _lists(lists: ItemLists | None, rows: Codes) -> ItemLists | None:
    if lists is None or lists.ptr is None:
        return lists
    lengths = np.diff(lists.ptr)[rows]
    codes = lists.codes[ragged_arange(lists.ptr[rows], lengths)]
    return ItemLists(codes, ptr_of(lengths))


def _listed(lists: ItemLists, items: Codes, n: int, num_items: int) -> NDArray[np.bool_]:
    """Which candidates [n, m] are in the lists of their sessions."""
    if lists.ptr is None:
        mask = np.zeros(num_items + 1, dtype=bool)  # the last place: -1
        mask[lists.codes] = True
        mask[-1] = False
        return mask[items]
    session = np.repeat(np.arange(n), np.diff(lists.ptr))
    pairs = np.unique(session * num_items + lists.codes)
    wanted = np.arange(n)[:, None] * num_items + items
    return np.isin(wanted, pairs) & (items >= 0)


def _longest(lists: ItemLists) -> int:
    return len(lists.codes) if lists.ptr is None else int(np.diff(lists.ptr).max(initial=0))
