"""The samples of each step of an epoch: a function of seed and epoch, divided among ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from graphseq.arguments import flag, whole
from graphseq.data.loading.permutation import Permutation
from graphseq.ragged import ptr_of
from graphseq.random import sequence, stream

BUCKET_BATCHES = 50
"""Number of batches among which samples are exchanged to make batches of similar length."""
ORDERED_AT_ONCE = 1 << 23
"""Up to this many samples the order of an epoch is an array. Beyond, it is made in runs of this
many batches, and steps are shuffled within their run."""

Step = TypeVar("Step")


def place_among_ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """The rank of this process and the number of processes; ``None``: from ``torch.distributed``.

    Raises:
        ValueError: If the rank is out of range.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if world_size is None:
        world_size = torch.distributed.get_world_size() if distributed else 1
    if rank is None:
        rank = torch.distributed.get_rank() if distributed else 0
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must lie in 0..{world_size - 1}, got {rank}.")
    return rank, world_size


class EpochSampler(Sampler[Step]):
    """The samples of each step of an epoch: a function of seed and epoch, readable from any step.

    Attributes:
        seed: Seed of the order.
        epoch: The next epoch.
        first_step: The next step of that epoch.
    """

    def __init__(self, seed: int, rank: int | None, world_size: int | None) -> None:
        self.seed = whole("seed", seed, at_least=0)
        self.rank, self.world_size = place_among_ranks(rank, world_size)
        self.epoch = 0
        self.first_step = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the next epoch; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of steps per epoch."""
        raise AttributeError(f"{type(self).__name__} does not state how many steps it has.")


class SessionBatchSampler(EpochSampler[NDArray[np.int64]]):
    """Sample numbers of each batch of one rank; ranks divide every epoch without overlap.

    Each sample occurs once per epoch, and every rank gets the same number of steps. Remaining
    samples at the end are divided among all ranks. With ``batch_size=1`` they may be too few for a
    separate step; the last step then includes them.

    Args:
        size: Number of samples, or the length of each, int [num_samples], as ``bucket`` needs.
        batch_size: Samples per batch of one rank.
        shuffle: Whether the order differs from epoch to epoch.
        seed: Seed of that order.
        bucket: Whether batches hold samples of similar length.
        lengths: A function for the length of any samples, int64 [n] -> int [n], instead of all
            lengths.
        num_steps: Number of steps per epoch, with samples spread evenly over them instead of full
            batches. For ranks that have their own data and must take equally many steps.
        rank, world_size: Rank of this process and number of processes; by default from
            ``torch.distributed``.

    Raises:
        ValueError: If a number is out of range, there are fewer samples than ranks, or batches in
            ``num_steps`` would be empty or larger than ``batch_size``.
    """

    def __init__(
        self,
        size: int | NDArray[np.int64],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        bucket: bool = False,
        lengths: Callable[[NDArray[np.int64]], NDArray[np.integer[Any]]] | None = None,
        num_steps: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(seed, rank, world_size)
        batch_size = whole("batch_size", batch_size)
        if bucket and isinstance(size, int) and lengths is None:
            raise ValueError("bucket=True needs the length of every sample, not only their number.")
        self._lengths_of = lengths if isinstance(size, int) else size.take
        self.num_samples = size if isinstance(size, int) else len(size)
        _check_shares(self.num_samples, self.world_size)
        self.batch_size = batch_size
        self.shuffle = flag("shuffle", shuffle)
        self.bucket = bucket
        least = -(-self.num_samples // (batch_size * self.world_size))
        most = self.num_samples // self.world_size
        if num_steps is not None and not least <= num_steps <= most:
            raise ValueError(
                f"num_steps must lie in {least}..{most} for {self.num_samples} samples in batches "
                f"of {batch_size} on {self.world_size} ranks, got {num_steps}."
            )
        self.num_steps = num_steps

    def __len__(self) -> int:
        if self.num_steps is not None:
            return self.num_steps
        steps = -(-self.num_samples // (self.batch_size * self.world_size))
        return min(steps, self.num_samples // self.world_size)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        bounds = self._bounds()  # [num_steps + 1] of the global batches
        steps, first_step, epoch = len(self), self.first_step, self.epoch
        run = steps if self._at_once else BUCKET_BATCHES
        for first in range(first_step // run * run, steps, run):
            last = min(first + run, steps)
            order = self._order(epoch, bounds[first], bounds[last])
            for step in self._sequence(epoch, first, last)[max(first_step - first, 0) :]:
                start, size = bounds[step] - bounds[first], bounds[step + 1] - bounds[step]
                low = start + size * self.rank // self.world_size
                high = start + size * (self.rank + 1) // self.world_size
                yield order[low:high]

    @property
    def _at_once(self) -> bool:
        """Whether the order of the whole epoch is computed at its start."""
        by_length = self.bucket and not self.shuffle
        return by_length or self.num_samples <= ORDERED_AT_ONCE

    def _order(self, epoch: int, low: int, high: int) -> NDArray[np.int64]:
        """The samples at places ``low..high - 1`` of the epoch."""
        if not self.shuffle:
            order = np.arange(low, high)
            return order[self._by_length(order)] if self.bucket else order
        if not self._at_once:  # a run is a chunk
            order = Permutation(self.num_samples, sequence("order", self.seed, epoch))(
                np.arange(low, high)
            )
            return order[self._by_length(order)] if self.bucket else order
        order = stream("order", self.seed, epoch).permutation(self.num_samples)
        if self.bucket:
            chunk = np.arange(self.num_samples) // (
                BUCKET_BATCHES * self.batch_size * self.world_size
            )
            order = order[self._by_length(order, chunk)]
        return order

    def _by_length(
        self, samples: NDArray[np.int64], chunk: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """The order of samples by chunk and length; samples equal in both keep their order."""
        assert self._lengths_of is not None
        lengths = self._lengths_of(samples)
        if chunk is None:
            return np.argsort(lengths, kind="stable")
        return np.lexsort((lengths, chunk))

    def _sequence(self, epoch: int, first: int, last: int) -> NDArray[np.int64]:
        """Steps ``first..last - 1`` in the order in which they come."""
        if not (self.bucket and self.shuffle):
            return np.arange(first, last)
        return first + stream("steps", self.seed, epoch, first).permutation(last - first)

    def _bounds(self) -> NDArray[np.int64]:
        if self.num_steps is not None:
            return np.arange(self.num_steps + 1) * self.num_samples // self.num_steps
        whole = self.batch_size * self.world_size
        bounds = np.minimum(np.arange(len(self) + 1) * whole, self.num_samples)
        bounds[-1] = self.num_samples
        if len(self) > 1 and bounds[-1] - bounds[-2] < self.world_size:
            # A last batch that is too small to give every rank a sample takes some from the batch
            # before.
            bounds[-2] = bounds[-1] - self.world_size
        return bounds


class ClickBatchSampler(EpochSampler[NDArray[np.int64]]):
    """Batches of samples of similar length, with a limit on clicks and none on samples.

    Each sample occurs once per epoch, and every rank gets the same number of steps, none empty. The
    order of lengths is fixed by the seed. Each epoch shuffles samples of the same length among
    their places, and shuffles the steps; all epochs have the same number of steps. The batches of
    the ranks in one step have similar lengths.

    Args:
        lengths: Clicks of each sample, at least 1, int [num_samples].
        max_clicks: Maximum number of clicks per batch of one rank.
        shuffle: Whether the order is random and differs from epoch to epoch; else batches go from
            short samples to long ones.
        seed: Seed of that order.
        rank, world_size: Rank of this process and number of processes; by default from
            ``torch.distributed``.

    Raises:
        ValueError: If a number is out of range, a single sample has more clicks than
            ``max_clicks``, or there are too few samples for all ranks.
    """

    def __init__(
        self,
        lengths: NDArray[np.integer[Any]],
        max_clicks: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(seed, rank, world_size)
        max_clicks = whole("max_clicks", max_clicks)
        _check_shares(len(lengths), self.world_size)
        too_long = lengths > max_clicks
        if too_long.any():
            raise ValueError(
                f"{int(too_long.sum())} samples have more than max_clicks={max_clicks} clicks, up "
                f"to {int(lengths.max())}: raise max_clicks, or cut them with max_length= or "
                "gs.data.keep_newest."
            )
        self.max_clicks = max_clicks
        self.shuffle = flag("shuffle", shuffle)
        self._lengths = smallest_dtype(lengths)
        self._layout = self._laid_out()
        in_order = self._lengths[self._layout]
        self._bounds = _shared_cuts(in_order, max_clicks, self.world_size)
        self._by_length = np.argsort(in_order, kind="stable")

    def __len__(self) -> int:
        return (len(self._bounds) - 1) // self.world_size

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        order, steps = self._layout, np.arange(len(self))
        if self.shuffle:
            order = shuffle_within_length(self._lengths, self._by_length, self.seed, self.epoch)
            steps = stream("steps", self.seed, self.epoch).permutation(len(self))
        for batch in steps[self.first_step :] * self.world_size + self.rank:
            yield order[self._bounds[batch] : self._bounds[batch + 1]]

    def _laid_out(self) -> NDArray[np.int64]:
        """An order in which adjacent samples have similar lengths, but not all samples of one
        length are adjacent: sorted chunk by chunk, alternately ascending and descending."""
        lengths = self._lengths
        if not self.shuffle:
            return np.argsort(lengths, kind="stable")
        order = stream("layout", self.seed).permutation(len(lengths))
        in_order = lengths[order].astype(np.int64)
        chunk = np.cumsum(in_order) // (BUCKET_BATCHES * self.max_clicks * self.world_size)
        in_order[chunk % 2 == 1] *= -1
        return order[np.lexsort((in_order, chunk))]


def shuffle_within_length(
    lengths: NDArray[np.integer[Any]], by_length: NDArray[np.int64], seed: int, epoch: int
) -> NDArray[np.int64]:
    """An order of the samples in which each place keeps its length, int64 [num_samples].

    Args:
        lengths: Clicks of each sample, int [num_samples].
        by_length: The places from short to long, int64 [num_samples].
        seed, epoch: The order depends on these.
    """
    random = stream("order", seed, epoch).permutation(len(lengths))
    order = np.empty_like(random)
    order[by_length] = random[np.argsort(lengths[random], kind="stable")]
    return order


def smallest_dtype(lengths: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """Lengths in 16 bits if they fit, which NumPy sorts by radix sort."""
    fits = lengths.max(initial=0) <= np.iinfo(np.uint16).max
    return lengths.astype(np.uint16 if fits else np.int32, copy=False)


def _check_shares(num_samples: int, world_size: int) -> None:
    if num_samples < world_size:
        raise ValueError(
            f"{num_samples} samples cannot be shared by {world_size} ranks: use fewer."
        )


def _shared_cuts(
    lengths: NDArray[np.integer[Any]], max_clicks: int, world_size: int
) -> NDArray[np.int64]:
    """Where batches start and end, int64 [num_batches + 1], a multiple of the ranks of them."""
    clicks = ptr_of(lengths)
    cuts = [0]
    while cuts[-1] < len(lengths):  # one pass for each batch
        most = clicks[cuts[-1]] + max_clicks
        cuts.append(int(np.searchsorted(clicks, most, side="right")) - 1)
    bounds = np.array(cuts)
    while absent := -(len(bounds) - 1) % world_size:
        sizes = np.diff(bounds)
        if sizes.max(initial=0) < 2:
            raise ValueError(
                f"{len(lengths)} samples in batches of at most {max_clicks} clicks cannot be "
                f"shared by {world_size} ranks: use fewer."
            )
        # The largest batches give half of their samples to a new batch.
        full = np.argsort(-sizes, kind="stable")[:absent]
        full = full[sizes[full] > 1]
        bounds = np.sort(np.append(bounds, bounds[full] + sizes[full] // 2))
    return bounds
