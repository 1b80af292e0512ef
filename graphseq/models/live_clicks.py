"""Live sessions click by click: the state of a model that computes it from the newest clicks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.nn.ragged import ragged_range


@dataclass(frozen=True)
class LiveClicks:
    """The clicks of live sessions so far, as far back as their model sees.

    Args:
        items: Item codes, session after session, oldest click first, int64 [num_clicks].
        ptr: First click of each session, and the end, int64 [num_sessions + 1].
        user: The code of each session's user, -1: unknown, int64 [num_sessions].
        is_batch: Whether scores have a row per session; else it is one session.
        fields: Further fields with one value per click, by name, [num_clicks].
    """

    items: Tensor
    ptr: Tensor
    user: Tensor
    is_batch: bool
    fields: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def num_sessions(self) -> int:
        return self.ptr.numel() - 1

    def with_clicks(
        self, codes: Tensor, most: int | None, fields: Mapping[str, Tensor]
    ) -> LiveClicks:
        """One more click of every session; a negative code: no click of that one.

        Args:
            codes: int64 [num_sessions].
            most: Newest clicks that are kept; ``None``: all.
            fields: Values of these clicks by the names of fields, [num_sessions] each.

        Raises:
            ValueError: If the fields are not those of the clicks before.
        """
        if self.items.numel() and fields.keys() != self.fields.keys():
            raise ValueError(
                f"The clicks before have these fields: {', '.join(self.fields) or 'none'}; this "
                "one has "
                f"{', '.join(fields) or 'none'}: give each click the same ones."
            )
        known = codes >= 0
        lengths = self.ptr.diff()
        kept = lengths if most is None else torch.minimum(lengths, most - known.long())
        before, _ = ragged_range(self.ptr[1:] - kept, self.ptr[1:])  # clicks that stay
        ptr = torch.nn.functional.pad((kept + known).cumsum(0), (1, 0))
        place, _ = ragged_range(ptr[:-1], ptr[:-1] + kept)
        newest = ptr[1:][known] - 1

        def joined(old: Tensor, new: Tensor) -> Tensor:
            values = new.new_empty(int(ptr[-1]))
            values[place], values[newest] = old[before].to(new.dtype), new[known]
            return values

        old = {name: self.fields.get(name, values[:0]) for name, values in fields.items()}
        return LiveClicks(
            joined(self.items, codes),
            ptr,
            self.user,
            self.is_batch,
            {name: joined(old[name], values) for name, values in fields.items()},
        )

    def graphs(self) -> tuple[Batch | None, Tensor]:
        """The graphs of the sessions that have clicks, and which these are, bool [num_sessions]."""
        clicked = self.ptr.diff() > 0
        if not bool(clicked.any()):
            return None, clicked
        ptr = torch.cat([self.ptr[:1], self.ptr[1:][clicked]])
        batch = build_session_graphs(
            self.items,
            ptr,
            click_fields=dict(self.fields),
            session_fields={"user": self.user[clicked]},
        )
        return batch, clicked

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, LiveClicks):
            return NotImplemented
        mine, theirs = ((x.items, x.ptr, x.user) for x in (self, other))
        return all(torch.equal(*pair) for pair in zip(mine, theirs, strict=True))

    __hash__ = None  # type: ignore[assignment]
