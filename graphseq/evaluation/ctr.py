"""Metrics of click-through models, over labeled pairs of session and item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from graphseq.arguments import whole
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.inputs import inference_mode, read_inputs, require_model
from graphseq.evaluation.scoring import checked
from graphseq.evaluation.targets import Targets
from graphseq.metric_scale import SAMPLED
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import blocks
from graphseq.random import stream


@dataclass(frozen=True)
class PairReport:
    """The result of :func:`evaluate_pairs`: sampled metrics, over drawn items.

    Args:
        auc: Probability that a click scores higher than a drawn item; ties count half.
        logloss: Mean cross-entropy of clicks and drawn items.
        num_pairs: Number of scored pairs.
        num_left_out: Targets that form no pair: unknown targets, and targets without a known click
            before them.
    """

    auc: float
    logloss: float
    num_pairs: int
    num_left_out: int

    def __repr__(self) -> str:
        metrics = f"{SAMPLED}auc={self.auc:.4f}, {SAMPLED}logloss={self.logloss:.4f}"
        return f"{type(self).__name__}({metrics}, num_pairs={self.num_pairs})"


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    r"""Area under the ROC curve: the probability that a click scores higher than a non-click.

    .. math::
        \frac{1}{PN} \sum_{p, n} \big([s_p > s_n] + \tfrac{1}{2} [s_p = s_n]\big)

    >>> auc([1, 0, 0, 1], [0.9, 0.1, 0.9, 0.5])
    0.625

    Args:
        labels: 1 where clicked, 0 where not, [n].
        scores: Scores, higher for more likely clicks, [n].

    Raises:
        ValueError: If shapes differ, a label is not 0 or 1, only one label occurs, or a score is
            NaN.
    """
    clicked, numbers = _checked(labels, scores)
    positives = int(clicked.sum())
    negatives = clicked.size - positives
    if positives == 0 or negatives == 0:
        raise ValueError(
            f"The AUC compares clicks with non-clicks, got {positives} and {negatives} of them."
        )
    from scipy.stats import rankdata  # takes a third of a second to load

    above = rankdata(numbers)[clicked].sum() - positives * (positives + 1) / 2
    return float(above / positives / negatives)


def logloss(labels: ArrayLike, logits: ArrayLike) -> float:
    r"""Mean cross-entropy of logits, :math:`-\log \sigma(s)` or :math:`-\log(1 - \sigma(s))`.

    >>> round(logloss([1, 0], [0.0, 0.0]), 4)
    0.6931

    Args:
        labels: 1 where clicked, 0 where not, [n].
        logits: Scores before the sigmoid, [n].

    Raises:
        ValueError: If shapes differ, there is no pair, a label is not 0 or 1, or a logit is NaN.
    """
    clicked, numbers = _checked(labels, logits)
    if clicked.size == 0:
        raise ValueError("The logloss is a mean over pairs, got none.")
    return float(np.logaddexp(0.0, np.where(clicked, -numbers, numbers)).mean())


def evaluate_pairs(
    model: SessionModel,
    sessions: Sessions,
    *,
    num_negatives: int = 1,
    batch_size: int = 512,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> PairReport:
    """AUC and logloss of every target against items drawn uniformly from the catalog.

    These are sampled metrics: they compare models on the same draw, but do not measure the quality
    of a ranking. Use :func:`~graphseq.evaluation.evaluate` or :func:`evaluate_reranker` for that.

    Args:
        model: Any model whose scores are logits, such as :class:`~graphseq.models.BSTRanker`.
        sessions: A part of a split; recoded to the vocabulary of ``model.catalog`` if it has one.
        num_negatives: Items drawn per target, excluding the target itself.
        batch_size: Session graphs per batch.
        seed: Seed of the draw, which is the same for all models with the same catalog size.
        device: Device to run on; ``None``: the model's device.

    Raises:
        ValueError: If an option is out of range, sessions and model do not match, or there is no
            target to score.
    """
    num_negatives = whole("num_negatives", num_negatives)
    batch_size = whole("batch_size", batch_size)
    seed = whole("seed", seed, at_least=0)
    require_model(model, sessions)
    if model.num_items < 2:
        raise ValueError("A catalog of one item has no other item to compare a target with.")
    sessions = read_inputs(model, sessions)[1]
    cases = Targets(sessions)
    dataset = SessionGraphDataset(
        sessions, max_length=model.max_length, request_time=model.reads_request_time
    )
    target = cases.target[cases.history > 0]  # in the order of the dataset's samples
    sample = np.flatnonzero(target >= 0)
    clicks = dataset.num_clicks()[sample]
    order = np.argsort(clicks, kind="stable")
    sample, clicks = sample[order], clicks[order]
    if sample.size == 0:
        raise ValueError("No target is a known item: there is no pair to score.")
    generator = stream("pairs", seed)
    drawn = generator.integers(0, model.num_items - 1, (target.size, num_negatives))
    drawn += drawn >= target[:, None]  # never the target
    pairs = np.concatenate([target[:, None], drawn], axis=1)
    found = []
    with inference_mode(model, device):
        for part in (sample[cut] for cut in blocks(clicks, batch_size)):
            candidates = torch.from_numpy(pairs[part]).to(model.device)
            scores = model.score(dataset.batch(part).to(model.device), candidates)
            source = f"{type(model).__name__}.score of candidates"
            found.append(checked(scores, list(candidates.shape), source).double().cpu().numpy())
    logits = np.concatenate(found)  # [n, 1 + num_negatives]
    labels = np.zeros_like(logits)
    labels[:, 0] = 1
    return PairReport(
        auc=auc(labels.ravel(), logits.ravel()),
        logloss=logloss(labels.ravel(), logits.ravel()),
        num_pairs=logits.size,
        num_left_out=len(cases) - sample.size,
    )


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(labels)
    if truth.ndim != 1 or truth.shape != numbers.shape:
        raise ValueError(
            f"Labels and scores are one a pair, [n] both, got {list(truth.shape)} and "
            f"{list(numbers.shape)}."
        )
    clicked = truth == 1
    if not (clicked | (truth == 0)).all():
        raise ValueError("A label is 1, clicked, or 0, not clicked.")
    if np.isnan(numbers).any():
        raise ValueError(f"Scores must be numbers, but {int(np.isnan(numbers).sum())} are NaN.")
    return clicked, numbers
