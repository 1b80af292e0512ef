"""Attention weights of a model's layers and clicks for one session, and the gates of a GRU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import newest_clicks
from graphseq.models.base import SessionModel
from graphseq.models.recommender import SessionsLike
from graphseq.models.use.inference import inference
from graphseq.models.use.recommend import item_vocabulary
from graphseq.models.use.requests import read_queries
from graphseq.nn.readouts import SRGNNReadout
from graphseq.nn.recording import recorded_outputs, recorded_weights

FAMILIES = (
    "sasrec",
    "bert4rec",
    "bst",
    "bst_ranker",
    "hstu",
    "bsarec",
    "core",
    "srgnn",
    "tagnn",
    "gcegnn",
    "sgnnhn",
)
"""Families whose attention can be read."""


@dataclass(frozen=True)
class Attention:
    """Attention weights of a model for one session.

    Attributes:
        family: Name of the model's class.
        batch: The graph of the session, with the clicks that the model uses.
        places: Meaning of the rows and columns of ``layers``: the item code of each click, with -1
            for a masked position or -2 for the candidate at the end, int64 [n].
        layers: One per layer, lowest first: [heads, rows, n], where the last row is the last
            position. A layer that computes only the last positions has fewer rows.
        clicks: The weight of each click in the session vector, [num_clicks], or ``None``.
    """

    family: str
    batch: Batch
    places: NDArray[np.int64]
    layers: tuple[NDArray[np.float32], ...]
    clicks: NDArray[np.float32] | None


def one_session(
    model: SessionModel, session: SessionsLike, user: Any = None, *, cut: bool = True
) -> Batch:
    """The graph of one session, with the newest clicks that the model uses.

    Args:
        model: Any model.
        session: One session: a list of item ids, or any input of ``recommend``.
        user: Id of its user; ``None``: unknown.
        cut: Whether to leave out clicks that the model does not use.

    Raises:
        ValueError: If it is not one session, or the model knows none of its items.
    """
    flat = getattr(session, "ndim", None) == 1 and not hasattr(session, "columns")
    if isinstance(session, (list, tuple)):
        flat = not any(isinstance(each, (list, tuple, dict)) or np.ndim(each) for each in session)
    if flat:
        session = [list(session)]
    users = None if user is None else [user]
    queries = read_queries(model, session, users, item_vocabulary(model))
    if queries.size != 1:
        raise ValueError(f"One session is looked at, got {queries.size}: pass a list of its items.")
    batch, _ = queries.batch(0, 1)
    if batch is None:
        raise ValueError("The session has no item that the model knows: there is nothing to see.")
    if cut and model.max_length is not None:
        # A masked click takes a separate position.
        batch = newest_clicks(batch, model.max_length - (model.samples == "cloze"))
    return batch.to(model.device)


def attention_of(model: SessionModel, session: SessionsLike, *, item: Any = None) -> Attention:
    """The attention weights of a model on the clicks of a session, in evaluation mode.

    Args:
        model: A model of a family with attention.
        session: One session: a list of item ids, or any input of ``recommend``.
        item: The candidate that ``bst_ranker`` puts at the end; ``None``: its best one.

    Raises:
        ValueError: If the model has no attention, or it is not one known session.
    """
    if model.samples == "counts":
        raise ValueError(_without(model))
    batch = one_session(model, session)
    softmax = False

    def weighs_clicks(name: str, _: torch.nn.Module) -> bool:
        # A layer with this name gives the weight of each click, or its logit before a softmax.
        nonlocal softmax
        owner = model.get_submodule(name.rpartition(".")[0])
        found = name.rpartition(".")[2] == "lin_score"
        found = found and isinstance(owner, (SRGNNReadout, SessionModel))
        softmax = softmax or (found and bool(getattr(owner, "softmax", False)))
        return found

    places = batch.click_item
    with (
        inference(model),
        recorded_weights(model) as weights,
        recorded_outputs(model, weighs_clicks) as outputs,
    ):
        if hasattr(model, "states_in_rows"):  # the candidate is part of the sequence
            candidate = _candidate(model, batch, item)
            weights.clear()
            model.states_in_rows(batch, candidate)
            places = torch.cat([places, places.new_tensor([-2])])
        else:
            model.score(batch)
    if model.samples == "cloze":
        places = torch.cat([places, places.new_tensor([-1])])
    if not weights and not outputs:
        raise ValueError(_without(model))
    size = len(places)
    clicks = None
    if outputs:
        alpha = outputs[-1][-1].flatten()
        clicks = (alpha.softmax(0) if softmax else alpha).float().cpu().numpy()
    return Attention(
        family=type(model).__name__,
        batch=batch.cpu(),
        places=places.cpu().numpy(),
        layers=tuple(_cut(layer, size) for layer in weights),
        clicks=clicks,
    )


def _without(model: SessionModel) -> str:
    return f"{type(model).__name__} has no attention; these families have: {', '.join(FAMILIES)}."


def _cut(weights: Tensor, size: int) -> NDArray[np.float32]:
    """The real positions of a row that is padded on the left, [heads, rows, size]."""
    found: NDArray[np.float32] = weights[0, :, -size:, -size:].float().cpu().numpy()
    return found


def _candidate(model: SessionModel, batch: Batch, item: Any) -> Tensor:
    if item is None:
        return model.score(batch).argmax(1)
    return torch.tensor([code_of(model, item)], device=model.device)


def code_of(model: SessionModel, item: Any) -> int:
    """The code of a model's item by its id.

    Raises:
        ValueError: If the model does not know it.
    """
    code = int(item_vocabulary(model).encode([item])[0])
    if not 0 <= code < model.num_items:
        raise ValueError(f"{type(model).__name__} knows no item {item!r}.")
    return code


@dataclass(frozen=True)
class Gates:
    """The gate values of a GRU for each click.

    Attributes:
        items: Item code of each click, int64 [num_clicks].
        update: Fraction of each unit's old state that is kept, [layers, num_clicks, widest]; NaN in
            narrower layers.
        reset: Fraction of the old state used by the new content, of the same shape.
    """

    items: NDArray[np.int64]
    update: NDArray[np.float32]
    reset: NDArray[np.float32]


def gates_of(model: SessionModel, session: SessionsLike) -> Gates:
    r"""The gates of GRU4Rec over the clicks of a session, in evaluation mode.

    .. math::
        r &= \sigma(W_r x + U_r h + b_r), \quad z = \sigma(W_z x + U_z h + b_z), \\
        h' &= (1 - z) \odot n + z \odot h

    Args:
        model: A model of the family ``gru4rec``.
        session: As in :func:`attention_of`.

    Raises:
        ValueError: If the model has another family, or the input is not one known session.
    """
    cells: Any = getattr(model, "_cells", None)
    embedded: Any = getattr(model, "_input", None)
    if cells is None:
        raise ValueError(f"{type(model).__name__} has no gates; gru4rec has.")
    batch = one_session(model, session)
    with inference(model):
        x = embedded(batch.click_item)  # [num_clicks, in_channels]
        update, reset = [], []
        for gru, place in cells():
            w_x, w_h, b_x, b_h = (
                getattr(gru, f"{kind}_l{place}")
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h = x.new_zeros(gru.hidden_size)
            of_layer = []
            for content in x @ w_x.t() + b_x:
                r_x, z_x, n_x = content.chunk(3)
                r_h, z_h, n_h = (w_h @ h + b_h).chunk(3)
                r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
                h = (1 - z) * (n_x + r * n_h).tanh() + z * h
                of_layer.append((z, r, h))
            z, r, x = (torch.stack(parts) for parts in zip(*of_layer, strict=True))
            update.append(z)
            reset.append(r)
    widest = max(gate.size(1) for gate in update)

    def filled(gates: list[Tensor]) -> NDArray[np.float32]:
        rows = [torch.nn.functional.pad(g, (0, widest - g.size(1)), value=np.nan) for g in gates]
        found: NDArray[np.float32] = torch.stack(rows).cpu().numpy()
        return found

    return Gates(batch.click_item.cpu().numpy(), filled(update), filled(reset))
