"""Negatives drawn by popularity, and their scores; shared by a batch or of each row's own."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from graphseq.arguments import check_fractions, check_not_negative, check_sizes
from graphseq.random import integers, substreams, torch_stream, uniform, words_of


class NegativeSampler:
    r"""Draws items with replacement by a power of their popularity (Mikolov et al., NIPS 2013).

    .. math::
        q_j = \frac{u}{V} + (1 - u) \frac{c_j^\alpha}{\sum_k c_k^\alpha}

    where the uniform share u includes items that nobody clicks. (In mixed negative sampling, Yang
    et al., WWW 2020, the other part is the batch's own targets.) A draw depends only on
    ``(seed, epoch, step)``, and a draw for a single row also on the number of the row, never on
    earlier draws. It takes two random numbers and two look-ups whatever the number of items (alias
    method, Walker 1977).

    Args:
        counts: Training clicks of each item, [V], or the number of items V.
        num_negatives: Negatives of one draw.
        alpha: 0 draws all items uniformly, 1 in proportion to their clicks; above 0 an item without
            clicks is drawn by the uniform share alone.
        uniform_share: The share u of draws that are uniform over all items, in 0..1.
        seed: Seed of all draws.

    Raises:
        ValueError: If a count is negative or not finite, there are no items or none to draw, or
            ``num_negatives`` is below 1. Also if ``uniform_share`` lies outside 0..1, or ``alpha``
            is negative, or not 0 without counts.
    """

    def __init__(
        self,
        counts: int | ArrayLike | Tensor,
        num_negatives: int,
        *,
        alpha: float = 0.0,
        uniform_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        check_sizes(num_negatives=num_negatives)
        check_not_negative(alpha=alpha)
        check_fractions(uniform_share=uniform_share)
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
                raise ValueError(f"counts must be [V], one per item, got {list(clicks.shape)}.")
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
        self.uniform_share = uniform_share
        self.seed = seed
        # Uniform draws need no table.
        self.probability: NDArray[np.float64] | None = None  # [V]
        self._table: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None
        if alpha and uniform_share < 1:
            if clicks.max() == 0:
                raise ValueError(f"All {self.num_items} counts are 0: there is no item to draw.")
            weights = clicks**alpha
            self._one_click = (1 - uniform_share) / weights.sum()
            self.probability = weights * self._one_click + uniform_share / self.num_items
            self._table = _alias_table(self.probability / self.probability.sum())

    def sample(self, epoch: int, step: int, rows: Tensor | None = None) -> Tensor:
        """The negatives of one training step.

        Args:
            epoch, step: What the draw depends on, besides the seed; from 0.
            rows: ``None``: one draw, shared by the batch. Else numbers of rows in the batch of all
                processes, int64 [n], each with a separate draw. The draw of a row is the same
                whatever other rows are asked for.

        Returns:
            Item codes, int64 [num_negatives] or [n, num_negatives].
        """
        if rows is None:
            generator = torch_stream("negatives", self.seed, epoch, step)
            cell = torch.randint(self.num_items, (self.num_negatives,), generator=generator)
            if self._table is None:
                return cell
            stays = torch.rand(len(cell), generator=generator, dtype=torch.float64)
            return self._drawn(cell.numpy(), stays.numpy())
        key = words_of("negatives_of_row", self.seed, epoch, step)
        streams = substreams(key, rows.cpu().numpy())[:, None]
        place = 2 * np.arange(self.num_negatives)
        cells = integers(streams, place, self.num_items)  # [n, num_negatives]
        return self._drawn(cells, uniform(streams, place + 1))

    def _drawn(self, cell: NDArray[np.int64], stays: NDArray[np.float64]) -> Tensor:
        if self._table is None:
            return torch.from_numpy(cell)
        keep, alias = self._table
        return torch.from_numpy(np.where(stays < keep[cell], cell, alias[cell]))

    @cached_property
    def log_q(self) -> Tensor:
        r"""Logarithm of the number of times a draw is expected to hold each item, float32 [V].

        An item that is never drawn has the value of an item with one click, so that its corrected
        score as a target stays finite.
        """
        if self.probability is None:
            expected = np.full(self.num_items, self.num_negatives / self.num_items)
        else:
            never = self.probability == 0
            expected = np.where(never, self._one_click, self.probability) * self.num_negatives
        return torch.from_numpy(np.log(expected).astype(np.float32))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_items}, {self.num_negatives}, alpha={self.alpha}, "
            f"uniform_share={self.uniform_share}, seed={self.seed})"
        )


def shared_scores(
    vectors: Tensor, rows: Tensor, targets: Tensor, negatives: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Scores of each row's target and of negatives that all rows share, as the losses take them.

    An offset of minus ``log_q``, for target and negatives, makes the sampled softmax consistent
    with the full one where negatives are not uniform (Bengio & Senecal, 2008; Yi et al., RecSys
    2019).

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
    order. Running sums of deficits and of excesses determine who fills whom, so no loop is needed.
    """
    mass = probability * len(probability)
    light, heavy = np.nonzero(mass < 1)[0], np.nonzero(mass >= 1)[0]
    keep, alias = mass.copy(), np.arange(len(mass))
    if len(heavy) == 0:  # uniform, except for rounding
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
