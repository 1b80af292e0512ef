"""V-SKNN: session-kNN in which the newest clicks count most."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from graphseq.data.logs.times import Duration
from graphseq.models.base import Traits
from graphseq.models.counting.session_knn import SessionKNN
from graphseq.models.registry import register

Decay = Literal["same", "linear", "div", "log", "quadratic"]


@register("vsknn")
class VSKNN(SessionKNN):
    r"""Vector multiplication session-kNN (Ludewig and Jannach, UMUAI 2018).

    .. math::
        \mathrm{sim}(s, n) = \frac{1}{|s|} \sum_{i \in s \cap n} w(i) \cdot 2^{-\Delta t / h},
        \qquad \hat y_{sj} = \sum_{n \in N_s,\, j \in n} \mathrm{sim}(s, n) \, m(s, n)
            \, (1 + \omega \, \mathrm{idf}_j) + \beta \frac{c_j}{N}

    With :math:`a` the clicks from the last one on an item to the end of the session, 1 for the
    newest, and :math:`L` the clicks of the session, :math:`w` follows ``decay`` and :math:`m`
    follows ``match_decay`` at the age of the newest item in common:

    ============= ============================ =====================
    name          :math:`w`                    :math:`m`
    ============= ============================ =====================
    ``same``      1                            1
    ``linear``    max(0, 1 - (a - 1) / 10)     max(0, 1 - a / 10)
    ``div``       (L - a + 1) / L              1 / a
    ``log``       1 / log10(a + 0.7)           1 / log10(a + 1.7)
    ``quadratic`` ((L - a + 1) / L)²           1 / a²
    ============= ============================ =====================

    The authors' code, session-rec, has the same weights, except for a linear one that is zero for
    the newest clicks of sessions with more than ten. Its time decay is 7/8 per day, which is
    ``half_life=448_500`` in seconds. Its idf counts clicks; this model counts sessions, and idf is
    off by default. It breaks ties in the order of a Python set, this model by recency. Without a
    neighbor it ranks nothing, this model by popularity.

    Args:
        num_items, k, sample_size, half_life, idf_weight, last_clicks, backoff: As in
            :class:`~graphseq.models.counting.session_knn.SessionKNN`.
        decay: Weight of the current session's items in the similarity.
        match_decay: Weight of a neighbor by the newest common item.

    Raises:
        ValueError: If an argument is out of its range.
    """

    traits = Traits(
        architecture="nearest sessions of the log",
        parallel=True,
        reach="whole session",
        side_features=False,
        best_for="sessions of shops: no training, new sessions count at once",
    )

    def __init__(
        self,
        num_items: int,
        k: int = 100,
        sample_size: int = 1000,
        *,
        decay: Decay = "div",
        match_decay: Decay = "div",
        half_life: Duration | None = None,
        idf_weight: float = 1.0,
        last_clicks: int | None = None,
        backoff: float = 0.001,
    ) -> None:
        super().__init__(num_items, k, sample_size, half_life, idf_weight, last_clicks, backoff)
        for name, value in (("decay", decay), ("match_decay", match_decay)):
            if value not in get_args(Decay):
                raise ValueError(f"{name} must be one of {get_args(Decay)}, got {value!r}.")
        self.decay = decay
        self.match_decay = match_decay

    def click_weight(self, age: Tensor, length: Tensor) -> Tensor:
        if self.decay in ("div", "quadratic"):
            place = (length - age + 1).double() / length.double()
            return place if self.decay == "div" else place.square()
        return _by_age(self.decay, age - 1)

    def similarity(self, common: Tensor, total: Tensor, squares: Tensor, size: Tensor) -> Tensor:
        return common / total

    def match_weight(self, age: Tensor) -> Tensor:
        if self.match_decay in ("div", "quadratic"):
            weight = 1 / age.double()
            return weight if self.match_decay == "div" else weight.square()
        return _by_age(self.match_decay, age)


def _by_age(decay: Decay, age: Tensor) -> Tensor:
    if decay == "linear":
        return (1 - 0.1 * age.double()).clamp(min=0)
    if decay == "log":
        return 1 / (age.double() + 1.7).log10()
    return torch.ones_like(age, dtype=torch.double)
