"""Batches of shards: each process reads its own shards, and all together the batches of one
process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Batch

from graphseq.data.graphs.augment import Augmentation
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import join_session_graphs
from graphseq.data.loading.loader import EpochLoader
from graphseq.data.loading.permutation import Permutation
from graphseq.data.loading.samplers import BUCKET_BATCHES, ORDERED_AT_ONCE, EpochSampler
from graphseq.random import seed_of, sequence, stream

Parts = list[tuple[int, NDArray[np.int64]]]
"""Samples of a batch, shard by shard: the number of the shard, and the numbers of its samples."""

Lengths = Callable[[NDArray[np.int64]], NDArray[np.integer[Any]]]


def shards_of(rank: int, world_size: int, num_shards: int) -> range:
    """The shards that one rank reads: adjacent ones, with equal numbers per rank if possible."""
    return range(rank * num_shards // world_size, (rank + 1) * num_shards // world_size)


class ShardSampler(EpochSampler[Parts]):
    r"""Samples of each batch of one rank, proportionally from every shard that it reads.

    Shard k has :math:`n_k` samples in its own order. Step t of T takes its samples at places
    :math:`\lfloor (t n_k + o_k) / T \rfloor` to :math:`\lfloor ((t + 1) n_k + o_k) / T \rfloor`,
    with :math:`o_k = \sum_{j < k} n_j \bmod T`. Each sample occurs once per epoch, and all ranks
    take T steps even if their shards are uneven. The samples of a step, over all ranks, do not
    depend on the number of ranks.

    Args:
        sizes: Number of samples of every shard, including shards of other ranks.
        lengths: For the shards that this rank reads, by number: a function for the length of
            samples, int64 [n] -> int [n].
        batch_size: Samples per batch over all ranks; slightly more with many shards.
        seed: Seed of the order.
        bucket: Whether batches hold samples of similar length.
        rank, world_size: Rank of this process and number of processes.

    Raises:
        ValueError: If ``batch_size`` is not positive, or there is no sample.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        lengths: Mapping[int, Lengths],
        batch_size: int,
        *,
        seed: int,
        bucket: bool,
        rank: int,
        world_size: int,
    ) -> None:
        super().__init__(seed, rank, world_size)
        if batch_size < 1 or sum(sizes) < 1:
            raise ValueError(
                f"batch_size and the number of samples must be at least 1, got {batch_size} and "
                f"{sum(sizes)}."
            )
        self.sizes = list(sizes)
        self.lengths = lengths
        self.bucket = bucket
        self._steps = -(-sum(sizes) // batch_size)
        self._offsets = (np.cumsum([0, *sizes[:-1]]) % self._steps).tolist()

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Parts]:
        first_step, epoch, run = self.first_step, self.epoch, BUCKET_BATCHES
        orders = {number: self._order(epoch, number) for number in self.lengths}
        for first in range(first_step // run * run, self._steps, run):
            last = min(first + run, self._steps)
            runs = {number: self._run(number, orders[number], first, last) for number in orders}
            steps = np.arange(first, last)
            if self.bucket:  # the same order of steps in all shards
                generator = stream("steps", self.seed, epoch, first)
                steps = first + generator.permutation(last - first)
            for step in steps[max(first_step - first, 0) :]:
                yield [
                    (number, samples[bounds[step - first] : bounds[step - first + 1]])
                    for number, (samples, bounds) in runs.items()
                    if bounds[step - first] < bounds[step - first + 1]
                ]

    def _order(self, epoch: int, number: int) -> Lengths:
        """The samples at places of a shard's order of an epoch."""
        size, key = self.sizes[number], (self.seed, epoch, number)
        if sum(self.sizes) > ORDERED_AT_ONCE:
            return Permutation(size, sequence("shard_order", *key))
        return stream("shard_order", *key).permutation(size).take

    def _run(
        self, number: int, order: Lengths, first: int, last: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A shard's samples of steps ``first..last - 1``, and the start of each step's samples."""
        steps = np.arange(first, last + 1)
        bounds = (steps * self.sizes[number] + self._offsets[number]) // self._steps
        samples = order(np.arange(bounds[0], bounds[-1])).astype(np.int64, copy=False)
        if self.bucket:
            samples = samples[np.argsort(self.lengths[number](samples), kind="stable")]
        return samples, bounds - bounds[0]


class ShardLoader(EpochLoader):
    """An :class:`~graphseq.data.loading.loader.EpochLoader` of the shards that one process reads.

    Args:
        datasets: Datasets of the shards that have samples, by number, at least one.
        sizes, batch_size, seed, bucket, rank, world_size: As in :class:`ShardSampler`.
        augmentation: As in :class:`~graphseq.data.SessionGraphLoader`.
        **kwargs: Further arguments of torch's loader.
    """

    def __init__(
        self,
        datasets: Mapping[int, SessionGraphDataset],
        sizes: Sequence[int],
        batch_size: int,
        *,
        seed: int = 0,
        bucket: bool = False,
        rank: int = 0,
        world_size: int = 1,
        augmentation: Augmentation | None = None,
        **kwargs: Any,
    ) -> None:
        sampler = ShardSampler(
            sizes,
            {number: dataset.num_clicks for number, dataset in datasets.items()},
            batch_size,
            seed=seed,
            bucket=bucket,
            rank=rank,
            world_size=world_size,
        )
        steps = _BatchesOfShards(datasets, augmentation, seed)
        first = next(iter(datasets.values()))
        super().__init__(first, steps, sampler, with_epoch=True, **kwargs)


class _BatchesOfShards(torch.utils.data.Dataset[Batch]):
    """The dataset for torch's loader: the batch of samples of several shards in an epoch."""

    def __init__(
        self,
        datasets: Mapping[int, SessionGraphDataset],
        augmentation: Augmentation | None,
        seed: int,
    ) -> None:
        self.datasets = datasets
        self.augmentation = augmentation
        # Samples with the same number in two shards are augmented independently.
        self.seeds = {number: seed_of("shard_augmentation", seed, number) for number in datasets}

    def __getitem__(self, step: tuple[int, Parts]) -> Batch:
        epoch, parts = step
        if not parts:  # other ranks may have samples
            return next(iter(self.datasets.values())).batch([])
        return join_session_graphs([self._batch(epoch, *part) for part in parts])

    def _batch(self, epoch: int, number: int, samples: NDArray[np.int64]) -> Batch:
        dataset = self.datasets[number]
        if self.augmentation is None:
            return dataset.batch(samples)
        seed = self.seeds[number]
        return dataset.augmented_batch(samples, self.augmentation, seed=seed, epoch=epoch)

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets.values())
