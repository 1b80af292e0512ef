"""Which loss a training minimizes, with its negatives, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from torch import Tensor

from graphseq.training import losses
from graphseq.training.negatives.hard_negatives import ITEM_INDEXES
from graphseq.training.rules import Flag, Number, Rule, Whole, did_you_mean

SAMPLED_LOSSES: dict[str, Callable[..., Tensor]] = {
    "sampled_softmax": losses.sampled_softmax,
    "bpr": losses.bpr,
    "top1": losses.top1,
    "bpr_max": losses.bpr_max,
    "top1_max": losses.top1_max,
    "bce": losses.bce,
    "gbce": losses.gbce,
}
"""Losses over one positive and some negatives, by name."""

LOSSES = ("cross_entropy", *SAMPLED_LOSSES)
"""Names that ``fit(loss=...)`` takes."""

SHARE = Number(positive=False, most=1)

RULES: dict[str, Rule] = {
    "num_negatives": Whole(0),
    "alpha": Number(positive=False),
    "logq": Flag(none="corrects the softmax alone"),
    "in_batch": Flag(),
    "mask_collisions": Flag(),
    "shared": Flag(none="shares draws but for a ranker of pairs"),
    "uniform_share": SHARE,
    "label_smoothing": SHARE,
    "exclude_session": Flag(),
    "hardest": Whole(1, none="keeps all"),
    "from_index": Whole(0),
    "refresh": Whole(1),
}
"""What each argument of a sampled loss is to be, apart from names and options."""

OPTIONS: dict[str, dict[str, Rule]] = {
    "sampled_softmax": {"label_smoothing": SHARE},
    "bpr_max": {"regularization": Number(positive=False), "elu": Number(positive=False)},
    "gbce": {"t": SHARE, "num_items": Whole(2)},
}
"""Further arguments of losses that have some."""


@dataclass(frozen=True)
class CrossEntropy:
    r"""Exact softmax cross-entropy over all items; ``"cross_entropy"`` is its default form.

    Args:
        label_smoothing: Share of the label that is spread uniformly over all items, in 0..1
            (:func:`~graphseq.training.losses.exact.full_cross_entropy`).
        exposure: Exponent :math:`\tau` of popularity in the probability that an item was seen at
            all. Training adds :math:`\tau \log ((c_j + 1) / (N + V))` to the score of item j with
            :math:`c_j` of N clicks, ranking leaves it out: scores then tell what would be clicked
            if all items were seen as often (Menon et al., ICLR 2021). 0: clicks as they are.

    Raises:
        ValueError: If a number is out of range.
    """

    label_smoothing: float = 0.0
    exposure: float = 0.0

    name: ClassVar[str] = "cross_entropy"

    def __post_init__(self) -> None:
        _set(self, {"label_smoothing": SHARE, "exposure": Number(positive=False)})


@dataclass(frozen=True)
class SampledLoss:
    r"""A loss over negatives that all rows of a batch share, or over some of each row's own.

    With ``logq``, the log of how often a row is expected to meet an item is subtracted from its
    score, drawn or in the batch. For item j with :math:`c_j` clicks among n rows and N draws

    .. math::
        r_j - \log \Big(N \Big(\frac{u}{V} + (1 - u) \frac{c_j^\alpha}{\sum_k c_k^\alpha}\Big)
            + (n - 1) \frac{c_j}{\sum_k c_k}\Big)

    where u is ``uniform_share`` and the last term is there with ``in_batch`` alone. The authors'
    code of GRU4Rec (Hidasi & Karatzoglou, CIKM 2018) subtracts :math:`\log c_j` from scores of the
    batch's targets and :math:`\alpha \log c_j` from drawn ones. That is the same for either kind
    alone, as a softmax cancels a constant. With both together, the authors' code weighs the kinds
    by these constants; here each item counts once.

    Hard negatives, by ``hardest`` or ``from_index``, depend on the scores themselves: no
    probability of them is known, and there is no correction.

    Args:
        name: ``"sampled_softmax"``, ``"bpr"``, ``"top1"``, ``"bpr_max"``, ``"top1_max"``, ``"bce"``
            or ``"gbce"``.
        num_negatives: Negatives drawn per batch, or per row.
        alpha: Negatives are drawn in proportion to ``count ** alpha``; 0 draws all items uniformly.
        logq: Whether scores are corrected by the log of how often an item is drawn, which takes
            the bias out of popular negatives; for the softmax alone. ``None``: for the softmax yes,
            but not with hard negatives.
        options: Further arguments of the loss: ``regularization``, ``elu``, ``t``.
        in_batch: Whether the targets of all other rows are negatives too (Hidasi et al., ICLR
            2016); their scores are [n, n + num_negatives] for n rows.
        mask_collisions: Whether a negative that equals the row's own target does not count for
            that row; in the authors' code of GRU4Rec it counts.
        shared: Whether all n rows of a batch meet the same draws; ``None``: yes, but for a ranker
            of pairs, whose work grows with every pair. Draws of each row's own hold n N embeddings
            of d numbers, 105 MB for 512 rows, 512 draws and d = 100, and as much in gradients.
        uniform_share: Share of the draws that are uniform over all items, whatever ``alpha``.
        label_smoothing: Of the softmax, over what was drawn.
        exclude_session: Whether the items of a row's sample are excluded from its negatives: its
            clicks and targets. Of a model trained on whole sessions, that is the session, as in the
            authors' code of SASRec. A session's items are then never ranked against each other: for
            histories whose next item is always a new one, evaluated with ``exclude_seen``. A
            sample of prefixes holds the clicks so far, at most ``max_length`` of the model, and
            one target; one of lanes holds a click and its target. Later and older clicks of the
            session remain negatives there.
        hardest: Number of negatives that each row keeps, the ones it scores highest (Zhang et al.,
            SIGIR 2013, for a pool of a few); ``None``: all.
        from_index: Number of further negatives per row: the highest scored of all items by a copy
            of the item table (Xiong et al., ICLR 2021).
        refresh: Steps after which that copy is made again, and at the start of every epoch.
        index: What searches the copy, by its name in
            :data:`~graphseq.training.negatives.hard_negatives.ITEM_INDEXES`.

    Raises:
        ValueError: If the name is unknown, or a loss or its negatives lack an option that is
            set. Also if a number is out of range, or there are no negatives at all.
    """

    name: str = "sampled_softmax"
    num_negatives: int = 256
    alpha: float = 0.75
    logq: bool | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    in_batch: bool = False
    mask_collisions: bool = True
    shared: bool | None = None
    uniform_share: float = 0.0
    label_smoothing: float = 0.0
    exclude_session: bool = False
    hardest: int | None = None
    from_index: int = 0
    refresh: int = 200
    index: str = "exact"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in SAMPLED_LOSSES:
            raise ValueError(
                f"A sampled loss is one of {', '.join(SAMPLED_LOSSES)}, got {self.name!r}"
                f"{did_you_mean(self.name, SAMPLED_LOSSES)}."
            )
        _set(self, RULES)
        object.__setattr__(self, "options", _options(self.name, self.options))
        if self.name != "sampled_softmax":
            if self.logq:
                raise ValueError(f"logq corrects sampled_softmax alone, not {self.name!r}.")
            if self.label_smoothing:
                raise ValueError(
                    f"label_smoothing is of sampled_softmax alone, not of {self.name!r}."
                )
        if self.num_negatives < (0 if self.in_batch or self.from_index > 0 else 1):
            raise ValueError(
                "num_negatives must be at least 1, or 0 with in_batch=True or from_index, got "
                f"{self.num_negatives}."
            )
        if not isinstance(self.index, str) or self.index not in ITEM_INDEXES:
            raise ValueError(
                f"index is one of {', '.join(ITEM_INDEXES)}, got {self.index!r}: one of your own "
                "goes into gs.training.ITEM_INDEXES first."
            )
        if self.is_hard and self.logq:
            raise ValueError(
                "logq=True needs the probability of every negative, and hard ones (hardest, "
                "from_index) have none: use logq=None."
            )
        if not self.mask_collisions and (self.is_hard or self.exclude_session):
            raise ValueError(
                "mask_collisions=False would have a row's own target among its hard negatives, or "
                "among what its session holds: leave it True with hardest, from_index and "
                "exclude_session."
            )

    @property
    def is_hard(self) -> bool:
        """Whether scores choose some of the negatives."""
        return self.hardest is not None or self.from_index > 0

    @property
    def corrects(self) -> bool:
        """``logq`` where it was given, else: yes for the softmax over what was drawn."""
        if self.logq is None:
            return self.name == "sampled_softmax" and not self.is_hard
        return self.logq


def as_loss(
    loss: str | Mapping[str, Any] | CrossEntropy | SampledLoss,
) -> CrossEntropy | SampledLoss:
    """The loss of a name, or of a mapping as :func:`loss_settings` gives it.

    Args:
        loss: A name of :data:`LOSSES`; a mapping with ``name`` (without one: sampled softmax) and
            arguments; or the loss itself.

    Raises:
        ValueError: If the loss or one of its arguments is unknown.
    """
    if isinstance(loss, CrossEntropy | SampledLoss):
        return loss
    if not isinstance(loss, str | Mapping):
        raise ValueError(
            f"loss is one of {', '.join(LOSSES)}, a CrossEntropy or a SampledLoss, got {loss!r}."
        )
    content = {"name": loss} if isinstance(loss, str) else dict(loss)
    name = content.get("name", SampledLoss.name)
    if not isinstance(name, str) or name not in LOSSES:
        near = did_you_mean(name, LOSSES)
        raise ValueError(f"loss is one of {', '.join(LOSSES)}, got {name!r}{near}.")
    kind: type[CrossEntropy | SampledLoss] = SampledLoss
    if name == CrossEntropy.name:
        kind = CrossEntropy
        del content["name"]
    known = [each.name for each in fields(kind)]
    unknown = [each for each in content if each not in known]
    if unknown:
        raise ValueError(
            f"The loss {name!r} has no argument {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(known)}{did_you_mean(unknown[0], known)}."
        )
    return kind(**content)


def loss_settings(loss: str | CrossEntropy | SampledLoss) -> str | dict[str, Any]:
    """A loss as JSON has it, which :func:`as_loss` reads."""
    if isinstance(loss, str):
        return loss
    if isinstance(loss, CrossEntropy):
        return {"name": loss.name, **asdict(loss)}
    return {**asdict(loss), "options": dict(loss.options)}


def _set(loss: CrossEntropy | SampledLoss, rules: Mapping[str, Rule]) -> None:
    """Checks arguments, and makes them plain values."""
    for name, rule in rules.items():
        object.__setattr__(loss, name, rule.check(name, getattr(loss, name)))


def _options(loss: str, options: Any) -> dict[str, Any]:
    known = OPTIONS.get(loss, {})
    if not isinstance(options, Mapping) or any(name not in known for name in options):
        raise ValueError(
            f"options of {loss!r} are a mapping with {' and '.join(known) or 'nothing in it'}, got "
            f"{options!r}."
        )
    return {
        name: known[name].check(f"{name} of {loss!r}", value) for name, value in options.items()
    }
