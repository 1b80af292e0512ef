"""Items of the session, ranked higher than their vectors rank them, in any family."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Self

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

BONUSES = (*(n / 4 for n in range(-8, 17)), 5.0, 6.0, 8.0)
"""What :meth:`WithRepeats.learn_bonus` tries: from -2 to 4 in steps of a quarter, and beyond."""

COUNT_BONUSES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
"""What it tries for items that the session clicked more than once."""

FARTHEST = 1000
"""Place from which it does not tell places apart: their reciprocals hardly differ."""


@register("with_repeats")
class WithRepeats(AroundBase):
    r"""Scores of another family plus a bonus for the items of the session:

    .. math::
        \hat r_j = w_j^\top s + b_j + \beta \,
            [\, j \in \{v_1, \dots, v_{n-1}\} \text{ and } j \ne v_n \,]
            + \gamma \log \max(c_j, 1)

    with :math:`s` the base's session vector, :math:`w` and :math:`b_j` its item table and bias, and
    :math:`c_j` the clicks of the session on item j. In terms of probabilities, :math:`e^\beta`
    multiplies the odds of each earlier item, and :math:`c_j^\gamma` those of an item clicked
    several times; the last item has only the second. One vector cannot point at what is new and at
    each of several earlier items, so that bases rank returns too low.

    Only the base is trained, by its own loss; the bonus is added where items are ranked. Trained
    together with the base it explains returns in its place, and the base ranks new items worse.
    RepeatNet (Ren et al., AAAI 2019) learns a mixture of two decoders, to repeat or to explore;
    here two numbers do it, chosen on validation (:meth:`learn_bonus`).

    Args:
        num_items: Items of the catalog.
        base: Name of a family in :data:`graphseq.models.MODELS` that scores by an item table and is
            trained by gradients.
        bonus: :math:`\beta`, in units of the base's scores; 0: the unchanged base. A negative one
            ranks earlier items lower.
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
        count_bonus: float = 0.0,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(num_items, base, arguments)
        self.keeps_state = False  # a state of fixed size does not hold the earlier items
        self.bonus = _finite("bonus", bonus)
        self.count_bonus = _finite("count_bonus", count_bonus)

    @classmethod
    def from_model(
        cls, model: SessionModel, bonus: float = 1.0, *, count_bonus: float = 0.0
    ) -> Self:
        """Builds this model around a copy of an existing base, which may be trained.

        Args:
            model: A model of a family in :data:`graphseq.models.MODELS`.
            bonus, count_bonus: As above.

        Raises:
            ValueError: If the model is of another class, or of a family without an item table.
        """
        base, arguments = base_of(model, "with_repeats")
        made = cls(model.num_items, base, bonus, count_bonus=count_bonus, arguments=arguments)
        return made.taking_over(model).train(model.training)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, with the current bonuses."""
        return {**super().settings, "bonus": self.bonus, "count_bonus": self.count_bonus}

    def reset_parameters(self) -> None:
        inner: Any = self.inner  # each family has this method, but not their base class
        inner.reset_parameters()

    def additions(self, batch: Batch) -> Additions:
        """The bonuses of the items of each session."""
        session, item, earlier, log_count = self._repeats(batch)
        return Additions(session, item, self.bonus * earlier + self.count_bonus * log_count)

    def learn_bonus(
        self,
        sessions: Sessions,
        *,
        bonuses: Sequence[float] = BONUSES,
        count_bonuses: Sequence[float] = COUNT_BONUSES,
        max_cases: int = 10_000,
        batch_size: int = 256,
    ) -> Self:
        """Chooses the bonuses that rank the targets of a validation part best, by mean MRR.

        A warning says where the best is the largest or the most negative that was tried: farther
        ones may then be better.

        Args:
            sessions: A part that the base was not trained on, such as ``split.validation``; it is
                recoded to the codes of the model.
            bonuses, count_bonuses: What is tried, each with each; among ties the first is chosen.
            max_cases: Maximum number of targets, spread evenly over the part.
            batch_size: Number of targets that are scored at once.

        Raises:
            ValueError: If the part has no known target, or nothing is to be tried.
        """
        betas, gammas = _tried("bonuses", bonuses), _tried("count_bonuses", count_bonuses)
        tried = list(product(betas, gammas))
        only_sessions("sessions", sessions)
        if self.catalog is not None:
            sessions = self.catalog.encode(sessions)
        dataset = SessionGraphDataset(sessions, samples="prefixes")
        number = min(whole("max_cases", max_cases), len(dataset))
        wanted = np.unique(np.linspace(0, len(dataset) - 1, number).astype(np.int64))
        total = torch.zeros(len(tried), dtype=torch.double)
        cases = 0
        with inference(self):
            for graphs in SessionGraphLoader(dataset[wanted], batch_size=batch_size):
                batch = graphs.to(self.device)
                places = self._places(batch, tried)
                cases += len(places)
                total += (1 / places.double()).sum(0).cpu()
        if not cases:
            raise ValueError("These sessions have no target that is known: give a validation part.")
        self.bonus, self.count_bonus = tried[int(total.argmax())]
        _warn_at_end("bonus", self.bonus, betas)
        _warn_at_end("count_bonus", self.count_bonus, gammas)
        return self

    def _places(self, batch: Batch, tried: Sequence[tuple[float, float]]) -> Tensor:
        """The mean place of each known target under each pair of bonuses, [n, len(tried)]."""
        session, item, earlier, log_count = self._repeats(batch)
        scores = self.inner.score(batch)
        beta, gamma = scores.new_tensor(tried).unbind(1)  # [len(tried)]
        moved = scores[session, item].unsqueeze(1)
        moved = moved + beta * earlier.unsqueeze(1) + gamma * log_count.unsqueeze(1)
        is_own = batch.y[session] == item
        own = scores.gather(1, batch.y.clamp(min=0).unsqueeze(1)).repeat(1, len(tried))
        own[session[is_own]] = moved[is_own]  # [num_sessions, len(tried)]
        # Items outside the session do not move with the bonuses: their best are found once.
        scores[session, item] = -torch.inf
        others = scores.topk(min(FARTHEST, self.num_items)).values.flip(1)  # ascending
        above = others.size(1) - torch.searchsorted(others, own, right=True)
        level = others.size(1) - torch.searchsorted(others, own) - above
        above.index_add_(0, session, (moved > own[session]).long())
        level.index_add_(0, session, (moved == own[session]).long())
        return (1 + above + (level.clamp(min=1) - 1) / 2)[batch.y >= 0]

    def _repeats(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The items of each session that the model reads, session after session.

        Returns:
            Sessions and items, int64 [n] each, no pair twice. Of each, 1 where it is earlier than
            the last click and not that click's item, else 0; and the logarithm of its clicks.
        """
        if self.max_length is not None:
            batch = newest_clicks(batch, self.max_length)
        last = batch.click_item.index_select(0, batch.click_ptr[1:] - 1)  # [num_sessions]
        earlier = batch.x != last.index_select(0, batch.batch)  # [num_nodes]
        dtype = self.items.weight.dtype
        count = torch.zeros(earlier.shape, dtype=dtype, device=earlier.device)
        count.index_add_(0, batch.click_index, count.new_ones(batch.click_index.shape))
        return batch.batch, batch.x, earlier.to(dtype), count.log()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.bonus:g}, {self.inner!r}, count={self.count_bonus:g})"


def _finite(name: str, bonus: float) -> float:
    if isinstance(bonus, bool) or not isinstance(bonus, (int, float)) or not math.isfinite(bonus):
        raise ValueError(f"{name} is a finite number, in units of scores, got {bonus!r}.")
    return float(bonus)


def _tried(name: str, bonuses: Sequence[float]) -> list[float]:
    tried = [_finite(name, bonus) for bonus in bonuses] if isinstance(bonuses, Iterable) else []
    if not tried:
        raise ValueError(f"{name} are one number at least, as [0.0, 0.5, 1.0], got {bonuses!r}.")
    return tried


def _warn_at_end(name: str, chosen: float, tried: Sequence[float]) -> None:
    """Warns if the best lies at an end of the scale; to have no effect is no such end."""
    low, high = min(tried), max(tried)
    if low < high and chosen != 0.0 and chosen in (low, high):
        kind, other = ("largest", "larger") if chosen == high else ("smallest", "smaller")
        values = "bonuses" if name == "bonus" else "count_bonuses"
        warnings.warn(
            f"The best {name} is the {kind} that was tried, {chosen:g}: try {other} {values}.",
            stacklevel=3,
        )
