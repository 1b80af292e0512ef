"""Makes any loader of batches resume from any step of any epoch, as Lightning asks for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from graphseq.data.loading.loader import EpochLoader, end_workers
from graphseq.random import seed_of


@contextmanager
def worker_errors_named(epoch: Callable[[], int]) -> Iterator[None]:
    """Says what to do where a process that builds batches dies.

    torch raises that error wherever the main process is, also in the middle of a step.

    Args:
        epoch: Gives the epoch, from 0.

    Raises:
        RuntimeError: If one has died.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise RuntimeError(
            f"A process that builds batches died in epoch {epoch() + 1} ({error!r}). It may have "
            "run out of memory: use fewer num_workers or smaller batches. Training resumes from "
            "the last checkpoint with resume=True."
        ) from error


class ResumableLoader:
    """A loader with the ``state_dict`` that Lightning asks for.

    Our own loaders start at any step without building the batches before it; batches of any other
    loader are built and thrown away. What such a loader draws from torch's random state is also a
    function of seed, epoch and step, unless it draws in its own worker processes. All threads share
    that state, so that two trainings at the same time disturb such loaders.

    It is not a ``DataLoader``: Lightning would replace its sampler where several
    processes train.

    Args:
        loader: Batches, by a loader or in a list.
        seed: Seed of what a foreign loader draws.
        trained: Counts the batches of this epoch that were trained. An error may leave one that was
            handed out and not trained.
    """

    def __init__(self, loader: Iterable[Batch], seed: int, trained: Callable[[], int]) -> None:
        self.loader = loader
        self.seed = seed
        self.trained = trained
        self.epoch = self.first_step = 0
        self._batches: Iterator[Batch] | None = None  # the pass that is being read

    @property
    def sampler(self) -> ResumableLoader:
        """Where Lightning looks for :meth:`set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the pass that comes next."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """The position, between two batches."""
        return {"epoch": self.epoch, "step": self.trained()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Lets the next pass begin after the batches that were trained."""
        self.epoch, self.first_step = state["epoch"], state["step"]

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]  # a TypeError: unknown

    def __iter__(self) -> Iterator[Batch]:
        own, first, self.first_step = isinstance(self.loader, EpochLoader), self.first_step, 0
        if own and first == len(self):
            return
        self._begin(first)
        self._batches = batches = iter(self.loader)
        for number in itertools.count():
            if not own:
                torch.manual_seed(seed_of("foreign_loader", self.seed, self.epoch, number))
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (OSError, EOFError) as error:  # a worker died while it sent a batch
                if not getattr(self.loader, "num_workers", 0):
                    raise
                raise RuntimeError(f"DataLoader worker sent no batch: {error!r}") from error
            if own or number >= first:
                yield batch

    def _begin(self, step: int) -> None:
        """Tells the loader and its samplers which epoch comes, where they want to know."""
        loader: Any = self.loader
        batches = getattr(loader, "batch_sampler", None)
        for each in (getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None)):
            if callable(set_epoch := getattr(each, "set_epoch", None)):
                set_epoch(self.epoch)
        if not isinstance(loader, EpochLoader):
            torch.manual_seed(seed_of("foreign_loader", self.seed, self.epoch))
            return
        loader.sampler_of_batches.first_step = step
        if loader.generator is not None:  # what workers of your own augmentations draw by
            loader.generator.manual_seed(seed_of("workers", self.seed, self.epoch))

    def close(self) -> None:
        """Ends the processes that build batches, if there are any."""
        batches, self._batches = self._batches, None
        if isinstance(batches, Generator):
            batches.close()
        end_workers(batches)
        if isinstance(self.loader, DataLoader):
            end_workers(self.loader._iterator)  # those that persist from epoch to epoch
            self.loader._iterator = None
