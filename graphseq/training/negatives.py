"""Negatives that a batch shares, drawn in proportion to a power of popularity, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


class NegativeSampler:
    r"""Draws items with replacement, :math:`q_j \propto c_j^\alpha` (Mikolov et al., NIPS 2013).

    A draw depends on ``(seed, epoch, step)`` alone, never on what was drawn before. It takes two
    random numbers and two look-ups whatever the number of items (alias method, Walker 1977).

    Args:
        counts: Training clicks of each item, [V], or the number of items V.
        num_negatives: Negatives of one draw.
        alpha: 0 draws all items alike, 1 in proportion to their clicks; above 0 an item without
            clicks is never drawn.
        seed: Seed of all draws.

    Raises:
        ValueError: If a count is negative or not finite, there are no items or none to draw,
            ``num_negatives`` is below 1, ``alpha`` is negative, or is not 0 while counts are not
            given.
    """

    def __init__(
        self,
        counts: int | ArrayLike | Tensor,
        num_negatives: int,
        *,
        alpha: float = 0.0,
        seed: int = 0,
    ) -> None:
        if num_negatives < 1:
            raise ValueError(f"num_negatives must be at least 1, got {num_negatives}.")
        if not 0 <= alpha < np.inf:
            raise ValueError(f"alpha must be 0 or above, got {alpha}.")
        if isinstance(counts, (int, np.integer)):
            if alpha:
                raise ValueError(
                    f"alpha of {alpha} needs the clicks of each item, but only the number of items "
                    f"was given, {counts}: pass counts, or alpha=0."
                )
            self.num_items = int(counts)
        else:
            clicks: NDArray[np.float64] = np.asarray(counts, dtype=np.float64)
            if clicks.ndim != 1:
                raise ValueError(f"counts must be [V], one an item, got {list(clicks.shape)}.")
            wrong = np.nonzero(~((clicks >= 0) & (clicks < np.inf)))[0]
            if len(wrong):
                raise ValueError(
                    f"counts must be finite and not negative, got {clicks[wrong[0]]} for item "
                    f"{wrong[0]}."
                )
            self.num_items = len(clicks)
        if self.num_items < 1:
            raise ValueError(f"There must be at least one item to draw, got {self.num_items}.")
        self.num_negatives = num_negatives
        self.alpha = alpha
        self.seed = seed
        # Uniform draws need no table.
        self._weights: NDArray[np.float64] | None = None
        self._table: tuple[Tensor, Tensor] | None = None
        if alpha:
            if clicks.max() == 0:
                raise ValueError(f"All {self.num_items} counts are 0: there is no item to draw.")
            self._weights = clicks**alpha
            keep, alias = _alias_table(self._weights / self._weights.sum())
            self._table = torch.from_numpy(keep), torch.from_numpy(alias)

    def sample(self, epoch: int, step: int, shape: Sequence[int] | None = None) -> Tensor:
        """The negatives of one training step.

        Args:
            epoch, step: What the draw depends on, beside the seed; from 0.
            shape: Shape of the draw; ``None``: [num_negatives], shared by the batch. Negatives of
                each row's own are ``(B, num_negatives)``.

        Returns:
            Item codes, int64 of that shape.
        """
        size = (self.num_negatives,) if shape is None else tuple(shape)
        state = np.random.SeedSequence((self.seed, epoch, step)).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
        cell = torch.randint(self.num_items, size, generator=generator)
        if self._table is None:
            return cell
        keep, alias = self._table
        stays = torch.rand(size, generator=generator, dtype=torch.float64) < keep[cell]
        return torch.where(stays, cell, alias[cell])

    @cached_property
    def log_q(self) -> Tensor:
        r"""Logarithm of the number of times a draw is expected to hold each item, float32 [V].

        An item that is never drawn has the value of an item with one click, so that its corrected
        score as a target stays finite.
        """
        if self._weights is None:
            expected = np.full(self.num_items, self.num_negatives / self.num_items)
        else:
            weights = np.where(self._weights > 0, self._weights, 1.0)
            expected = weights * (self.num_negatives / self._weights.sum())
        return torch.from_numpy(np.log(expected).astype(np.float32))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.num_negatives}, alpha={self.alpha}, "
            f"seed={self.seed})"
        )


def shared_scores(
    vectors: Tensor, rows: Tensor, targets: Tensor, negatives: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Scores of each row's target and of negatives that all rows share, as the losses take them.

    An offset of minus ``log_q``, for target and negatives alike, makes the sampled softmax
    consistent with the full one for negatives that are not uniform (Bengio & Senecal, 2008; Yi et
    al., RecSys 2019).

    Args:
        vectors: Session vectors or click states, [B, d].
        rows: Rows of the item table, of the targets and then of the negatives, [B + N, d].
        targets: Item of each row, int64 [B].
        negatives: Items shared by all rows, int64 [N].
        offset: Added to the scores, in the order of ``rows``, [B + N]: the bias of each item, or
            minus :attr:`NegativeSampler.log_q`, or both.

    Returns:
        Positive scores [B], negative scores [B, N] and the mask, bool [B, N], that is ``False``
        where a negative is the row's own target.

    Raises:
        ValueError: If shapes do not fit.
    """
    num_rows = vectors.shape[0]
    if targets.shape != (num_rows,):
        raise ValueError(
            f"targets must be [{num_rows}], one for each vector, got {list(targets.shape)}."
        )
    num_drawn = num_rows + negatives.numel()
    if negatives.dim() != 1 or len(rows) != num_drawn:
        raise ValueError(
            "negatives must be [N] and rows those of targets and negatives, [B + N, d], got "
            f"{list(negatives.shape)} and {list(rows.shape)} for {num_rows} targets."
        )
    own, other = rows[:num_rows], rows[num_rows:]
    positive = (vectors * own).sum(1)  # [B]
    scores = vectors @ other.t()  # [B, N]
    if offset is not None:
        positive, scores = positive + offset[:num_rows], scores + offset[num_rows:]
    return positive, scores, negatives != targets.unsqueeze(1)


def _alias_table(probability: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Share of each cell that its own item keeps, and the item that has the rest.

    Every cell has mass 1. Items below that mass, in order, are filled up by the items above it, in
    order; running sums of deficits and of excesses tell who fills whom, so no loop is needed.
    """
    mass = probability * len(probability)
    light, heavy = np.nonzero(mass < 1)[0], np.nonzero(mass >= 1)[0]
    keep, alias = mass.copy(), np.arange(len(mass))
    if len(heavy) == 0:  # all items alike, but for rounding
        keep[:] = 1.0
        return keep, alias
    deficit, excess = np.cumsum(1 - mass[light]), np.cumsum(mass[heavy] - 1)
    before = np.concatenate([[0.0], deficit])  # taken before each light item, and in all
    filler = np.searchsorted(excess, before[:-1], side="right").clip(max=len(heavy) - 1)
    alias[light] = heavy[filler]
    keep[heavy] = 1.0
    # The light item that overdraws a heavy one leaves it below 1: the next heavy one makes it up.
    # One that is used up to the last bit by the light item before has nothing left to overdraw.
    at = np.searchsorted(deficit, excess, side="right")
    short = np.nonzero((at < len(light)) & (before[at] < excess))[0]
    short = short[short < len(heavy) - 1]
    keep[heavy[short]] = 1 - (deficit[at[short]] - excess[short])
    alias[heavy[short]] = heavy[short + 1]
    return keep, alias
