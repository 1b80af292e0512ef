"""Batches of session graphs, in an order that is a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler
from torch_geometric.data import Batch

from graphseq.data.dataset import SessionGraphDataset

BUCKET_BATCHES = 50
"""Batches among which samples are exchanged to make batches of like length."""


Step = TypeVar("Step")


class EpochSampler(Sampler[Step]):
    """What each step of an epoch holds: a function of seed and epoch, readable from any step on.

    Attributes:
        seed: Seed of the order.
        epoch: The epoch that comes next.
        first_step: The step of it that comes next.
    """

    def __init__(self, seed: int, rank: int | None, world_size: int | None) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if world_size is None:
            world_size = torch.distributed.get_world_size() if distributed else 1
        if rank is None:
            rank = torch.distributed.get_rank() if distributed else 0
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in 0..{world_size - 1}, got {rank}.")
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first_step = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Steps of an epoch."""
        raise AttributeError(f"{type(self).__name__} does not tell how many steps it has.")


class SessionBatchSampler(EpochSampler[NDArray[np.int64]]):
    """Sample numbers of each batch of one rank; ranks share every epoch without overlap.

    Each sample comes once an epoch, and every rank gets the same number of steps: the samples that
    are left over at the end are spread over all ranks (with ``batch_size=1``, where they may be too
    few for a step of their own, the last step takes them in).

    Args:
        size: Number of samples, or the length of each, int [num_samples], as ``bucket`` needs.
        batch_size: Samples in a batch of one rank.
        shuffle: Whether the order differs from epoch to epoch.
        seed: Seed of that order.
        bucket: Whether batches hold samples of like length.
        rank, world_size: This process among how many; by default those of ``torch.distributed``.

    Raises:
        ValueError: If a number is out of range, or there are fewer samples than ranks.
    """

    def __init__(
        self,
        size: int | NDArray[np.int64],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        bucket: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(seed, rank, world_size)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if bucket and isinstance(size, int):
            raise ValueError("bucket=True needs the length of every sample, not only their number.")
        self.lengths = None if isinstance(size, int) else size
        self.num_samples = size if isinstance(size, int) else len(size)
        if self.num_samples < self.world_size:
            raise ValueError(
                f"{self.num_samples} samples cannot be shared by {self.world_size} ranks: use "
                "fewer."
            )
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.bucket = bucket

    def __len__(self) -> int:
        steps = -(-self.num_samples // (self.batch_size * self.world_size))
        return min(steps, self.num_samples // self.world_size)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        order = self._order()
        steps = self._bounds()  # [num_steps + 1] of the global batches
        if self.bucket and self.shuffle:
            generator = np.random.default_rng((self.seed, self.epoch, 1))
            sequence = generator.permutation(len(self))
        else:
            sequence = np.arange(len(self))
        for step in sequence[self.first_step :]:
            start, size = steps[step], steps[step + 1] - steps[step]
            low = start + size * self.rank // self.world_size
            high = start + size * (self.rank + 1) // self.world_size
            yield order[low:high]

    def _order(self) -> NDArray[np.int64]:
        if not self.shuffle:
            if self.bucket and self.lengths is not None:
                return np.argsort(self.lengths, kind="stable")
            return np.arange(self.num_samples)
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(self.num_samples)
        if self.bucket and self.lengths is not None:
            chunk = np.arange(self.num_samples) // (
                BUCKET_BATCHES * self.batch_size * self.world_size
            )
            order = order[np.lexsort((self.lengths[order], chunk))]
        return order

    def _bounds(self) -> NDArray[np.int64]:
        whole = self.batch_size * self.world_size
        bounds = np.minimum(np.arange(len(self) + 1) * whole, self.num_samples)
        bounds[-1] = self.num_samples
        if len(self) > 1 and bounds[-1] - bounds[-2] < self.world_size:
            # A last batch too small to give every rank a sample takes some from the one before.
            bounds[-2] = bounds[-1] - self.world_size
        return bounds


class EpochLoader(DataLoader[Batch]):
    """A torch :class:`~torch.utils.data.DataLoader` over the steps of a sampler.

    Every pass over the loader is one epoch, whose order depends on seed and epoch alone.
    :meth:`state_dict` and :meth:`load_state_dict` save and restore the position within an epoch.

    Args:
        dataset: The session graphs.
        steps: What torch's loader reads, step by step: a batch for each element of the sampler.
        sampler: The steps of an epoch.
        **kwargs: Further arguments of torch's loader: ``num_workers``, ``pin_memory``, ...
    """

    def __init__(
        self,
        dataset: SessionGraphDataset,
        steps: torch.utils.data.Dataset[Batch],
        sampler: EpochSampler[Any],
        **kwargs: Any,
    ) -> None:
        self.graphs = dataset
        self.sampler_of_batches = sampler
        self._step = 0
        super().__init__(steps, sampler=sampler, batch_size=None, collate_fn=_as_it_is, **kwargs)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        sampler = self.sampler_of_batches
        self._step = sampler.first_step
        for batch in super().__iter__():
            self._step += 1
            if self._step == len(self):
                # Now, since a reader that counts may never ask for the end.
                sampler.first_step = self._step = 0
                sampler.epoch += 1
            yield batch

    def __len__(self) -> int:
        return len(self.sampler_of_batches)

    def state_dict(self) -> dict[str, int]:
        """The position: batches of this epoch that were handed out."""
        sampler = self.sampler_of_batches
        return {"seed": sampler.seed, "epoch": sampler.epoch, "step": self._step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on after the batch at which ``state`` was taken.

        Raises:
            ValueError: If the state is of another seed, or its step lies beyond the epoch.
        """
        sampler = self.sampler_of_batches
        if state["seed"] != sampler.seed:
            raise ValueError(
                f"The position belongs to seed {state['seed']}, the loader has seed {sampler.seed}."
            )
        if not 0 <= state["step"] < len(self):
            raise ValueError(
                f"Step {state['step']} lies outside this epoch of {len(self)} batches: the data or "
                "the batch size differ."
            )
        sampler.epoch, sampler.first_step = state["epoch"], state["step"]
        self._step = state["step"]


class SessionGraphLoader(EpochLoader):
    """An :class:`EpochLoader` of session graphs whose batches are built at once.

    Args:
        dataset: The session graphs.
        batch_size: Graphs in a batch.
        shuffle, seed, bucket, rank, world_size: As in :class:`SessionBatchSampler`.
        **kwargs: Further arguments of torch's loader: ``num_workers``, ``pin_memory``, ...

    Raises:
        ValueError: As :class:`SessionBatchSampler`.
    """

    def __init__(
        self,
        dataset: SessionGraphDataset,
        batch_size: int = 512,
        *,
        shuffle: bool = False,
        seed: int = 0,
        bucket: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        sampler = SessionBatchSampler(
            dataset.num_clicks() if bucket else len(dataset),
            batch_size,
            shuffle=shuffle,
            seed=seed,
            bucket=bucket,
            rank=rank,
            world_size=world_size,
        )
        super().__init__(dataset, _WholeBatches(dataset), sampler, **kwargs)


class _WholeBatches(torch.utils.data.Dataset[Batch]):
    """The dataset as torch's loader sees it: one element is the batch of many samples."""

    def __init__(self, graphs: SessionGraphDataset) -> None:
        self.graphs = graphs

    def __getitem__(self, index: NDArray[np.int64]) -> Batch:
        return self.graphs.batch(index)

    def __len__(self) -> int:
        return len(self.graphs)


def _as_it_is(batch: Batch) -> Batch:
    return batch
