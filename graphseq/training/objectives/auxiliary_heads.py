"""Other tasks on the vectors that find the next item: a feature of it, the time until it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import Linear
from torch.nn.functional import cross_entropy, smooth_l1_loss

from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel
from graphseq.training.objectives.auxiliary import Auxiliary, Step, width_of


class NextFeature(Auxiliary):
    r"""The category, or another feature with a few values, of the next item.

    .. math::
        L = -\log \mathrm{softmax}(W s + b)_{c(y)}

    for the session vector, or state of a click, s and the value c of the target y; targets whose
    value is missing do not count. Metrics: ``accuracy`` and ``mrr`` of the value.

    Args:
        feature: A column of the item features, or a click feature with a vocabulary.
        weight: Beside the loss of the next item.
        name: In the history; ``None``: the feature's.

    Raises:
        ValueError: If the weight is not positive; from ``prepare``, if there is no such feature or
            it holds numbers with a fraction.
    """

    metrics = ("accuracy", "mrr")

    def __init__(self, feature: str, weight: float = 0.1, *, name: str | None = None) -> None:
        super().__init__(feature if name is None else name, weight)
        self.feature = feature
        self.lin: Linear | None = None
        self.codes: Tensor | None  # the value of each item, [num_items]
        self.register_buffer("codes", None, persistent=False)

    def prepare(self, model: SessionModel, sessions: Sessions | None) -> None:
        catalog = model.catalog
        items = None if catalog is None else catalog.item_features
        clicks = {} if catalog is None else dict(catalog.click_vocabularies)
        if items is not None and self.feature in items:
            column = items[self.feature]
            if pd.api.types.is_float_dtype(column.dtype):
                raise ValueError(
                    f"NextFeature tells values of {self.feature!r} apart, but it holds numbers "
                    f"with a fraction ({column.dtype}): put them into buckets first."
                )
            codes, values = pd.factorize(column)
            self.codes = torch.from_numpy(codes.astype(np.int64))
            size = len(values)
        elif self.feature in clicks:
            self.target_fields = (self.feature,)
            size = len(clicks[self.feature])
        else:
            known = [*([] if items is None else items.columns), *clicks]
            raise ValueError(
                f"There is no item feature or categorical click feature {self.feature!r} in the "
                f"training data, which has {', '.join(map(str, known)) or 'none'}."
            )
        self.lin = Linear(width_of(model), max(size, 1))

    def forward(self, step: Step) -> Tensor:
        logits, values = self._read(step)
        return cross_entropy(logits, values, reduction="sum") / max(values.numel(), 1)

    def measure(self, step: Step) -> dict[str, Tensor]:
        logits, values = self._read(step)
        own = logits.gather(1, values.unsqueeze(1))
        rank = 1 + (logits > own).sum(1)  # [n]
        return {"accuracy": (rank == 1).double(), "mrr": 1.0 / rank.double()}

    def _read(self, step: Step) -> tuple[Tensor, Tensor]:
        """Logits [m, num_values] and values, int64 [m], of targets that have one."""
        assert self.lin is not None
        if self.codes is not None:
            values = self.codes[step.targets]
        else:
            values = step.of_target(self.feature).long()
        some = values >= 0
        return self.lin(step.vectors[some]), values[some]


class DwellTime(Auxiliary):
    r"""The dwell time of the last click: the time until the next one, on a log scale.

    .. math::
        L = \mathrm{Huber}\big(w^\top s + b - \log(1 + \Delta t)\big)

    Metric: ``mae``, the mean absolute error of :math:`\log(1 + \Delta t)`.

    Args:
        weight: Beside the loss of the next item.
        name: In the history.

    Raises:
        ValueError: If the weight is not positive; from ``prepare``, if the sessions have no times.
    """

    target_fields = ("time",)
    metrics = ("mae",)

    def __init__(self, weight: float = 0.1, *, name: str = "dwell_time") -> None:
        super().__init__(name, weight)
        self.lin: Linear | None = None

    def prepare(self, model: SessionModel, sessions: Sessions | None) -> None:
        if sessions is None or sessions.time is None:
            raise ValueError(
                "DwellTime learns from the times of clicks, which the training data lack: build "
                "Sessions with time=..."
            )
        self.lin = Linear(width_of(model), 1)
        between = np.diff(sessions.time)
        between = np.delete(between, sessions.ptr[1:-1] - 1) if len(between) else between
        if len(between):  # starts at the mean, from where differences are learnt
            start = float(np.log1p(np.maximum(between, 0)).mean())
            torch.nn.init.constant_(self.lin.bias, start)

    def forward(self, step: Step) -> Tensor:
        found, wanted = self._read(step)
        return smooth_l1_loss(found, wanted, reduction="sum") / max(wanted.numel(), 1)

    def measure(self, step: Step) -> dict[str, Tensor]:
        found, wanted = self._read(step)
        return {"mae": (found - wanted).abs()}

    def _read(self, step: Step) -> tuple[Tensor, Tensor]:
        """What is predicted and what was, on the log scale, [n] each."""
        assert self.lin is not None
        seconds = step.of_target("time") - step.batch.click_time[step.click]  # [n], float64
        found: Tensor = self.lin(step.vectors).squeeze(1)
        return found, seconds.clamp(min=0).log1p().to(found.dtype)
