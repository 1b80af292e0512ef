"""Contrastive learning: two views of a session should have like vectors, two sessions others."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch_geometric.data import Batch

from graphseq.arguments import check_positive
from graphseq.data.graphs.augment import Augmentation
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.views import augmented_view, session_streams
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel
from graphseq.ragged import ptr_of
from graphseq.random import integers, words_of
from graphseq.training.objectives.auxiliary import Auxiliary, Step


def info_nce(
    first: Tensor,
    second: Tensor,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    *,
    cosine: bool = False,
) -> Tensor:
    r"""InfoNCE between two views of each of n sessions (van den Oord et al., 2018).

    .. math::
        L = -\frac{1}{2n} \sum_{a} \log \frac{\exp(z_a^\top z_{a'} / \tau)}
            {\sum_{b \ne a} \exp(z_a^\top z_b / \tau)}

    over all 2n vectors z, where :math:`a'` is the other view of the session of a. The negatives of
    a vector are both views of all other sessions, as in CL4SRec (Xie et al., ICDE 2022, eq. 7).

    Args:
        first, second: Vectors of the two views, [n, d] each.
        temperature: :math:`\tau`, above 0.
        labels: Rows of the same label, int64 [n], are not negatives of each other.
        reduction: ``"mean"`` over all vectors or ``"sum"``.
        cosine: Whether vectors are divided by their norm.

    Returns:
        The loss, a scalar; 0 for no sessions.

    Raises:
        ValueError: If shapes differ, the temperature is not positive or ``reduction`` is unknown.
    """
    if first.dim() != 2 or first.shape != second.shape:
        raise ValueError(
            f"info_nce takes two views [n, d], got {list(first.shape)} and {list(second.shape)}."
        )
    check_positive(temperature=temperature)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean' or 'sum', got {reduction!r}.")
    n = len(first)
    z = torch.cat([first, second])  # [2n, d]
    if cosine:
        z = normalize(z, dim=1)
    logits = z @ z.t() / temperature  # [2n, 2n]
    row = torch.arange(2 * n, device=z.device)
    partner = (row + n) % max(2 * n, 1)
    if labels is None:
        out = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    else:
        both = labels.repeat(2)
        out = both.unsqueeze(0) == both.unsqueeze(1)
        out[row, partner] = False
    loss = cross_entropy(logits.masked_fill(out, -torch.inf), partner, reduction="sum")
    return loss / max(2 * n, 1) if reduction == "mean" else loss


class Contrastive(Auxiliary):
    r"""InfoNCE between two views of each session, added to the loss of any neural family.

    With ``augmentation``, the two views are two changes of the same clicks (CL4SRec: Xie et al.,
    ICDE 2022). With ``same_target``, they are the session and another training session with the
    same next item; sessions with the same next item are then not used as negatives. With neither,
    they are the same clicks under two draws of dropout. The loss of DuoRec (Qiu et al., WSDM 2022)
    has the last two kinds, each with a weight: pass two of these with their own names. Vectors are
    the vectors of whole sessions, ``model(batch)``.

    Each view is read separately, so a step costs two more readings of the batch, or one where
    training has read a view already.

    Args:
        augmentation: Changes the clicks of a view; see :mod:`graphseq.data.graphs.augment`.
        same_target: Whether the second view is another session with the same target.
        weight: Weight relative to the loss of the next item; 0.1 in both papers.
        temperature: As in :func:`info_nce`.
        cosine: Whether vectors are compared by their angle alone.
        name: In the history.

    Raises:
        ValueError: If an option is out of range or two kinds of views are asked for. From
            ``prepare``: if the model has no session vectors, or lacks what makes the views, dropout
            or known training sessions.
    """

    def __init__(
        self,
        augmentation: Augmentation | None = None,
        *,
        same_target: bool = False,
        weight: float = 0.1,
        temperature: float = 1.0,
        cosine: bool = False,
        name: str = "contrastive",
    ) -> None:
        super().__init__(name, weight)
        if augmentation is not None and same_target:
            raise ValueError(
                "A Contrastive has one kind of views: pass an augmentation or same_target=True; "
                "two of them, with different names, go together."
            )
        check_positive(temperature=temperature)
        self.augmentation = augmentation
        self.same_target = same_target
        self.temperature = temperature
        self.cosine = cosine
        self._dataset: SessionGraphDataset | None = None
        self._order: NDArray[np.int64] | None = None  # samples by target, [num_samples]
        self._ptr: NDArray[np.int64] | None = None  # of each target, [num_items + 1]

    def prepare(self, model: SessionModel, sessions: Sessions | None) -> None:
        if model.samples in ("counts", "pairs"):
            raise ValueError(
                f"Contrastive compares session vectors, which {type(model).__name__} has not: it "
                "scores pairs of a session and an item."
            )
        if self.same_target:
            if sessions is None:
                raise ValueError(
                    "Contrastive(same_target=True) draws other sessions of the training data, and "
                    "these batches come without: pass a split, sessions or a dataset."
                )
            dataset = SessionGraphDataset(
                sessions, max_length=model.max_length, request_time=model.reads_request_time
            )
            targets = dataset.targets()
            self._dataset = dataset
            self._order = np.argsort(targets, kind="stable")
            counts = np.bincount(targets[targets >= 0], minlength=model.num_items)
            unknown = len(targets) - counts.sum()  # they come first
            self._ptr = unknown + ptr_of(counts)
        elif self.augmentation is None and getattr(model, "dropout", None) == 0:
            raise ValueError(
                f"Two views by dropout are the same where dropout is 0: build "
                f"{type(model).__name__} with dropout above 0, or pass an augmentation."
            )

    def forward(self, step: Step) -> Tensor:
        model, batch = step.model, step.batch
        if self.augmentation is not None:
            views = [
                augmented_view(batch, self.augmentation, *step.key, number) for number in (0, 1)
            ]
            return self._loss(*(model(view) for view in views))
        first = self._vectors(step)
        if not self.same_target:
            return self._loss(first, model(batch))
        targets = batch.y
        if targets.numel() != batch.num_graphs:
            targets = targets[batch.click_ptr[1:] - 1]  # the one that follows the session
        known = (targets >= 0).nonzero().view(-1)
        partner = self._partners(batch, targets, known, step.key)
        labels = targets[known]
        return self._loss(first[known], model(partner.to(model.device)), labels)

    def _loss(self, first: Tensor, second: Tensor, labels: Tensor | None = None) -> Tensor:
        return info_nce(first, second, self.temperature, labels, cosine=self.cosine)

    def _vectors(self, step: Step) -> Tensor:
        """Session vectors, taken from the loss itself where it has them."""
        if step.aligned and len(step.vectors) == step.batch.num_graphs == step.batch.y.numel():
            return step.vectors
        vectors: Tensor = step.model(step.batch)
        return vectors

    def _partners(
        self, batch: Batch, targets: Tensor, known: Tensor, key: tuple[int, int]
    ) -> Batch:
        """For each session another sample with the same target, drawn uniformly."""
        assert self._dataset is not None
        assert self._order is not None
        assert self._ptr is not None
        items, ptr = batch.click_item.cpu().numpy(), batch.click_ptr.cpu().numpy()
        rows, target = known.cpu().numpy(), targets[known].cpu().numpy()
        streams = session_streams(items, ptr, words_of("partner", *key))[rows]
        low, high = self._ptr[target], self._ptr[target + 1]
        some = np.maximum(high - low, 1)  # of a target that training has not, any sample
        place = np.minimum(low + integers(streams, 0, some), len(self._order) - 1)
        return self._dataset.batch(self._order[place])
