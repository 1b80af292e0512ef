"""Sequential rules: items within a few clicks after an item; closer items count more."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_not_negative
from graphseq.models.base import Traits
from graphseq.models.counting.counting import CountingModel, Evidence
from graphseq.models.counting.lists import weighted_sums
from graphseq.models.registry import register
from graphseq.nn.ragged import ragged_range

RuleWeight = Literal["reciprocal", "linear", "constant"]

LARGEST_UNIT = 2**20
"""Largest denominator of the weights' unit: their sums must fit in a float64."""


@register("sequential_rules")
class SequentialRules(CountingModel):
    r"""Every pair of clicks of a session, ``a`` before ``b``, is a rule ``a -> b``.

    .. math::
        w(a, b) = \sum_{\text{pairs}} f(\text{gap}), \qquad
        \hat y_{sj} = \sum_{r=1}^{R} \frac1r \, w(i_{L+1-r}, j) + \beta \frac{c_j}{N}

    where adjacent clicks have the gap 1, pairs farther apart than ``window`` form no rule,
    :math:`f` is 1/gap (``"reciprocal"``), falls linearly to 1/window at the window's end
    (``"linear"``) or is 1 (``"constant"``); :math:`i_L` is the last click, :math:`R`
    ``last_clicks`` and :math:`\beta` ``backoff``. Sessions are best scored by their last click,
    histories of users by their last ten clicks.

    Weights are sums of fractions with a common denominator and counted in it, so that equal
    evidence gives equal scores and popularity decides. ``backoff=0`` is the plain form: items
    without a rule get ``-inf``. Self-pairs count. Rules are stored sparsely, with 12 bytes each.

    SR of Ludewig and Jannach (User Modeling and User-Adapted Interaction, 2018). Their code scores
    by the last click and keeps the 20 strongest rules of an item; this model keeps all.

    Args:
        num_items: Items of the catalog.
        window: Maximum gap of a pair, in clicks.
        weight: ``"reciprocal"``, ``"linear"`` or ``"constant"``.
        last_clicks: Number of last clicks of a session whose rules are summed.
        backoff: Weight of the share of training clicks, in units of adjacent pairs.

    Raises:
        ValueError: If an argument is out of its range.
    """

    traits = Traits(
        architecture="counts of ordered pairs",
        parallel=True,
        reach="last_clicks clicks",
        side_features=False,
        best_for="the number to beat: a second to count, rules that can be read",
    )

    in_main_memory = ("rule_ptr", "rule_item", "rule_weight")

    rule_ptr: Tensor
    rule_item: Tensor
    rule_weight: Tensor

    def __init__(
        self,
        num_items: int,
        window: int = 10,
        *,
        weight: RuleWeight = "reciprocal",
        last_clicks: int = 1,
        backoff: float = 0.001,
    ) -> None:
        super().__init__(num_items)
        for name, number in (("window", window), ("last_clicks", last_clicks)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1 click, got {number}.")
        if weight not in ("reciprocal", "linear", "constant"):
            raise ValueError(f"weight must be reciprocal, linear or constant, got {weight!r}.")
        check_not_negative(backoff=backoff)
        self.window = window
        self.weight = weight
        self.last_clicks = last_clicks
        self.backoff = backoff
        self.set_buffer("rule_ptr")  # [num_items + 1], into the rules
        self.set_buffer("rule_item", dtype=torch.int)  # b: [num_rules], ascending for each a
        self.set_buffer("rule_weight", dtype=torch.double)  # w, times the unit: [num_rules]

    def count(
        self,
        items: NDArray[np.int64],
        session: NDArray[np.int64],
        time: NDArray[np.float64] | None,
    ) -> None:
        size = (self.num_items, self.num_items)
        code = items.astype(np.int32)
        rules = csr_matrix(size, dtype=np.float64)
        for gap in range(1, min(self.window, len(code) - 1) + 1):
            first = np.flatnonzero(session[gap:] == session[:-gap])
            if len(first) == 0:
                break  # no session is longer
            weight = np.full(len(first), self._pair_weight(gap))
            rules = rules + csr_matrix((weight, (code[first], code[first + gap])), size)
        rules.sort_indices()
        self.set_buffer("rule_ptr", rules.indptr.astype(np.int64))
        self.set_buffer("rule_item", rules.indices.astype(np.int32))
        self.set_buffer("rule_weight", rules.data)

    @property
    def _unit(self) -> int:
        """The denominator of pair weights: a multiple of every gap, up to a limit."""
        if self.weight == "reciprocal":
            return common_multiple(self.window)
        return self.window if self.weight == "linear" else 1

    def _pair_weight(self, gap: int) -> float:
        if self.weight == "linear":
            return self.window + 1 - gap
        return self._unit / gap if self.weight == "reciprocal" else 1

    def evidence(self, batch: Batch) -> Evidence:
        """Summed weights of rules out of the last clicks, in units of adjacent pairs.

        Args:
            batch: Session graphs.

        Raises:
            ValueError: If nothing was counted yet.
        """
        self.check_counted()
        ptr, clicked = batch.click_ptr, batch.click_item
        start = torch.maximum(ptr[:-1], ptr[1:] - self.last_clicks)
        click, click_ptr = ragged_range(start, ptr[1:])  # the last clicks: [n]
        age = torch.repeat_interleave(ptr[1:], click_ptr.diff()) - click  # r: [n]
        unit = common_multiple(self.last_clicks)
        item, weight = self.rule_item.numpy(), self.rule_weight.numpy()
        sums = weighted_sums(
            click_ptr.cpu().numpy(),
            clicked[click].cpu().numpy(),
            (unit / age.double()).cpu().numpy(),
            self.rule_ptr.numpy(),
            lambda rule, _: (item[rule], weight[rule]),
            self.num_items,
        )
        return Evidence((e for _, e in sums), self.backoff, unit * self._unit)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, window={self.window}, "
            f"weight={self.weight!r}, last_clicks={self.last_clicks}, backoff={self.backoff})"
        )


def common_multiple(number: int) -> int:
    """The least common multiple of ``1, ..., number``, unless it is too large.

    Multiples of 1/2, 1/3, ... then become whole numbers, whose sums are exact in any order.
    """
    multiple = 1
    for factor in range(2, number + 1):
        larger = math.lcm(multiple, factor)
        if larger > LARGEST_UNIT:
            break
        multiple = larger
    return multiple
