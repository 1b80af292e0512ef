"""Items of the session, ranked higher than their vectors rank them, in any family."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import whole
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import newest_clicks
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.sessions.sessions import Sessions, only_sessions
from graphseq.models.base import SessionModel, Traits
from graphseq.models.features.around import AroundBase, base_of
from graphseq.models.reading import Additions
from graphseq.models.registry import register
from graphseq.models.use.inference import inference

STEPS = tuple(2.0**-n for n in range(-1, 7))
"""By how much :meth:`WithRepeats.learn_bonus` moves one bonus, in units of the base's scores."""

LARGEST = 64.0
"""How far it moves one: beyond it the order of items hardly changes."""

FARTHEST = 1000
"""Place from which it does not tell places apart: their reciprocals hardly differ."""


@register("with_repeats")
class WithRepeats(AroundBase):
    r"""Scores of another family plus a bonus for the items of the session:

    .. math::
        \hat r_j = w_j^\top s + b_j + \beta \,
            [\, j \in \{v_1, \dots, v_{n-1}\} \text{ and } j \ne v_n \,]
            + \lambda \, [\, j = v_n \,] + \gamma \log \max(c_j, 1)

    with :math:`s` the base's session vector, :math:`w` and :math:`b_j` its item table and bias, and
    :math:`c_j` the clicks of the session on item j. In terms of probabilities, :math:`e^\beta`
    multiplies the odds of each earlier item, :math:`e^\lambda` those of the last one, and
    :math:`c_j^\gamma` those of an item clicked several times. One vector cannot point at what is
    new and at each item of the session, so that bases rank returns too low; the last item, to which
    it lies closest, mostly needs less.

    Only the base is trained, by its own loss; the bonus is added where items are ranked. Trained
    together with the base it explains returns in its place, and the base ranks new items worse.
    RepeatNet (Ren et al., AAAI 2019) learns a mixture of two decoders, to repeat or to explore;
    here three numbers do it, chosen on validation (:meth:`learn_bonus`).

    Args:
        num_items: Items of the catalog.
        base: Name of a family in :data:`graphseq.models.MODELS` that scores by an item table and is
            trained by gradients.
        bonus: :math:`\beta`, in units of the base's scores; 0: the unchanged base. A negative one
            ranks earlier items lower.
        last_bonus: :math:`\lambda`, in the same units, for the item of the last click.
        count_bonus: :math:`\gamma`, in the same units; 0: it does not matter how often.
        arguments: Arguments of the base, besides ``num_items``.

    Raises:
        ValueError: If a bonus is not finite, ``base`` is no such family, or its own arguments are
            wrong.
    """

    traits = Traits(
        architecture="another family, plus a bonus for the items of the session",
        parallel=True,
        reach="that of its base",
        side_features=False,
        best_for="sessions that come back to what they saw",
    )
    samples = "prefixes"  # as those of the default base
    causal = False
    adds_to_table = True

    def __init__(
        self,
        num_items: int,
        base: str = "srgnn",
        bonus: float = 1.0,
        *,
        last_bonus: float = 0.0,
        count_bonus: float = 0.0,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(num_items, base, arguments)
        self.keeps_state = False  # a state of fixed size does not hold the earlier items
        self.bonus = _finite("bonus", bonus)
        self.last_bonus = _finite("last_bonus", last_bonus)
        self.count_bonus = _finite("count_bonus", count_bonus)

    @classmethod
    def from_model(
        cls,
        model: SessionModel,
        bonus: float = 1.0,
        *,
        last_bonus: float = 0.0,
        count_bonus: float = 0.0,
    ) -> Self:
        """Builds this model around a copy of an existing base, which may be trained.

        Args:
            model: A model of a family in :data:`graphseq.models.MODELS`.
            bonus, last_bonus, count_bonus: As above.

        Raises:
            ValueError: If the model is of another class, or of a family without an item table.
        """
        base, arguments = base_of(model, "with_repeats")
        made = cls(
            model.num_items,
            base,
            bonus,
            last_bonus=last_bonus,
            count_bonus=count_bonus,
            arguments=arguments,
        )
        return made.taking_over(model)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, with the current bonuses."""
        now = {name: getattr(self, name) for name in ("bonus", "last_bonus", "count_bonus")}
        return {**super().settings, **now}

    def reset_parameters(self) -> None:
        inner: Any = self.inner  # each family has this method, but not their base class
        inner.reset_parameters()

    def additions(self, batch: Batch) -> Additions:
        """The bonuses of the items of each session."""
        session, item, traits = self._repeats(batch)
        bonuses = traits.new_tensor((self.bonus, self.last_bonus, self.count_bonus))
        return Additions(session, item, traits @ bonuses)

    def learn_bonus(
        self, sessions: Sessions, *, max_cases: int = 10_000, batch_size: int = 256
    ) -> Self:
        """Chooses the bonuses that rank the targets of a validation part best, by mean MRR.

        A pattern search (Hooke & Jeeves 1961) from the unchanged base: one bonus after another
        moves as long as the MRR rises, by steps from 2 down to 1/64, until none of them raises it.
        The part is scored once: only items of the session move, so that hundreds of trials take
        seconds.

        Args:
            sessions: A part that the base was not trained on, such as ``split.validation``; it is
                recoded to the codes of the model.
            max_cases: Maximum number of targets, spread evenly over the part.
            batch_size: Number of targets that are scored at once.

        Raises:
            ValueError: If the part has no known target.
        """
        only_sessions("sessions", sessions)
        if self.catalog is not None:
            sessions = self.catalog.encode(sessions)
        dataset = SessionGraphDataset(sessions, "prefixes", request_time=self.reads_request_time)
        number = min(whole("max_cases", max_cases), len(dataset))
        wanted = np.unique(np.linspace(0, len(dataset) - 1, number).astype(np.int64))
        with inference(self):
            parts = [
                self._returns(graphs.to(self.device))
                for graphs in SessionGraphLoader(dataset[wanted], batch_size=batch_size)
            ]
        if not sum(len(part.own) for part in parts):
            raise ValueError("These sessions have no target that is known: give a validation part.")

        def mrr(bonuses: tuple[float, ...]) -> float:
            places = torch.cat([part.places(bonuses) for part in parts])
            return float((1 / places.double()).mean())

        self.bonus, self.last_bonus, self.count_bonus = _highest(mrr, (0.0, 0.0, 0.0))
        return self

    def _returns(self, batch: Batch) -> _Returns:
        """What places of known targets depend on, with any bonuses."""
        known = batch.y >= 0
        session, item, traits = self._repeats(batch)
        scores = self.inner.score(batch)
        own = scores.gather(1, batch.y.clamp(min=0).unsqueeze(1)).squeeze(1)
        moved = scores[session, item]
        # Items outside the session do not move with the bonuses: their best are found once.
        scores[session, item] = -torch.inf
        others = scores.topk(min(FARTHEST, self.num_items)).values.flip(1)  # ascending
        row = known.cumsum(0) - 1  # of each known target
        kept = known[session]
        is_target = batch.y[session] == item
        return _Returns(
            row[session[kept]],
            moved[kept],
            traits[kept],
            is_target[kept],
            own[known],
            others[known],
        )

    def _repeats(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The items of each session that the model reads, session after session.

        Returns:
            Sessions and items, int64 [n] each, no pair twice; and of each, [n, 3]: 1 where it is
            earlier than the last click and not that click's item, 1 where it is that item, and
            the logarithm of its clicks.
        """
        if self.max_length is not None:
            batch = newest_clicks(batch, self.max_length)
        last = batch.click_item.index_select(0, batch.click_ptr[1:] - 1)  # [num_sessions]
        is_last = batch.x == last.index_select(0, batch.batch)  # [num_nodes]
        dtype = self.items.weight.dtype
        count = torch.zeros(is_last.shape, dtype=dtype, device=is_last.device)
        count.index_add_(0, batch.click_index, count.new_ones(batch.click_index.shape))
        traits = torch.stack([(~is_last).to(dtype), is_last.to(dtype), count.log()], dim=1)
        return batch.batch, batch.x, traits

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.bonus:g}, {self.inner!r}, last={self.last_bonus:g}, "
            f"count={self.count_bonus:g})"
        )


