"""What a model reads and what it returns, checked in one place for all models."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from graphseq.data.graphs.session_graph import SessionGraph

ROWS = {"forward": "session", "click_states": "click", "score": "session"}
"""Methods of a model that read session graphs -> what each gives a row for."""


class TrainingRows(NamedTuple):
    """What one training step compares with items.

    Attributes:
        vectors: What is compared, [n, hidden_channels].
        targets: The item that each must find, int64 [n]; a negative one (-1: unknown, -100: none)
            takes its row out of the loss.
        session: The session of the batch that each belongs to, int64 [n].
    """

    vectors: Tensor
    targets: Tensor
    session: Tensor


class Additions(NamedTuple):
    """What a model adds to some scores of its item table.

    Args:
        session: The session of the batch that each belongs to, int64 [n].
        item: The item whose score it is added to, int64 [n]; no pair comes twice.
        value: What is added, [n].
    """

    session: Tensor
    item: Tensor
    value: Tensor

    def to_scores(self, scores: Tensor, items: Tensor | None, num_items: int) -> Tensor:
        """Scores with what is added to them.

        Args:
            scores: [num_sessions, num_items] or [num_sessions, C]; modified where all items are
                scored.
            items: What the columns are: ``None``: all items; else candidates, [C] for all or
                [num_sessions, C].
            num_items: Items of the catalog.

        Returns:
            The shape of ``scores``.
        """
        value = self.value.to(scores.dtype)
        if items is None:
            return scores.index_put_((self.session, self.item), value, accumulate=True)
        if not len(value):
            return scores
        key, order = (self.session * num_items + self.item).sort()
        asked = torch.arange(len(scores), device=items.device).unsqueeze(1) * num_items + items
        place = torch.searchsorted(key, asked).clamp(max=len(key) - 1)  # [num_sessions, C]
        return scores + value[order[place]] * (key[place] == asked)


def additions_of(model: Any, batch: Batch) -> Additions:
    """What a model that declares ``adds_to_table`` adds to the scores of a batch.

    Raises:
        TypeError: If its ``additions`` give something else than :class:`Additions`.
    """
    added = model.additions(batch)
    if not isinstance(added, Additions):
        raise TypeError(
            f"{type(model).__name__}.additions must give gs.models.Additions(session=, item=, "
            f"value=), got {type(added).__name__}."
        )
    return added


def check_readers(family: type[Any]) -> None:
    """Makes the methods of a class refuse what they cannot read.

    Args:
        family: Only its own methods; inherited ones are checked already.
    """
    for name, owner in ROWS.items():
        method = vars(family).get(name)
        if callable(method):
            setattr(family, name, _checked(method, name, owner))


def _checked(method: Callable[..., Any], name: str, owner: str) -> Callable[..., Any]:
    @wraps(method)
    def read(self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(batch, SessionGraph):
            raise TypeError(_refusal(type(self).__name__, batch))
        if "input_id" in batch:
            raise ValueError(
                f"{type(self).__name__} reads whole session graphs, and a NeighborLoader cuts "
                "nodes out of them: gs.SessionGraphLoader gives batches of sessions."
            )
        rows = method(self, batch, *args, **kwargs)
        if torch.compiler.is_exporting():  # sizes are symbols then
            return rows
        if name != "score" and (args or kwargs):  # asked for more than rows, as for attention
            return rows
        size = batch.num_graphs if owner == "session" else batch.click_index.numel()
        if not isinstance(rows, Tensor) or rows.dim() != 2 or len(rows) != size:
            shape = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            width: Any = "num_items" if name == "score" else "hidden_channels"
            if isinstance(rows, Tensor) and rows.dim() == 2:
                width = rows.size(1)
            raise ValueError(
                f"{type(self).__name__}.{name} must give shape [{size}, {width}] here, one row per "
                f"{owner}, got {shape}."
            )
        return rows

    return read


def _refusal(family: str, given: Any) -> str:
    """A sentence that says what was given instead of session graphs, and the way out."""
    way_out = "gs.data.build_session_graphs(items, ptr) makes them of clicks"
    if isinstance(given, Data):
        way_out = (
            "gs.data.SessionGraph(**data.to_dict()) makes one of its fields, before it is batched"
            if "click_index" in given
            else f"it lacks the order of clicks; {way_out}"
        )
    elif isinstance(given, Tensor):
        way_out += ", and gs.models.ForExplainer(model) is what PyG's Explainer calls"
    else:
        way_out += ", and model.recommend(sessions) takes lists, frames and gs.Sessions"
    return (
        f"{family} reads session graphs (gs.data.SessionGraph, or a batch of them), got "
        f"{type(given).__name__}: {way_out}."
    )
