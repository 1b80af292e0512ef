"""Distillation: a small model learns to order items as a large one does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch

from graphseq.arguments import check_positive, whole
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.inputs import read_inputs
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference
from graphseq.models.use.recommend import item_vocabulary
from graphseq.nn.ragged import ragged_range
from graphseq.random import stream
from graphseq.training.losses.distillation import kl_distillation
from graphseq.training.objectives.auxiliary import Auxiliary, Step

MOST_SCORES = 2**24
"""Scores of the teacher that are held at once."""


class Distillation(Auxiliary):
    r"""What a fitted teacher says of its best items, for every click of a batch.

    .. math::
        L = \sum_{j \in \mathrm{top}} p_j \log \frac{p_j}{q_j}, \qquad
        p = \mathrm{softmax}(\hat r / T), \quad q = \mathrm{softmax}(r)

    over the teacher's ``top`` items, with its scores :math:`\hat r` and the student's r. The loss
    of the next item teaches the order of all others. The teacher may be any family, an
    :class:`~graphseq.models.Ensemble` of several too. It reads each click's session up to there, so
    that it costs one of its answers per target and epoch. A teacher that reads the time of the
    target, as ``HSTU(time="request")`` does, is told it.

    Args:
        teacher: A fitted model of the same items; it stays as it is.
        weight: Beside the loss of the next item.
        temperature: T. Scores that are no logits, as those of neighbors or of an ensemble,
            need one that makes probabilities of them: :func:`temperature_of` finds it.
        top: Items per click that are compared.
        name: In the history.

    Raises:
        ValueError: If an argument is not positive; from ``prepare``, if the student has no item
            table or other items, or the teacher reads times that the sessions lack.
    """

    def __init__(
        self,
        teacher: SessionModel,
        weight: float = 1.0,
        *,
        temperature: float = 1.0,
        top: int = 100,
        name: str = "distillation",
    ) -> None:
        super().__init__(name, weight)
        if not isinstance(teacher, SessionModel):
            raise ValueError(f"teacher is a fitted model, got {type(teacher).__name__}.")
        check_positive(temperature=temperature)
        self._teacher = (teacher,)  # a tuple: neither trained nor in checkpoints
        self.temperature = temperature
        self.top = whole("top", top)

    @property
    def teacher(self) -> SessionModel:
        """The model that is learned from."""
        return self._teacher[0]

    def prepare(self, model: SessionModel, sessions: Sessions | None) -> None:
        if not model.trains_by_table:
            raise ValueError(
                f"{type(model).__name__} does not score by one item table, which distillation "
                "needs: take a student as GRU4Rec or SR-GNN."
            )
        if item_vocabulary(self.teacher) != item_vocabulary(model):
            raise ValueError(
                f"The teacher {type(self.teacher).__name__} has other items than the student: fit "
                "both on the same split."
            )
        if self.teacher.reads_request_time:
            if sessions is not None and sessions.time is None:
                raise ValueError(
                    f"The teacher {type(self.teacher).__name__} reads the time of each target, "
                    "and these sessions have no times: read the log with time=."
                )
            self.target_fields = ("time",)

    def forward(self, step: Step) -> Tensor:
        asked = step.of_target("time") if self.teacher.reads_request_time else None
        items, scores = self.best(step.batch, step.click, asked)  # [n, top] each
        own = step.model.items.scores(step.vectors, items)
        return kl_distillation(own, scores.to(own.dtype) / self.temperature)

    def best(
        self, batch: Batch, click: Tensor, request_time: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The teacher's best items and their scores after these clicks, [n, top] each.

        Args:
            batch: Session graphs.
            click: Numbers of clicks in the batch, int64 [n].
            request_time: When each is answered, [n], for a teacher that reads it; ``None``: at the
                click itself.
        """
        teacher = self.teacher
        if teacher.device != batch.click_item.device:
            teacher.to(batch.click_item.device)
        parts = []
        rows = max(1, MOST_SCORES // teacher.num_items)
        with inference(teacher):
            for part in _until(batch, click, request_time, rows):
                scores = teacher.score(part)
                parts.append(scores.topk(min(self.top, scores.size(1))))
        if not parts:
            nothing = batch.click_item.new_empty(0, min(self.top, teacher.num_items))
            return nothing, nothing.float()
        # Copies outside of inference mode, whose tensors no gradient may pass.
        items = torch.cat([each.indices for each in parts]).clone()
        return items, torch.cat([each.values for each in parts]).clone()


def temperature_of(
    teacher: SessionModel, sessions: Sessions, *, max_cases: int = 2_000, seed: int = 0
) -> float:
    r"""The temperature at which the softmax of a model's scores is closest to what happens.

    .. math::
        T = \arg\min_T -\sum_i \log \mathrm{softmax}(\hat r_i / T)_{y_i}

    found to a tenth of itself between 0.001 and 1,000.

    Args:
        teacher: A fitted model of any family.
        sessions: Sessions with targets that it did not learn from, as ``split.validation``.
        max_cases: Targets looked at; where there are more, so many are drawn.
        seed: Seed of that draw.

    Raises:
        ValueError: If the teacher finds none of the targets possible.
    """
    _, recoded = read_inputs(teacher, sessions)
    dataset = SessionGraphDataset(recoded, request_time=teacher.reads_request_time)
    drawn = np.arange(len(dataset))
    if len(drawn) > whole("max_cases", max_cases):
        drawn = np.sort(stream("calibrated", seed).choice(len(drawn), max_cases, replace=False))
    tried = torch.logspace(-3, 3, 146, dtype=torch.double)  # each a tenth above the one before
    losses, number = torch.zeros_like(tried), 0
    rows = max(1, MOST_SCORES // teacher.num_items)
    with inference(teacher):
        for start in range(0, len(drawn), rows):
            batch = dataset.batch(drawn[start : start + rows]).to(teacher.device)
            scores, target = teacher.score(batch).cpu().double(), batch.y.cpu()
            known = (target >= 0).nonzero().view(-1)
            known = known[scores[known, target[known]] > -torch.inf]
            scores, target = scores[known], target[known]
            number += len(known)
            for place, temperature in enumerate(tried.tolist()):
                scaled = scores / temperature
                losses[place] += cross_entropy(scaled, target, reduction="sum")
    if number == 0:
        raise ValueError(f"{type(teacher).__name__} finds no target of these sessions possible.")
    return float(tried[losses.argmin()])


def _until(batch: Batch, click: Tensor, request_time: Tensor | None, rows: int) -> Iterator[Batch]:
    """The sessions of a batch up to each of these clicks, as graphs of their own, in blocks."""
    ptr = batch.click_ptr
    session = torch.searchsorted(ptr, click, right=True) - 1
    names = [name for name in batch.keys() if name.startswith("click_")]  # noqa: SIM118
    size = batch.click_item.numel()
    fields = {
        name: batch[name]
        for name in names
        if name not in ("click_item", "click_index", "click_ptr") and len(batch[name]) == size
    }
    users = batch.get("user")
    of_rows = {} if users is None else {"user": users[session]}
    if request_time is not None:
        of_rows["request_time"] = request_time
    for start in range(0, len(click), rows):
        part = slice(start, start + rows)
        flat, part_ptr = ragged_range(ptr[session[part]], click[part] + 1)
        yield build_session_graphs(
            batch.click_item[flat],
            part_ptr,
            click_fields={name: values[flat] for name, values in fields.items()},
            session_fields={name: values[part] for name, values in of_rows.items()},
        )