class _Returns(NamedTuple):
    """Scores of the items of sessions, beside the best of all others."""

    session: Tensor  # of each item of a session, int64 [m]
    score: Tensor  # by the base, [m]
    traits: Tensor  # what each bonus is multiplied by, [m, 3]
    is_target: Tensor  # bool [m]
    own: Tensor  # the base's scores of the targets, [n]
    others: Tensor  # the highest scores outside the sessions, ascending: [n, FARTHEST]

    def places(self, bonuses: tuple[float, ...]) -> Tensor:
        """The mean place of each target, [n]."""
        score = self.score + self.traits @ self.traits.new_tensor(bonuses)
        own = self.own.clone()
        own[self.session[self.is_target]] = score[self.is_target]
        column = own.unsqueeze(1)
        above = self.others.size(1) - torch.searchsorted(self.others, column, right=True)
        level = self.others.size(1) - torch.searchsorted(self.others, column) - above
        above, level = above.squeeze(1), level.squeeze(1)
        above.index_add_(0, self.session, (score > own[self.session]).long())
        level.index_add_(0, self.session, (score == own[self.session]).long())
        return 1 + above + (level.clamp(min=1) - 1) / 2


def _highest(
    value: Callable[[tuple[float, ...]], float], start: tuple[float, ...]
) -> tuple[float, ...]:
    """A point from which none of :data:`STEPS` along an axis leads higher, perhaps the start."""
    best, highest = start, value(start)
    moved = True
    while moved:  # after small steps, a large one may lead higher again
        moved = False
        for step, axis, sign in product(STEPS, range(len(best)), (1, -1)):
            while abs(best[axis] + sign * step) <= LARGEST:
                near = (*best[:axis], best[axis] + sign * step, *best[axis + 1 :])
                found = value(near)
                if found <= highest:
                    break
                best, highest, moved = near, found, True
    return best


def _finite(name: str, bonus: float) -> float:
    if isinstance(bonus, bool) or not isinstance(bonus, (int, float)) or not math.isfinite(bonus):
        raise ValueError(f"{name} is a finite number, in units of scores, got {bonus!r}.")
    return float(bonus)
