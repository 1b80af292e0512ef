"""STAN and VSTAN: session-kNN with decay in the session, between sessions, and in the neighbor."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphseq.data.logs.times import Duration
from graphseq.models.base import Traits
from graphseq.models.counting.session_knn import SessionKNN
from graphseq.models.registry import register


@register("vstan")
class VSTAN(SessionKNN):
    r"""Sequence and time aware neighborhood (STAN, Garg et al., SIGIR 2019) with V-SKNN's weights.

    .. math::
        w(i) = e^{-(a_i - 1) / \lambda_1}, \qquad
        \mathrm{sim}(s, n) = \frac{\sum_{i \in s \cap n} w(i)}
            {\sqrt{\sum_{i \in s} w(i)^2} \sqrt{|n|}} \cdot 2^{-\Delta t / h}

        \hat y_{sj} = \sum_{n \in N_s,\, j \in n} \mathrm{sim}(s, n)
            \, e^{-(a_{sn} - 1) / \lambda_4} \, e^{-|p_n(j) - p_n(s)| / \lambda_3}
            \, (1 + \omega \, \mathrm{idf}_j) + \beta \frac{c_j}{N}

    with :math:`a_i` the clicks from the last one on an item to the end of the session, 1 for the
    newest, and :math:`a_{sn}` the same for the newest common item. :math:`p_n(j)` is the position
    of the item's last click in the neighbor, and :math:`p_n(s)` the position of the neighbor's last
    click on an item of the session. :math:`\lambda_1` is ``click_decay``, :math:`\lambda_3`
    ``place_decay`` and :math:`\lambda_4` ``match_decay``. STAN itself is
    ``match_decay=None, idf_weight=0``; VSTAN (Ludewig et al., RecSys 2019 and UMUAI 2021) takes
    these two parts from V-SKNN.

    The paper's decay between sessions is :math:`e^{-\Delta t / \lambda_2}`: :math:`\lambda_2` of 5
    days is ``half_life=299_400`` in seconds. The authors' code, session-rec, counts clicks in the
    idf, this model sessions; it breaks ties in the order of a Python set, this model by recency.

    Args:
        num_items, k, sample_size, half_life, idf_weight, last_clicks, backoff: As in
            :class:`~graphseq.models.counting.session_knn.SessionKNN`.
        click_decay: Number of clicks after which an item of the current session weighs 1/e;
            ``None``: no decay.
        match_decay: The same for a neighbor by the newest common item; ``None``: no decay.
        place_decay: Number of positions in the neighbor after which an item weighs 1/e; ``None``:
            no decay.

    Raises:
        ValueError: If an argument is out of its range.
    """

    traits = Traits(
        architecture="nearest sessions of the log, by place and time",
        parallel=True,
        reach="whole session, newest clicks first",
        side_features=False,
        best_for="sessions of shops, where order and time tell more",
    )

    def __init__(
        self,
        num_items: int,
        k: int = 500,
        sample_size: int = 2500,
        *,
        click_decay: float | None = 4.0,
        match_decay: float | None = 2.0,
        place_decay: float | None = 3.0,
        half_life: Duration | None = None,
        idf_weight: float = 1.0,
        last_clicks: int | None = None,
        backoff: float = 0.001,
    ) -> None:
        super().__init__(num_items, k, sample_size, half_life, idf_weight, last_clicks, backoff)
        decays = {"click": click_decay, "match": match_decay, "place": place_decay}
        for name, value in decays.items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}_decay must be positive and finite, or None, got {value}.")
        self.click_decay = click_decay
        self.match_decay = match_decay
        self.place_decay = place_decay

    def click_weight(self, age: Tensor, length: Tensor) -> Tensor:
        return _decayed(age - 1, self.click_decay)

    def similarity(self, common: Tensor, total: Tensor, squares: Tensor, size: Tensor) -> Tensor:
        return common / (squares * size).sqrt()

    def match_weight(self, age: Tensor) -> Tensor:
        return _decayed(age - 1, self.match_decay)

    def place_weight(self, distance: Tensor) -> Tensor | None:
        return None if self.place_decay is None else _decayed(distance, self.place_decay)


def _decayed(distance: Tensor, scale: float | None) -> Tensor:
    if scale is None:
        return torch.ones_like(distance, dtype=torch.double)
    return torch.exp(-distance.double() / scale)
