"""Batches of session graphs, in an order that depends only on seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler
from torch_geometric.data import Batch

from graphseq.data.graphs.augment import Augmentation
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import select_fields
from graphseq.data.loading.samplers import ClickBatchSampler, EpochSampler, SessionBatchSampler


class EpochLoader(DataLoader[Batch]):
    """A torch :class:`~torch.utils.data.DataLoader` over the steps of a sampler.

    Every pass over the loader is one epoch, whose order depends only on seed and epoch.
    :meth:`state_dict` and :meth:`load_state_dict` save and restore the position within an epoch.

    Args:
        dataset: The session graphs.
        steps: The dataset for torch's loader, with one batch per element of the sampler.
        sampler: The steps of an epoch.
        with_epoch: Whether ``steps`` is indexed by epoch and element, ``steps[epoch, element]``.
        follow_batch, exclude_keys: As in PyG's loader. The first adds ``<name>_batch`` and
            ``<name>_ptr`` for these fields; the second are fields that batches leave out.
        **kwargs: Further arguments of torch's loader: ``num_workers``, ``pin_memory``, ...
    """

    def __init__(
        self,
        dataset: SessionGraphDataset,
        steps: torch.utils.data.Dataset[Batch],
        sampler: EpochSampler[Any],
        *,
        with_epoch: bool = False,
        follow_batch: Sequence[str] | None = None,
        exclude_keys: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        for name, keys in (("follow_batch", follow_batch), ("exclude_keys", exclude_keys)):
            if isinstance(keys, str):
                raise ValueError(f"{name} is a list of names, got {keys!r}: pass [{keys!r}].")
        if "collate_fn" in kwargs or "batch_sampler" in kwargs:
            raise ValueError(
                f"{type(self).__name__} builds whole batches in its own order: "
                "torch_geometric.loader.DataLoader(dataset, ...) takes samplers and collate_fn."
            )
        as_read: Any = _as_it_is
        if follow_batch or exclude_keys:
            as_read = partial(
                select_fields, follow_batch=follow_batch or (), exclude_keys=exclude_keys or ()
            )
        self.graphs = dataset
        self.sampler_of_batches = sampler
        self._step = 0
        read = _StepsOfEpoch(sampler) if with_epoch else sampler
        # torch's loader draws a seed for its workers; it must not use the state shared by all
        # threads.
        kwargs.setdefault("generator", torch.Generator())
        super().__init__(steps, sampler=read, batch_size=None, collate_fn=as_read, **kwargs)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        sampler = self.sampler_of_batches
        self._step = sampler.first_step
        batches = super().__iter__()
        try:
            for batch in batches:
                self._step += 1
                if self._step == len(self):
                    # Done here, since a caller that counts steps may never reach the end.
                    sampler.first_step = self._step = 0
                    sampler.epoch += 1
                yield batch
        finally:
            if not self.persistent_workers:
                end_workers(batches)

    def __len__(self) -> int:
        return len(self.sampler_of_batches)

    def state_dict(self) -> dict[str, int]:
        """The position: the number of batches of this epoch that were returned."""
        sampler = self.sampler_of_batches
        return {"seed": sampler.seed, "epoch": sampler.epoch, "step": self._step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resumes after the batch at which ``state`` was taken.

        Raises:
            ValueError: If the state has another seed, or its step is beyond the epoch.
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
    """An :class:`EpochLoader` of session graphs that builds whole batches at once.

    Args:
        dataset: The session graphs.
        batch_size: Graphs per batch.
        max_clicks: Maximum number of clicks per batch, instead of ``batch_size``. Batches then hold
            samples of similar length: many short ones or few long ones; see
            :class:`ClickBatchSampler`.
        shuffle, seed, bucket, num_steps, rank, world_size: As in :class:`SessionBatchSampler`.
        augmentation: Changes the clicks of samples, differently in every epoch
            (:meth:`SessionGraphDataset.augmented_batch`); batches are made by the lengths before
            the change.
        **kwargs: ``follow_batch`` and ``exclude_keys``, as in PyG's loader, and further arguments
            of torch's: ``num_workers``, ``pin_memory``, ...

    Raises:
        ValueError: As :class:`SessionBatchSampler` and :class:`ClickBatchSampler`.
    """

    def __init__(
        self,
        dataset: SessionGraphDataset,
        batch_size: int = 512,
        *,
        max_clicks: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        bucket: bool = False,
        num_steps: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        augmentation: Augmentation | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(dataset, SessionGraphDataset):
            raise ValueError(
                f"dataset must be a SessionGraphDataset, got {type(dataset).__name__}: "
                "gs.SessionGraphDataset(sessions) makes one of gs.Sessions."
            )
        sampler: EpochSampler[NDArray[np.int64]]
        options: dict[str, Any] = {
            "shuffle": shuffle,
            "seed": seed,
            "rank": rank,
            "world_size": world_size,
        }
        if max_clicks is not None:
            if num_steps is not None:
                raise ValueError("num_steps is of batches by samples: max_clicks makes its own.")
            sampler = ClickBatchSampler(dataset.num_clicks(), max_clicks, **options)
        else:
            sampler = SessionBatchSampler(
                len(dataset),
                batch_size,
                bucket=bucket,
                lengths=dataset.num_clicks,
                num_steps=num_steps,
                **options,
            )
        steps: torch.utils.data.Dataset[Batch] = _WholeBatches(dataset)
        if augmentation is not None:
            steps = _AugmentedBatches(dataset, augmentation, seed)
        super().__init__(dataset, steps, sampler, with_epoch=augmentation is not None, **kwargs)


class _StepsOfEpoch(Sampler[tuple[int, Any]]):
    """The steps of a sampler with their epoch, which workers do not know."""

    def __init__(self, sampler: EpochSampler[Any]) -> None:
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        epoch = self.sampler.epoch
        return ((epoch, step) for step in self.sampler)


class _AugmentedBatches(torch.utils.data.Dataset[Batch]):
    """The dataset with augmented clicks: one element is the batch of many samples in an epoch."""

    def __init__(self, graphs: SessionGraphDataset, augmentation: Augmentation, seed: int) -> None:
        self.graphs = graphs
        self.augmentation = augmentation
        self.seed = seed

    def __getitem__(self, step: tuple[int, NDArray[np.int64]]) -> Batch:
        epoch, index = step
        return self.graphs.augmented_batch(index, self.augmentation, seed=self.seed, epoch=epoch)

    def __len__(self) -> int:
        return len(self.graphs)


class _WholeBatches(torch.utils.data.Dataset[Batch]):
    """The dataset for torch's loader: one element is the batch of many samples."""

    def __init__(self, graphs: SessionGraphDataset) -> None:
        self.graphs = graphs

    def __getitem__(self, index: NDArray[np.int64]) -> Batch:
        return self.graphs.batch(index)

    def __len__(self) -> int:
        return len(self.graphs)


def end_workers(batches: Any) -> None:
    """Ends the worker processes of a pass over torch's loader, which otherwise live as long as its
    object.

    A stored exception would keep that object alive.

    Args:
        batches: The iterator of the loader; anything else is ignored.
    """
    end = getattr(batches, "_shutdown_workers", None)
    if callable(end):
        end()


def _as_it_is(batch: Batch) -> Batch:
    return batch
