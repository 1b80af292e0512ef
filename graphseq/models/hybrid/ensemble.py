"""Late fusion: several models as one, by places or by scores, with a weight for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import ModuleList
from torch_geometric.data import Batch

from graphseq.arguments import check_choice, flag, whole
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions, only_sessions
from graphseq.models.base import SessionModel, Traits
from graphseq.models.counting.counting import CountingModel, of_items
from graphseq.models.features.around import base_of, check_arguments
from graphseq.models.registry import MODELS, register
from graphseq.models.use.inference import inference

CONSTANT = 60.0
"""Constant added to a place, as in Cormack et al."""

BELOW_ALL = -1e300
"""What a hidden item gets from every member: finite, so that a weight of 0 leaves no NaN."""

Member = Mapping[str, Any]
"""``{"model": name of a family, "arguments": {...}}``."""


@register("ensemble")
class Ensemble(CountingModel):
    r"""Several models as one: weighted sums of their results for each item.

    .. math::
        \hat y_{sj} = \sum_m \frac{w_m}{60 + \mathrm{place}_m(j)} \quad\text{or}\quad
        \hat y_{sj} = \sum_m w_m \frac{\hat y^m_{sj} - \mu^m_s}{\sigma^m_s}

    With ``fusion="places"`` (reciprocal rank fusion; Cormack et al., SIGIR 2009) tied items of a
    model share the mean of their places. With ``"scores"`` the scores of each model have mean 0 and
    standard deviation 1 in every session; an item that a model never recommends gets its lowest
    score.

    ``fit`` fits the counting members. Members trained by gradients must be fitted before:
    :meth:`from_models` combines fitted models. :meth:`learn_weights` chooses the weights on a
    validation part.

    Args:
        num_items: Items of the catalog.
        members: Names of families, or dicts of ``"model"`` and ``"arguments"``, at least one.
        fusion: ``"places"`` or ``"scores"``.
        weights: One number of at least 0 per member, not all 0; ``None``: the same for all.

    Raises:
        ValueError: If there is no member, a name is unknown, or the weights are wrong.
    """

    traits = Traits(
        architecture="weighted sum of other families",
        parallel=True,
        reach="that of its members",
        side_features=True,
        best_for="the last points of quality, where several models may be served",
    )
    num_roundings = 64

    joined: Tensor

    def __init__(
        self,
        num_items: int,
        members: Sequence[str | Member] = ("sequential_rules", "vsknn"),
        *,
        fusion: Literal["places", "scores"] = "places",
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_items)
        check_choice("fusion", fusion, ("places", "scores"))
        self.members = ModuleList(_member(num_items, each) for each in members)
        if not len(self.members):
            raise ValueError("An ensemble needs at least one member.")
        self.reads_times = any(member.reads_times for member in self._models)
        self.reads_request_time = any(member.reads_request_time for member in self._models)
        self.fusion = fusion
        self.weights = _checked(weights, len(self.members))
        self.register_buffer("joined", torch.tensor(False))  # from fitted models

    @classmethod
    def from_models(
        cls,
        models: Sequence[SessionModel],
        *,
        fusion: Literal["places", "scores"] = "places",
        weights: Sequence[float] | None = None,
    ) -> Self:
        """An ensemble of fitted models; it holds the models themselves, not copies.

        Args:
            models: Models of the same catalog, each of a family in :data:`graphseq.models.MODELS`.
            fusion, weights: As above.

        Raises:
            ValueError: If there is none, or two have different items or a different order of items.
            TypeError: If one is no model.
        """
        if isinstance(models, SessionModel) or not all(
            isinstance(model, SessionModel) for model in models
        ):
            raise TypeError(
                f"An ensemble joins a list of fitted models, got {models!r:.80}: names of families "
                "are members of gs.models.Ensemble(num_items, [...])."
            )
        if not len(models):
            raise ValueError("An ensemble needs at least one model.")
        first = models[0]
        for number, model in enumerate(models):
            same = model.num_items == first.num_items
            if same and model.catalog is not None and first.catalog is not None:
                same = model.catalog.items == first.catalog.items
            if not same:
                raise ValueError(
                    f"Member {number}, a {type(model).__name__}, has other items than member 0, a "
                    f"{type(first).__name__}: fit all on the same split."
                )
        named = (base_of(model, "an ensemble") for model in models)
        members = [{"model": name, "arguments": arguments} for name, arguments in named]
        made = cls(first.num_items, members, fusion=fusion, weights=weights)
        made.members = ModuleList(models)
        made.joined = torch.tensor(True)
        if first.catalog is not None:
            SessionModel.attach(made, first.catalog)
            made.item_counts = torch.from_numpy(first.catalog.counts.copy())
        return made

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, with the current weights."""
        members = [
            {"model": each, "arguments": {}} if isinstance(each, str) else dict(each)
            for each in super().settings["members"]
        ]
        return {**super().settings, "members": members, "weights": list(self.weights)}

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Attaches the training data to the ensemble, and to members without it."""
        super().attach(catalog, sessions)
        for member in self._models:
            if member.catalog is None:
                member.attach(catalog, sessions)

    def grown_by(self, grow: Callable[[SessionModel], SessionModel]) -> Self | None:
        """The ensemble of its grown members, with the same weights, for :func:`graphseq.grow`.

        ``None`` where all members are counted by :meth:`fit_counts`, as in any counting model.
        """
        if not self.joined:
            return None
        grown = [grow(member) for member in self._models]
        made = type(self).from_models(grown, fusion=self.fusion, weights=self.weights)
        return made.train(self.training)

    def fit_counts(self, sessions: Sessions) -> Self:
        """Fits the counting members; members trained by gradients must be fitted already.

        Raises:
            ValueError: If a member is trained by gradients and is not fitted yet.
        """
        for member in self._models:
            if not isinstance(member, CountingModel) and not self.joined:
                raise ValueError(
                    f"{type(member).__name__} is trained by gradients: fit it first, and join it "
                    "by gs.models.Ensemble.from_models([...])."
                )
        for member in self._models:
            if isinstance(member, CountingModel):
                member.fit_counts(sessions)
        return super().fit_counts(sessions)

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """Weighted sums over the members.

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] or [num_sessions, C]; places and
                deviations are still computed over all items.

        Returns:
            float64 [num_sessions, num_items] or [num_sessions, C].
        """
        self.popularity()  # raises if a member is not fitted
        parts = self._parts(batch)  # [num_members, num_sessions, num_items]
        weights = parts.new_tensor(self.weights)
        scores = torch.einsum("m,msj->sj", weights, parts)
        return of_items(scores, items)

    def learn_weights(
        self,
        sessions: Sessions,
        *,
        exclude_seen: bool = False,
        steps: int = 10,
        max_cases: int = 5000,
        batch_size: int = 256,
    ) -> Self:
        """Chooses the weights that rank the targets of a validation part best, by mean MRR.

        All weights that are multiples of ``1 / steps`` and sum to one are tried; among ties the
        most even weights are chosen.

        Args:
            sessions: A part that no member was trained on, such as ``split.validation``; it is
                recoded to the codes of the ensemble.
            steps: Number of parts that the total weight is divided into. Give 100 where one member
                scores few items, as neighbor families do: these have large deviations, and their
                best weight is below a tenth.
            max_cases: Maximum number of targets, spread evenly over the part.
            batch_size: Number of targets that are scored at once.

        Raises:
            ValueError: If the part has no known target.
        """
        whole("steps", steps)
        whole("max_cases", max_cases)
        only_sessions("sessions", sessions)
        if self.catalog is not None:
            sessions = self.catalog.encode(sessions)
        simplex = _simplex(len(self.members), steps)
        dataset = SessionGraphDataset(sessions, "prefixes", request_time=self.reads_request_time)
        wanted = np.linspace(0, len(dataset) - 1, min(max_cases, len(dataset))).astype(np.int64)
        loader = SessionGraphLoader(dataset[np.unique(wanted)], batch_size=batch_size)
        total = np.zeros(len(simplex))
        number = 0
        with inference(self):
            for batch in loader:
                known = batch.y >= 0
                if not bool(known.any()):
                    continue
                parts = self._parts(batch)[:, known]  # [num_members, n, num_items]
                target = batch.y[known].view(-1, 1)
                number += len(target)
                hidden = torch.zeros(batch.num_graphs, self.num_items, dtype=torch.bool)
                if flag("exclude_seen", exclude_seen):
                    hidden[batch.batch, batch.x] = True
                # Of every member: the weights sum to one, so that no sum is above it.
                parts.masked_fill_(hidden[known].scatter_(1, target, False), BELOW_ALL)
                for row, weights in enumerate(simplex):
                    scores = torch.einsum("m,msj->sj", parts.new_tensor(weights), parts)
                    own = scores.gather(1, target)
                    room = 1e-12 * own.abs()
                    better = (scores > own + room).sum(1)
                    tied = (scores >= own - room).sum(1) - better
                    total[row] += float((1 / (better + (tied + 1) / 2)).sum())
        if number == 0:
            raise ValueError("These sessions have no target that is known: give a validation part.")
        best = np.flatnonzero(total >= total.max() - 1e-9 * number)
        even = np.square(simplex[best]).sum(1)
        self.weights = [float(value) for value in simplex[best[even.argmin()]]]
        return self

    @property
    def _models(self) -> list[SessionModel]:
        return list(self.members)  # type: ignore[arg-type]

    def _parts(self, batch: Batch) -> Tensor:
        """The results of each member, float64 [num_members, num_sessions, num_items]."""
        as_parts = _reciprocal_places if self.fusion == "places" else _standardized
        return torch.stack([as_parts(member.score(batch).double()) for member in self._models])

    def __repr__(self) -> str:
        members = ", ".join(
            f"{weight:g} {type(member).__name__}"
            for weight, member in zip(self.weights, self._models, strict=True)
        )
        return f"{type(self).__name__}({members})"


def _member(num_items: int, given: str | Member) -> SessionModel:
    if isinstance(given, SessionModel):
        raise ValueError(
            f"{type(given).__name__} is a model, and a member is named: join fitted models by "
            "gs.models.Ensemble.from_models([...])."
        )
    told: dict[str, Any] = {"model": given} if isinstance(given, str) else dict(given)
    name, arguments = told.pop("model", None), told.pop("arguments", None) or {}
    if told or name not in MODELS:
        raise ValueError(
            f"A member is one of {', '.join(MODELS)}, or a dict of 'model' and 'arguments', got "
            f"{given!r}."
        )
    check_arguments(name, arguments)
    made: SessionModel = MODELS[name](num_items, **arguments)
    return made


def _checked(weights: Sequence[float] | None, number: int) -> list[float]:
    values = np.full(number, 1 / number)
    if weights is not None:
        try:
            values = np.asarray(weights, dtype=np.float64)
        except (TypeError, ValueError):
            values = np.empty(0)  # refused below
    if values.shape != (number,) or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(
            f"weights are {number} numbers of at least 0, one per member, got {weights}."
        )
    if values.sum() == 0:
        raise ValueError("Not all weights can be 0.")
    return [float(value) for value in values]


def _simplex(number: int, steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """All weights of ``number`` members that are multiples of ``1 / steps``, [n, number]."""
    heads = [head for head in product(range(steps + 1), repeat=number - 1) if sum(head) <= steps]
    return np.array([[*head, steps - sum(head)] for head in heads], dtype=np.float64) / steps


def _reciprocal_places(scores: Tensor) -> Tensor:
    """``1 / (60 + place)``; tied items share the mean of their places, [n, V]."""
    width = scores.size(1)
    if scores.device.type == "cpu":  # NumPy sorts with vector instructions: six times faster
        order = torch.from_numpy(np.argsort(-scores.detach().numpy(), axis=1))
    else:
        order = scores.argsort(dim=1, descending=True)
    ordered = scores.gather(1, order)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = starts.flatten().nonzero().flatten()  # of each run of equal scores
    size = first.diff(append=first.new_tensor([starts.numel()]))
    mean = (first % width + 1) + (size - 1).to(scores.dtype) / 2
    value = (1 / (CONSTANT + mean)).repeat_interleave(size).view_as(scores)
    return torch.empty_like(scores).scatter_(1, order, value)


def _standardized(scores: Tensor) -> Tensor:
    """Scores with mean 0 and standard deviation 1 in every session, [n, V]."""
    told = scores > -torch.inf
    lowest = scores.masked_fill(~told, torch.inf).amin(1, keepdim=True)
    scores = torch.where(told, scores, torch.where(lowest < torch.inf, lowest, 0))
    centered = scores - scores.mean(1, keepdim=True)
    deviation = centered.square().mean(1, keepdim=True).sqrt()
    return centered / torch.where(deviation > 0, deviation, 1)
