"""Batches for the training loop: from any step of an epoch on, and with a watch on the waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from graphseq.data.loading.loader import EpochLoader, end_workers
from graphseq.random import seed_of


class Feed:
    """A loader as the training loop reads it.

    Our own loaders start at any step without building the batches before it; of any other loader
    they are built and thrown away. Whatever such a loader draws from torch's random state is a
    function of seed, epoch and step as well, unless it draws in worker processes of its own; that
    state is one for all threads, so that two trainings at the same time disturb such loaders.

    Args:
        loader: Batches, by a loader or in a list.
        seed: Seed of what a foreign loader draws.
        position: Says epoch and step of the batch that comes next; called as a pass starts.

    Attributes:
        seconds: Time that the loop has waited for batches so far.
    """

    def __init__(
        self, loader: Iterable[Batch], seed: int, position: Callable[[], tuple[int, int]]
    ) -> None:
        self.loader = loader
        self.seed = seed
        self.position = position
        self.seconds = 0.0
        self._batches: Iterator[Batch] | None = None  # the pass that is being read

    @property
    def is_own(self) -> bool:
        """Whether the loader is one of this package, which draws nothing from torch's state."""
        return isinstance(self.loader, EpochLoader)

    def close(self) -> None:
        """Ends the processes that build batches, if there are any."""
        batches, self._batches = self._batches, None
        if isinstance(batches, Generator):
            batches.close()
        end_workers(batches)
        if isinstance(self.loader, DataLoader):
            end_workers(self.loader._iterator)  # those that persist from epoch to epoch
            self.loader._iterator = None

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]  # a TypeError says that there is none

    @property
    def num_steps(self) -> int | None:
        """Batches of an epoch, if the loader tells."""
        try:
            return len(self)
        except TypeError:
            return None

    @property
    def _has_workers(self) -> bool:
        return getattr(self.loader, "num_workers", 0) > 0

    def __iter__(self) -> Iterator[Batch]:
        epoch, step = self.position()
        own = self.is_own
        _set_epoch(self.loader, epoch)
        if isinstance(self.loader, EpochLoader):
            self.loader.sampler_of_batches.first_step = step
            if self.loader.generator is not None:  # what workers of their own augmentations draw by
                self.loader.generator.manual_seed(seed_of("workers", self.seed, epoch))
            if step == len(self.loader):
                self.loader.sampler_of_batches.first_step = 0
                return
        else:
            torch.manual_seed(seed_of("foreign_loader", self.seed, epoch))
        batches, skipped = iter(self.loader), 0
        self._batches = batches
        while True:
            start = time.perf_counter()
            if not own:
                torch.manual_seed(seed_of("foreign_loader", self.seed, epoch, skipped))
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                told = "DataLoader worker" in str(error)
                if not told and not (isinstance(error, (OSError, EOFError)) and self._has_workers):
                    raise
                raise RuntimeError(
                    f"A process that builds batches died in epoch {epoch + 1} ({error!r}). It may "
                    "have run out of memory: use fewer num_workers or smaller batches. Training "
                    "goes on from the last checkpoint with resume=True."
                ) from error
            finally:
                self.seconds += time.perf_counter() - start
            skipped += 1
            if own or skipped > step:
                yield batch


def _set_epoch(loader: Any, epoch: int) -> None:
    """Tells samplers which epoch comes, where they want to know."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    for sampler in (
        getattr(loader, "sampler", None),
        batch_sampler,
        getattr(batch_sampler, "sampler", None),
    ):
        set_epoch = getattr(sampler, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)
