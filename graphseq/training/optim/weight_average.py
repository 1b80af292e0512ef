"""Exponential moving average of weights that costs a step what it touches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

MEMORY = 256
"""Steps after which Adam's momentum has faded, as in the optimizer."""

ROWS_AT_ONCE = 2**16
"""Rows settled at once: bounds memory."""


class WeightAverage:
    r"""An exponential moving average of parameters; a step costs only what it touches.

    After step :math:`n` it is :math:`e_n = \beta_n e_{n-1} + (1 - \beta_n) w_n`, with
    :math:`\beta_n = \min(\beta, (1 + n) / (10 + n))`. The first steps therefore do not keep the
    first weights. Parameters with a dense gradient are averaged step by step. Of a table with
    row-sparse gradients, a row that no step touches either stays as it is, and then

    .. math::
        e_n = B_n e_t + (1 - B_n) w_t, \quad B_n = \prod_{i = t+1}^{n} \beta_i,

    or moves on by Adam's fading momentum and AdamW's decay, which are sums with a closed form too
    (see :class:`~graphseq.training.optim.optimizers.RowSparseOptimizer`): with
    :math:`w_j = k_j w_t - c_j d`,

    .. math::
        e_n = B_n e_t + K_n w_t - A_n d, \quad
        K_n = \sum_{j=t+1}^{n} (1 - \beta_j) \frac{B_n}{B_j} k_j, \quad
        A_n = \sum_{j=t+1}^{n} (1 - \beta_j) \frac{B_n}{B_j} c_j.

    So a row's average catches up when the row itself does, and a step costs the rows it touches.

    Args:
        parameters: What is averaged.
        decay: :math:`\beta`, in (0, 1): 0.999 averages about the last thousand steps.
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        self.decay = decay
        self.parameters = list(parameters)
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.place = {id(parameter): i for i, parameter in enumerate(self.parameters)}
        self.steps = 0
        self.log_kept = torch.zeros(1024, dtype=torch.double)  # running sum of log beta_n
        self.tables: dict[int, dict[str, Tensor]] = {}

    def beta(self, step: int) -> float:
        """The share of the average that step ``step``, from 1, leaves."""
        return min(self.decay, (1 + step) / (10 + step))

    # -- called by the optimizer -----------------------------------------------------------------

    @torch.no_grad()
    def missed(self, parameter: Tensor, rows: Tensor, direction: Tensor | None = None) -> None:
        """Averages of rows catch up with the steps since they were last touched.

        To be called before the rows themselves change.

        Args:
            parameter: The table.
            rows: Its rows, int64 [n].
            direction: What Adam's momentum moves them by, :math:`d`, [n, d]; ``None``: nothing.
        """
        table = self.tables.get(self.place[id(parameter)])
        if table is None or rows.numel() == 0:
            return
        since = table["last"][rows].long()  # [n]
        behind = since < self.steps
        if not bool(behind.any()):
            return
        if not bool(behind.all()):
            rows, since = rows[behind], since[behind]
            direction = None if direction is None else direction[behind]
        kept, own, moved = self._sums(table, since)
        average = self.averages[self.place[id(parameter)]]
        value = average[rows] * kept.to(average).unsqueeze(1)
        value += parameter[rows] * own.to(average).unsqueeze(1)
        if direction is not None:
            value -= direction * moved.to(average).unsqueeze(1)
        average.index_copy_(0, rows, value)
        table["last"].index_fill_(0, rows, self.steps)

    @torch.no_grad()
    def update(
        self, touched: Mapping[int, Tensor], clocks: Mapping[int, Mapping[str, Any]]
    ) -> None:
        """Takes in the weights after a step.

        Args:
            touched: Of each table with a row-sparse gradient, by ``id``: the rows of it, int64 [n].
            clocks: Of each table that Adam has moved sparsely, by ``id``: the state of its clock
                after the step.
        """
        for key in touched:  # a table whose first row-sparse gradient this is
            place = self.place[key]
            if place not in self.tables:
                self.tables[place] = self._table(place)
        self.steps += 1
        n, beta = self.steps, self.beta(self.steps)
        self.log_kept = _room(self.log_kept, n)
        self.log_kept[n] = self.log_kept[n - 1] + torch.tensor(beta, dtype=torch.double).log()
        for place, table in self.tables.items():
            self._tick(table, clocks.get(id(self.parameters[place])), n, beta)
        dense = []
        for place, parameter in enumerate(self.parameters):
            rows = touched.get(id(parameter))
            if rows is None:
                dense.append(place)
                if place in self.tables:
                    self.tables[place]["last"].fill_(n)
                continue
            average = self.averages[place]
            average.index_copy_(0, rows, average[rows].lerp_(parameter[rows], 1 - beta))
            self.tables[place]["last"].index_fill_(0, rows, n)
        if dense:
            torch._foreach_lerp_(
                [self.averages[place] for place in dense],
                [self.parameters[place].detach() for place in dense],
                1 - beta,
            )

    def is_behind(self, parameter: Tensor) -> bool:
        """Whether averages of rows of this parameter wait for the rows to be touched."""
        return self.place[id(parameter)] in self.tables

    def settle(self, parameter: Tensor | None = None) -> None:
        """Averages of all rows catch up; the rows themselves must have done so before.

        Args:
            parameter: Of this table alone.
        """
        for place, table in self.tables.items():
            if parameter is None or parameter is self.parameters[place]:
                behind = (table["last"] < self.steps).nonzero().squeeze(1)
                for rows in behind.split(ROWS_AT_ONCE):
                    self.missed(self.parameters[place], rows)

    # -- closed forms ----------------------------------------------------------------------------

    def _table(self, place: int) -> dict[str, Tensor]:
        parameter = self.parameters[place]
        empty = torch.zeros(len(self.log_kept), dtype=torch.double)
        return {
            "last": torch.full(
                (len(parameter),), self.steps, dtype=torch.int32, device=parameter.device
            ),
            "recent": torch.zeros(MEMORY + 1, dtype=torch.double),  # A of rows 0..MEMORY steps old
            "faded": empty,  # c of rows MEMORY steps old, by step
            "averaged": empty.clone(),  # A of those
            "decay": empty.clone(),  # running sum of log(1 - lr * weight_decay)
            "weighted": empty.clone(),  # sum of (1 - beta_j) (B_n / B_j) exp(decay_j)
        }

    def _tick(
        self, table: dict[str, Tensor], clock: Mapping[str, Any] | None, n: int, beta: float
    ) -> None:
        for name in ("faded", "averaged", "decay", "weighted"):
            table[name] = _room(table[name], n)
        table["decay"][n] = table["decay"][n - 1]
        if clock is not None:
            step = int(clock["step"])
            moved: Tensor = clock["clock"]["recent"]  # c of rows 0..MEMORY steps old
            recent = (1 - beta) * moved
            recent[1:] += beta * table["recent"][:-1]
            recent[0] = 0.0
            table["recent"] = recent
            table["faded"][n] = moved[-1]
            table["averaged"][n] = recent[-1]
            decay = clock["clock"]["decay"]
            table["decay"][n] += decay[step] - decay[step - 1]
        table["weighted"][n] = (
            beta * table["weighted"][n - 1] + (1 - beta) * table["decay"][n].exp()
        )

    def _sums(self, table: Mapping[str, Tensor], since: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B, K and A of rows last touched at steps ``since`` [n], float64 [n] each."""
        device, n = since.device, self.steps
        log_kept, decay = self.log_kept.to(device), table["decay"].to(device)
        weighted = table["weighted"].to(device)

        def own(start: Tensor) -> Tensor:
            """K of rows left alone since these steps."""
            kept = (log_kept[n] - log_kept[start]).exp()
            return (weighted[n] - kept * weighted[start]) * (-decay[start]).exp()

        age = n - since
        end = (since + MEMORY).clamp(max=n)  # from here on the momentum is gone
        later = (log_kept[n] - log_kept[end]).exp()
        moved = torch.where(
            age > MEMORY,
            later * table["averaged"].to(device)[end] + table["faded"].to(device)[end] * own(end),
            table["recent"].to(device)[age.clamp(max=MEMORY)],
        )
        return (log_kept[n] - log_kept[since]).exp(), own(since), moved

    # -- in the place of the weights -------------------------------------------------------------

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages in the place of the weights, for a while; to be settled before."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for place, parameter in enumerate(self.parameters):
            own = parameter.data
            parameter.data, self.averages[place] = self.averages[place], own

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on, as tensors and numbers."""
        return {
            "steps": self.steps,
            "averages": self.averages,
            "log_kept": self.log_kept,
            "tables": {str(place): dict(table) for place, table in self.tables.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that :meth:`state_dict` gave."""
        self.steps = int(state["steps"])
        self.log_kept = state["log_kept"]
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.copy_(saved)
        self.tables = {int(place): dict(table) for place, table in state["tables"].items()}
        for place, table in self.tables.items():
            table["last"] = table["last"].to(self.parameters[place].device)


def _room(values: Tensor, step: int) -> Tensor:
    """A running array with a place for this step."""
    return values if step < len(values) else torch.cat([values, torch.zeros_like(values)])
