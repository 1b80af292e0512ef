"""Losses besides the one of the next item: other tasks and comparisons on the same vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_positive
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.random import torch_stream

MEASURED_AT_ONCE = 512
"""Samples of the validation part that are read at once."""


@dataclass(frozen=True)
class Step:
    """One batch, as the model has read it.

    Args:
        model: The model.
        batch: Its session graphs.
        vectors: What is compared with items, of the rows with a known target, [n, d].
        targets: The item that each must find, int64 [n].
        known: Places of these rows among all that the model has for this batch, int64 [n].
        aligned: Whether there is one row per session or click, each with its own ``y``; not of a
            model that draws its targets, as BERT4Rec does.
        key: Seed and epoch: what random numbers depend on, besides the session.
    """

    model: SessionModel
    batch: Batch
    vectors: Tensor
    targets: Tensor
    known: Tensor
    aligned: bool = True
    key: tuple[int, int] = field(default=(0, 0))

    def of_target(self, name: str) -> Tensor:
        """What is known of each target's click, [n].

        Args:
            name: One of the dataset's ``target_fields``.

        Raises:
            ValueError: If the batch does not show it, or targets are not the targets of ``y``.
        """
        values = self._aligned(f"the {name} of targets").get(f"y_{name}")
        if values is None:
            raise ValueError(
                f"These batches do not hold the {name} of targets: pass a split or sessions, or "
                f"build SessionGraphDataset(target_fields=[{name!r}])."
            )
        return values[self.known]

    @property
    def click(self) -> Tensor:
        """The click before each target, int64 [n]."""
        ptr = self._aligned("the click before a target").click_ptr
        if self.batch.y.numel() == self.batch.num_graphs:
            return (ptr[1:] - 1)[self.known]
        return self.known

    def _aligned(self, what: str) -> Batch:
        if not self.aligned:
            raise ValueError(
                f"{type(self.model).__name__} draws its own training targets, for which {what} is "
                "not known: take a family that is trained on sessions or prefixes."
            )
        return self.batch


class Auxiliary(torch.nn.Module):
    """A loss that is added, ``weight`` times, to the loss of the next item.

    A subclass defines :meth:`forward`, and :meth:`prepare` where it has parameters; ``fit`` trains
    them with the model's, and checkpoints keep them. Its results go into the history as
    ``<name>_loss`` and ``<name>_<metric>``.

    Args:
        name: Its name in the history.
        weight: Its weight, above 0.

    Attributes:
        target_fields: What it must know of the targets' clicks: ``"time"`` or click features.
        metrics: Names of what :meth:`measure` gives.

    Raises:
        ValueError: If the weight is not positive, or the name is empty.
    """

    target_fields: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def __init__(self, name: str, weight: float) -> None:
        super().__init__()
        if not name:
            raise ValueError("The name of an auxiliary loss is its key in the history, got ''.")
        check_positive(**{f"The weight of {name}": weight})
        self.name = name
        self.weight = weight

    def prepare(self, model: SessionModel, sessions: Sessions | None) -> None:
        """Builds what it needs of model and training sessions; ``fit`` calls it before training.

        Args:
            model: The model, which knows its catalog.
            sessions: The training sessions; ``None`` where batches come without.
        """

    def forward(self, step: Step) -> Tensor:
        """The mean loss of a batch, a scalar."""
        raise AttributeError(f"{type(self).__name__} defines no forward(step).")

    def measure(self, step: Step) -> dict[str, Tensor]:
        """Metrics on validation by name, each with one value per row, [n]."""
        return {}


def check_auxiliary(auxiliary: Sequence[Auxiliary]) -> None:
    """Refuses two of the same name.

    Raises:
        ValueError: If there are.
    """
    names = [each.name for each in auxiliary]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Auxiliary losses need different names, got {twice[0]!r} twice.")


def width_of(model: SessionModel) -> int:
    """The width of a model's vectors."""
    if model.trains_by_table:
        return model.items.channels
    width: int = model.hidden_channels
    return width


def auxiliary_names(auxiliary: Iterable[Auxiliary]) -> list[str]:
    """The metrics of further losses, ``<name>_<metric>``."""
    return [f"{each.name}_{name}" for each in auxiliary for name in each.metrics]


@torch.no_grad()
def auxiliary_sums(
    model: SessionModel, auxiliary: Iterable[Auxiliary], sessions: Sessions
) -> Tensor:
    """The sums of all metrics over the targets of some sessions, and the number of targets.

    Args:
        model: It is read in evaluation mode, and left as it was.
        auxiliary: What measures.
        sessions: A validation part, or some sessions of one.

    Returns:
        float64 [2, m] on the CPU: sums and numbers, in the order of :func:`auxiliary_names`.
    """
    measured = [each for each in auxiliary if each.metrics]
    totals = torch.zeros(2, len(auxiliary_names(measured)), dtype=torch.double)
    if not measured or not sessions.num_targets or not Targets(sessions).history.any():
        return totals  # a target after unknown items alone has no vector
    was_training = model.training
    model.eval()
    for step in _steps(model, measured, sessions):
        values = [v for each in measured for v in _values(each, step)]
        totals[0] += torch.stack([v.double().sum().cpu() for v in values])
        totals[1] += torch.tensor([v.numel() for v in values])
    model.train(was_training)
    return totals


def _steps(
    model: SessionModel, measured: Sequence[Auxiliary], sessions: Sessions
) -> Iterator[Step]:
    by_session = model.samples in ("sessions", "cloze")
    fields = sorted({name for each in measured for name in each.target_fields})
    dataset = SessionGraphDataset(
        sessions,
        "sessions" if by_session else "prefixes",
        target_fields=fields,
        request_time=model.reads_request_time,
    )
    order = torch.from_numpy(dataset.num_clicks()).argsort(stable=True)
    for index in order.split(MEASURED_AT_ONCE):
        yield read_step(model, dataset.batch(index).to(model.device), (0, 0))


def _values(auxiliary: Auxiliary, step: Step) -> list[Tensor]:
    found = auxiliary.measure(step)
    return [found[name] for name in auxiliary.metrics]


def read_step(model: SessionModel, batch: Batch, key: tuple[int, int]) -> Step:
    """What a model makes of a batch, by its training vectors; for a cloze, of masks of one seed."""
    if model.trains_by_table:
        generator = torch_stream("measured_step", 0)
        vectors, targets, _ = model.training_rows(batch, generator)
    else:
        vectors, targets = model(batch), batch.y
    known = (targets >= 0).nonzero().view(-1)
    return Step(
        model, batch, vectors[known], targets[known], known, is_aligned(model, batch, targets), key
    )


def is_aligned(model: SessionModel, batch: Batch, targets: Tensor) -> bool:
    """Whether a model's targets are the targets of ``y``, one per session or per click."""
    y: Tensor = batch.y
    same = targets is y or (targets.shape == y.shape and bool((targets == y).all()))
    return same and model.samples != "cloze"
