"""Live sessions click by click: the state of a model that computes it from the newest clicks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import whole
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
            ValueError: If earlier clicks have other fields.
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
            both = torch.promote_types(old.dtype, new.dtype)  # 5 after 0.9 rounds neither
            values = new.new_empty(int(ptr[-1]), dtype=both)
            values[place], values[newest] = old[before].to(both), new[known].to(both)
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


class LiveSessions(torch.nn.Module):
    """A model asked click by click.

    Here the state is the newest clicks themselves. A family with a state of fixed size overrides
    the methods, and defines :meth:`step` where lanes train it.
    """

    num_items: int
    max_length: int | None
    catalog: Any
    score: Any

    def initial_state(self, num_sessions: int | None = None, *, user: Any = -1) -> Any:
        """The state before any click.

        Args:
            num_sessions: Live sessions in the state; ``None``: one, whose scores are a single row.
            user: Whose session it is: a code, -1 for an unknown one, or an id that is not a
                whole number; one per session where there are several.

        Returns:
            A state for :meth:`update_state` and :meth:`score_state`, which change no state.

        Raises:
            ValueError: If ``num_sessions`` is not positive, or the user is unknown.
        """
        size = 1 if num_sessions is None else whole("num_sessions", num_sessions)
        users = codes_of(self, "user", user, size)
        nothing = torch.empty(0, dtype=torch.long, device=self.device)
        ptr = torch.zeros(size + 1, dtype=torch.long, device=self.device)
        return LiveClicks(nothing, ptr, users, num_sessions is not None)

    def update_state(self, state: Any, item: Any, *, ids: bool | None = None, **fields: Any) -> Any:
        """The state one click later.

        Scores of the new state equal the scores of the whole session computed at once.

        Args:
            state: Of one session, or of several.
            item: What was clicked, of several sessions one each: codes, whole numbers, -1 for an
                unknown item, whose click is skipped; or ids that are no whole numbers.
            ids: Whether whole numbers are ids too.
            **fields: What graphs say of the click, as ``time=`` for ``click_time``.

        Raises:
            ValueError: If there is not one item per session, or one of them is not an item.
        """
        codes = codes_of(self, "item", item, state.num_sessions, ids, one=not state.is_batch)
        values = {}
        for name, value in fields.items():
            # torch would make float32 of a float: seconds since 1970 rounded to 128.
            numbers = value if isinstance(value, Tensor) else np.asarray(value)
            value = torch.as_tensor(numbers, device=self.device).reshape(-1)
            values[f"click_{name}"] = value.expand(state.num_sessions)
        return state.with_clicks(codes, self.max_length, values)

    def score_state(self, state: Any, items: Tensor | None = None) -> Tensor:
        """Scores of the next item.

        Args:
            state: Of one session, or of several; one without a click gets the items' popularity.
            items: ``None``: all items; else candidates, [C] or [num_sessions, C].

        Returns:
            [num_items] or [C] of one session, [num_sessions, ...] of several.

        Raises:
            ValueError: If a session has no click, and the model no catalog with the popularity
                of items.
        """
        batch, clicked = state.graphs()
        scores: Tensor | None = None
        if batch is not None:
            each = items is not None and items.dim() == 2
            scores = self.score(batch, items[clicked] if each and items is not None else items)
        if not bool(clicked.all()):
            if self.catalog is None:
                raise ValueError(
                    f"{type(self).__name__} has no state before the first click: update_state "
                    "first, or attach a catalog, which tells what is popular."
                )
            counts = torch.from_numpy(np.asarray(self.catalog.counts, dtype=np.float32))
            share = (counts / counts.sum().clamp(min=1)).to(self.device)
            share = share if items is None else share[items]
            rows = share.expand(state.num_sessions, share.size(-1)).clone()
            scores = (
                rows
                if scores is None
                else rows.index_copy(0, clicked.nonzero().view(-1), scores.to(rows.dtype))
            )
        assert scores is not None
        return scores if state.is_batch else scores.squeeze(0)

    def step(self, state: Any, items: Tensor) -> tuple[Tensor, Any]:
        """The vectors and the state after one more click, of a model that keeps its state.

        Args:
            state: As :meth:`initial_state` gives it for several sessions.
            items: Item codes, int64 [num_sessions].

        Returns:
            What is compared with items, [num_sessions, hidden_channels], and the new state.
        """
        raise NotImplementedError(
            f"{type(self).__name__} keeps no state from click to click: one that declares "
            "keeps_state=True defines step(state, items)."
        )

    @property
    def device(self) -> torch.device:
        tensor: Tensor | None = next(self.parameters(), None)
        tensor = next(self.buffers(), None) if tensor is None else tensor
        return torch.device("cpu") if tensor is None else tensor.device


class LayeredState(LiveSessions):
    """A live session as the state of each layer, [layers, width] or [layers, num_sessions, width].

    A family defines ``initial_state``, :meth:`step` and :meth:`vectors_of_state`.
    """

    items: Any

    def vectors_of_state(self, state: Tensor) -> Tensor:
        """What a state is scored by, [num_sessions, hidden_channels]."""
        raise NotImplementedError(f"{type(self).__name__} defines no vectors_of_state(state).")

    def update_state(
        self, state: Tensor, item: Any, *, ids: bool | None = None, **fields: Any
    ) -> Tensor:
        """The state one click later, of the shape of ``state``."""
        several = state if state.dim() == 3 else state.unsqueeze(1)
        items = codes_of(self, "item", item, several.size(1), ids, one=state.dim() == 2)
        after: Tensor = self.step(several, items)[1].view_as(state)
        return after

    def score_state(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        """Scores of the next item, [num_items] or [C]; of several [num_sessions, ...]."""
        several = state if state.dim() == 3 else state.unsqueeze(1)
        scores: Tensor = self.items.scores(self.vectors_of_state(several), items)
        return scores if state.dim() == 3 else scores.squeeze(0)


def codes_of(
    model: Any, what: str, given: Any, size: int, ids: bool | None = None, *, one: bool = False
) -> Tensor:
    """Codes of items or users, -1 for an unknown one: int64 [size].

    Raises:
        ValueError: If there is not one per session, or one is not an item or user.
    """
    known = model.num_items if what == "item" else _num_users(model)
    given = -1 if given is None and what == "user" else given
    listed = isinstance(given, (Tensor, np.ndarray, list, tuple, pd.Series, pd.Index))
    shape = list(np.shape(given)) if listed else []
    if shape and (one or shape != [size]):
        raise ValueError(
            f"{what} must be one per session, and {type(model).__name__} has the state of "
            f"{size} here, got shape {shape}."
        )
    codes = given if isinstance(given, Tensor) else np.asarray(given)
    kind = str(codes.dtype).removeprefix("torch.")
    vocabulary = None
    if model.catalog is not None:
        vocabulary = model.catalog.items if what == "item" else model.catalog.users
    numbers = kind.startswith(("int", "uint"))
    if vocabulary is not None and (ids or (ids is None and not numbers)):
        listed_ids = list(given) if listed and shape else [given]
        if ids or all(isinstance(value, (str, bytes)) for value in listed_ids):
            codes, numbers = vocabulary.encode(listed_ids, what=f"{what}s"), True
    named = "the code of an item" if what == "item" else "the code of a user"
    if not numbers:
        raise ValueError(
            f"{what} must be {named}, a whole number in 0..{known - 1}, or -1 for an unknown "
            f"one, got {given!r}: model.catalog, where there is one, knows ids, too."
        )
    found = torch.as_tensor(codes, dtype=torch.long, device=model.device)
    outside = (found < -1) | (found >= known)
    if bool(outside.any()):
        raise ValueError(
            f"{what} must be {named} in 0..{known - 1}, or -1 for an unknown one (whole "
            f"numbers that are ids go with ids=True), got {int(found[outside][0])}."
        )
    return found.reshape(-1).expand(size)


def _num_users(model: Any) -> int:
    """Users that have a code: in the model's own table, else in its catalog."""
    users = None if model.catalog is None else model.catalog.users
    own: int | None = model.settings.get("num_users")
    return own if own is not None else 0 if users is None else len(users)
