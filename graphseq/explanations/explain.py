"""Which clicks and transitions made a recommendation, in one call for every family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Batch
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.explain.algorithm.utils import clear_masks
from torch_geometric.nn import MessagePassing

from graphseq.arguments import check_choice, whole
from graphseq.explanations.explanation import Explanation, Method, edge_of_transitions
from graphseq.explanations.gradients import integrated_gradients
from graphseq.explanations.variants import score_variants
from graphseq.models.base import SessionModel
from graphseq.models.recommender import SessionsLike
from graphseq.models.use.attention import code_of, one_session
from graphseq.models.use.explain import ForExplainer
from graphseq.models.use.inference import inference
from graphseq.models.use.recommend import item_vocabulary
from graphseq.random import seed_of

MOST_REPLACEMENTS = 128
"""Items that stand in for the only click of a session, which cannot be left out."""

EPOCHS, LEARNING_RATE = 100, 0.05
"""Of the mask that GNNExplainer learns."""


def explain(
    model: SessionModel,
    session: SessionsLike,
    item: Any = None,
    *,
    method: Method = "leave_one_out",
    user: Any = None,
    steps: int = 64,
    seed: int = 0,
) -> Explanation:
    r"""Says how much each click and each transition of a session speaks for an item.

    ``"leave_one_out"``, for all families: the effect of a click is what the item's score, above the
    mean of the catalog, loses without it; that of a transition what it loses when its two clicks
    change places. The only click of a session is compared with other items in its place.

    ``"integrated_gradients"`` (Sundararajan et al., ICML 2017), for families with embeddings of
    clicks: effects sum to what the score gains from a session of mean items; no transitions.

    ``"gnn_explainer"`` (Ying et al., NeurIPS 2019), for ``srgnn`` and ``tagnn``: a mask of edges
    that PyG's ``Explainer`` learns, from 0 to 1; a click has half of the transitions beside it.

    Args:
        model: Any model.
        session: A list of item ids, or whatever ``recommend`` takes, of one session.
        item: Id of the item; ``None``: the one that the model recommends first.
        method: One of the three.
        user: Id of the user.
        steps: Points of the way of integrated gradients.
        seed: Of the mask's start.

    Returns:
        The effects, as a table (``to_frame``) and a picture (``draw``).

    Raises:
        ValueError: If it is not one known session, the model does not know the item, or the method
            does not fit the family.

    Example:
        >>> import graphseq as gs
        >>> sessions = gs.Sessions.from_lists([["a", "b", "c"], ["x", "b", "c"], ["x", "a"]] * 4)
        >>> split = gs.session_split(sessions, test_fraction=0.2)
        >>> model = gs.models.MarkovChain(split.num_items)
        >>> _ = gs.fit(model, split)
        >>> gs.explain(model, ["x", "b"], "c").clicks.argmax()  # it looks at the last click alone
        np.int64(1)
    """
    check_choice("method", method, get_args(Method))
    steps = whole("steps", steps)
    batch, unseen = seen_of(model, session, user)
    code = best_of(model, batch) if item is None else code_of(model, item)
    size = batch.num_clicks
    now = score_variants(model, batch, [np.arange(size)], code)
    with inference(model):
        score = float(model.score(batch)[0, code])
    transitions: NDArray[np.float64] | None = None
    if method == "leave_one_out":
        clicks, transitions = _left_out(model, batch, code, float(now.margin[0]))
    elif method == "integrated_gradients":
        clicks = integrated_gradients(model, batch, code, steps=steps)
    else:
        clicks, transitions = _masked(model, batch, code, seed)
    ids = item_vocabulary(model).ids
    return Explanation(
        family=type(model).__name__,
        method=method,
        session=[ids[place] for place in batch.click_item.tolist()],
        item=ids[code],
        score=score,
        rank=int(now.rank[0]),
        clicks=clicks,
        transitions=transitions,
        unseen=unseen,
        graph=batch.cpu().get_example(0),
        ids=ids,
    )


def seen_of(model: SessionModel, session: SessionsLike, user: Any = None) -> tuple[Batch, int]:
    """The graph of the clicks of a session that a model sees, and how many older ones it does not.

    Raises:
        ValueError: If it is not one session, or the model knows none of its items.
    """
    whole_session = one_session(model, session, user, cut=False)
    batch = one_session(model, session, user)
    return batch, whole_session.num_clicks - batch.num_clicks


def best_of(model: SessionModel, batch: Batch) -> int:
    """The code of the item that a model recommends first."""
    with inference(model):
        scores = model.score(batch)[0].clone()
        if model.catalog is not None:
            scores[torch.from_numpy(model.catalog.delisted).to(scores.device)] = -torch.inf
    return int(scores.argmax())


def without(size: int, places: Sequence[int]) -> NDArray[np.int64]:
    """The places of all clicks but these."""
    return np.delete(np.arange(size), list(places))


def _left_out(
    model: SessionModel, batch: Batch, item: int, margin: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    size = batch.num_clicks
    if size == 1:
        return np.array([margin - _replaced(model, batch, item)]), np.empty(0)
    orders = [without(size, [place]) for place in range(size)]
    for place in range(size - 1):
        swapped = np.arange(size)
        swapped[[place, place + 1]] = swapped[[place + 1, place]]
        orders.append(swapped)
    effect = margin - score_variants(model, batch, orders, item).margin
    return effect[:size], effect[size:]


def _replaced(model: SessionModel, batch: Batch, item: int) -> float:
    """The mean margin after another only click."""
    count = min(model.num_items, MOST_REPLACEMENTS)
    others = np.unique(np.linspace(0, model.num_items - 1, count).astype(np.int64))
    found = []
    for other in others.tolist():
        if other != int(batch.x[0]):
            replaced = batch.clone()
            replaced.x = torch.full_like(batch.x, other)
            found.append(score_variants(model, replaced, [np.arange(1)], item).margin[0])
    return float(np.mean(found)) if found else 0.0


def _masked(
    model: SessionModel, batch: Batch, item: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    graph = batch.get_example(0)
    if graph.num_edges == 0:
        return np.zeros(batch.num_clicks), np.empty(0)
    modes = {module: module.training for module in model.modules()}
    if not any(isinstance(module, MessagePassing) for module in modes):
        raise ValueError(
            f"{type(model).__name__} passes no messages along transitions, so no mask of them "
            "explains it: take method='leave_one_out'."
        )
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed_of("explanation", seed))
            found = Explainer(
                ForExplainer(model),
                algorithm=GNNExplainer(epochs=EPOCHS, lr=LEARNING_RATE),
                explanation_type="phenomenon",
                edge_mask_type="object",
                model_config={
                    "mode": "multiclass_classification",
                    "task_level": "graph",
                    "return_type": "raw",
                },
            )(
                graph.x.view(-1, 1),
                graph.edge_index,
                graph=graph,
                target=torch.tensor([item], device=model.device),
            )
    finally:
        clear_masks(model)  # PyG leaves them behind where it fails
        for module, training in modes.items():
            module.training = training
    mask = found.edge_mask.detach().cpu().numpy().astype(np.float64)
    transitions: NDArray[np.float64] = mask[edge_of_transitions(graph)]
    clicks = np.zeros(batch.num_clicks)
    clicks[:-1] += transitions / 2
    clicks[1:] += transitions / 2
    return clicks, transitions
