"""Trending: popularity that fades, by category and by hour of the day."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_not_negative, flag
from graphseq.data.logs.times import Duration, half_life_of
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import Traits
from graphseq.models.counting.counting import CountingModel, Evidence, of_items
from graphseq.models.registry import register

HOUR, HOURS = 3600.0, 24
"""Seconds of an hour, hours of a day."""

Times = TypeVar("Times", Tensor, NDArray[np.float64])


@register("trending")
class Trending(CountingModel):
    r"""The clicks of all sessions, of which old ones count less.

    .. math::
        a_j = \frac{\sum_{t \in j} 2^{-\Delta_t / h}}{\sum_t 2^{-\Delta_t / h}}, \qquad
        \hat y_{sj} = (q_s(c_j) + \beta) \, (a^{(s)}_j + \beta a_j)

    with :math:`\Delta_t` the age of click t at the newest click of training and h ``half_life``.
    With ``category``, :math:`q_s(c_j)` is the share of the session's clicks in the category of item
    j, else 1. With ``hourly``, :math:`a^{(s)}_j` counts only the clicks in the hour of the day of
    the session's last click, in UTC, else it is :math:`a_j`. :math:`\beta` is ``backoff``. A
    session without a known click gets :math:`a_j`.

    Args:
        num_items: Items of the catalog.
        half_life: Age at which a click counts half of the newest one, in the unit of click times
            (for seconds also text as ``"7D"`` or a timedelta) or, in a log without times, in
            clicks; ``None``: all count the same.
        category: Name of a categorical feature of the items; ``None``: none.
        hourly: Whether clicks at the same hour of the day count above others.
        backoff: Weight of other categories and hours.

    Raises:
        ValueError: If ``half_life`` is not positive or ``backoff`` is negative. When it is fitted:
            if the items lack the category, or the log lacks times that ``hourly`` needs.
    """

    traits = Traits(
        architecture="counts of clicks that fade with age",
        parallel=True,
        reach="none; the session's categories, the hour of its last click",
        side_features=True,
        best_for="first pages, and logs whose favorites change by the day",
    )

    trend: Tensor
    of_hour: Tensor
    code: Tensor

    def __init__(
        self,
        num_items: int,
        half_life: Duration | None = None,
        *,
        category: str | None = None,
        hourly: bool = False,
        backoff: float = 0.01,
    ) -> None:
        super().__init__(num_items)
        check_not_negative(backoff=backoff)
        self.half_life = half_life_of(half_life)
        self.category = category
        self.hourly = self.reads_times = flag("hourly", hourly)
        self.backoff = backoff
        self.sparse = category is None and not self.hourly
        self.set_buffer("trend", dtype=torch.double)  # a: [num_items]
        self.set_buffer("of_hour", dtype=torch.double)  # [24, num_items], if hourly
        self.set_buffer("code")  # the category of each item, [num_items]; -1: none

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Reads the categories of all items.

        Raises:
            ValueError: If the catalog lacks them.
        """
        super().attach(catalog, sessions)
        if catalog is None or self.category is None:
            return
        table = catalog.item_features
        if table is None or self.category not in table:
            raise ValueError(
                f"Trending was built with category={self.category!r}, but the items have no such "
                "feature: give the sessions item_features with that column."
            )
        try:
            codes, _ = pd.factorize(table[self.category])
        except TypeError as error:
            raise ValueError(
                f"Trending takes one category per item, but {self.category!r} holds "
                f"{type(table[self.category].iloc[0]).__name__}s: name a column of single values."
            ) from error
        self.set_buffer("code", codes.astype(np.int64))

    def count(
        self,
        items: NDArray[np.int64],
        session: NDArray[np.int64],
        time: NDArray[np.float64] | None,
    ) -> None:
        weight = np.ones(len(items))
        if self.half_life is not None:
            age = np.arange(len(items) - 1.0, -1, -1) if time is None else time.max() - time
            weight = 2.0 ** (-age / self.half_life)
        trend = np.bincount(items, weight, minlength=self.num_items)
        self.set_buffer("trend", trend / trend.sum())
        if not self.hourly:
            return
        if time is None:
            raise ValueError(
                "Trending(hourly=True) counts clicks by hour, but this log has no times: build "
                "Sessions with time=..., or leave hourly out."
            )
        key = _hour(time).astype(np.int64) * self.num_items + items
        by_hour = np.bincount(key, weight, minlength=HOURS * self.num_items)
        by_hour = by_hour.reshape(HOURS, self.num_items)
        total = by_hour.sum(1, keepdims=True)
        self.set_buffer("of_hour", np.divide(by_hour, total, out=by_hour, where=total > 0))

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        """What is trending for each session.

        Args:
            batch: Session graphs.
            items: ``None``: all items; else candidates, [C] or [num_sessions, C].

        Returns:
            float64 [num_sessions, num_items] or [num_sessions, C].

        Raises:
            ValueError: If the model is not fitted, or the session graphs lack the times of clicks
                that ``hourly`` needs.
        """
        self.popularity()  # raises if the model is not fitted
        scores = self.trend.repeat(batch.num_graphs, 1)
        if self.hourly:
            if "click_time" not in batch:
                raise ValueError(
                    "Trending(hourly=True) reads the hour of the last click, but these sessions "
                    "have no times: give them with time=..."
                )
            hour = _hour(batch.click_time[batch.click_ptr[1:] - 1].double()).long()
            scores = self.of_hour[hour] + self.backoff * scores
        if self.category is not None:
            scores = scores * (self._shares(batch) + self.backoff)
        return of_items(scores, items)

    def evidence(self, batch: Batch) -> Evidence:
        """No evidence: without ``category`` and ``hourly``, all items are scored by the trend."""
        self.check_counted()
        none = csr_matrix((int(batch.num_graphs), self.num_items), dtype=np.float64)
        return Evidence([none], backoff=1.0, share=self.trend)

    def without_history(self) -> Tensor:
        """What is trending everywhere, float64 [num_items]."""
        return self.trend

    def _shares(self, batch: Batch) -> Tensor:
        """The share of the session's clicks in the category of each item, [num_sessions, V]."""
        number = int(self.code.max()) + 2  # the last column: items without a category
        code = torch.where(self.code < 0, number - 1, self.code)
        clicks = self.trend.new_zeros(int(batch.num_graphs), number)
        one = clicks.new_ones(batch.click_item.numel())
        clicks.index_put_((batch.click_batch, code[batch.click_item]), one, accumulate=True)
        shares = clicks / clicks.sum(1, keepdim=True)
        shares[:, -1] = 0
        return shares[:, code]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_items}, half_life={self.half_life})"


def _hour(time: Times) -> Times:
    """The hour of the day of times in seconds, 0 to 23."""
    return (time // HOUR) % HOURS
