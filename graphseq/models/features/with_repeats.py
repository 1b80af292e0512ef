"""Earlier items of the session, ranked higher than their vectors rank them, in any family."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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

BONUSES = tuple(n / 4 for n in range(-8, 17))
"""What :meth:`WithRepeats.learn_bonus` tries: from -2 to 4 in steps of a quarter."""


@register("with_repeats")
class WithRepeats(AroundBase):
    r"""Scores of another family plus a bonus for the earlier items of the session:

    .. math::
        \hat r_j = w_j^\top s + b_j + \beta \,
            [\, j \in \{v_1, \dots, v_{n-1}\} \text{ and } j \ne v_n \,]

    with :math:`s` the base's session vector, :math:`w` and :math:`b_j` its item table and bias. In
    terms of probabilities, :math:`e^\beta` multiplies the odds of each earlier item; the last item
    has no bonus. One vector cannot point at what is new and at each of several earlier items, so
    that bases rank returns too low.

    Only the base is trained, by its own loss; the bonus is added where items are ranked. Trained
    together with the base it explains returns in its place, and the base ranks new items worse.
    RepeatNet (Ren et al., AAAI 2019) learns a mixture of two decoders, to repeat or to explore;
    here one number does it, chosen on validation (:meth:`learn_bonus`).

    Args:
        num_items: Items of the catalog.
        base: Name of a family in :data:`graphseq.models.MODELS` that scores by an item table and is
            trained by gradients.
        bonus: :math:`\beta`, in units of the base's scores; 0: the unchanged base. A negative one
            ranks earlier items lower.
        arguments: Arguments of the base, besides ``num_items``.

    Raises:
        ValueError: If ``bonus`` is not finite, ``base`` is no such family, or its own arguments are
            wrong.
    """

    traits = Traits(
        architecture="another family, plus a bonus for earlier items of the session",
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
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(num_items, base, arguments)
        self.keeps_state = False  # a state of fixed size does not hold the earlier items
        self.bonus = _finite(bonus)

    @classmethod
    def from_model(cls, model: SessionModel, bonus: float = 1.0) -> Self:
        """Builds this model around a copy of an existing base, which may be trained.

        Args:
            model: A model of a family in :data:`graphseq.models.MODELS`.
            bonus: As above.

        Raises:
            ValueError: If the model is of another class, or of a family without an item table.
        """
        base, arguments = base_of(model, "with_repeats")
        made = cls(model.num_items, base, bonus, arguments=arguments)
        return made.taking_over(model).train(model.training)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, with the current bonus."""
        return {**super().settings, "bonus": self.bonus}

    def reset_parameters(self) -> None:
        inner: Any = self.inner  # each family has this method, but not their base class
        inner.reset_parameters()

    def additions(self, batch: Batch) -> Additions:
        """The bonus of the items before each session's last click."""
        session, item = self._earlier(batch)
        return Additions(session, item, self.items.weight.new_full(item.shape, self.bonus))

    def learn_bonus(
        self,
        sessions: Sessions,
        *,
        bonuses: Sequence[float] = BONUSES,
        max_cases: int = 10_000,
        batch_size: int = 256,
    ) -> Self:
        """Chooses the bonus that ranks the targets of a validation part best, by mean MRR.

        Args:
            sessions: A part that the base was not trained on, such as ``split.validation``; it is
                recoded to the codes of the model.
            bonuses: What is tried; among ties the first is chosen.
            max_cases: Maximum number of targets, spread evenly over the part.
            batch_size: Number of targets that are scored at once.

        Raises:
            ValueError: If the part has no known target, or nothing is to be tried.
        """
        tried = [_finite(bonus) for bonus in bonuses] if isinstance(bonuses, Iterable) else []
        if not tried:
            raise ValueError(
                f"bonuses are one number at least, as [0.0, 0.5, 1.0], got {bonuses!r}."
            )
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
                row = (batch.y >= 0).nonzero().view(-1)
                target = batch.y[row].unsqueeze(1)  # [n, 1]
                cases += len(row)
                base = self.inner.score(batch)
                earlier = torch.zeros_like(base, dtype=torch.bool)
                earlier[self._earlier(batch)] = True
                base, earlier = base[row], earlier[row]
                for place, bonus in enumerate(tried):
                    scores = base + bonus * earlier
                    own = scores.gather(1, target)
                    better, tied = (scores > own).sum(1), (scores == own).sum(1) - 1
                    total[place] += (1 / (1 + better + tied / 2)).sum().cpu()
        if not cases:
            raise ValueError("These sessions have no target that is known: give a validation part.")
        self.bonus = tried[int(total.argmax())]
        return self

    def _earlier(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The items that a session has before its last click, but for that one's.

        Returns:
            Sessions and items, int64 [n] each; no pair comes twice.
        """
        if self.max_length is not None:
            batch = newest_clicks(batch, self.max_length)
        last = batch.click_item.index_select(0, batch.click_ptr[1:] - 1)  # [num_sessions]
        earlier = batch.x != last.index_select(0, batch.batch)  # [num_nodes]
        return batch.batch[earlier], batch.x[earlier]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.bonus:g}, {self.inner!r})"


def _finite(bonus: float) -> float:
    if isinstance(bonus, bool) or not isinstance(bonus, (int, float)) or not math.isfinite(bonus):
        raise ValueError(f"bonus is a finite number, in units of scores, got {bonus!r}.")
    return float(bonus)
