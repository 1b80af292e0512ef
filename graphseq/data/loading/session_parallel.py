"""Session-parallel batches: lanes that read sessions click by click."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Batch

from graphseq.arguments import flag, whole
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.loading.loader import EpochLoader
from graphseq.data.loading.samplers import EpochSampler, shuffle_within_length
from graphseq.random import stream

SessionParallelStep = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""For each active lane of a step: its sample, its position in it, its number; int64 [n] each."""


def lane_schedule(
    lengths: NDArray[np.int64], num_lanes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The start step and the lane of each session, with one click per step.

    The next session in order goes to the first free lane; of several, to the lane with the lowest
    number. At the end, when no session is left, lanes become inactive.

    Args:
        lengths: Clicks of each session, in order, at least 1, int64 [num_sessions].
        num_lanes: Number of parallel lanes.

    Returns:
        The step at which each session starts, in ascending order, and its lane, int64
        [num_sessions].
    """
    start, lane = np.zeros_like(lengths), np.zeros_like(lengths)
    given = min(num_lanes, len(lengths))
    lane[:given] = np.arange(given)
    free_at = lengths[:given].copy()  # [num_lanes]
    while given < len(lengths):  # one pass for each step in which a session ends, all lanes at once
        now = free_at.min()
        free = np.flatnonzero(free_at == now)[: len(lengths) - given]
        stop = given + len(free)
        start[given:stop], lane[given:stop] = now, free
        free_at[free] = now + lengths[given:stop]
        given = stop
    return start, lane


class SessionParallelSampler(EpochSampler[SessionParallelStep]):
    """The steps of session-parallel mini-batches (Hidasi et al., ICLR 2016, section 3.1.1).

    Every click of every sample occurs once per epoch; clicks of a sample are in order and in one
    lane. Shuffled epochs put other samples of the same length into the same places, so that all
    epochs have the same number of steps. The order of lengths depends on the seed. Ranks divide the
    lanes. In the last steps a rank may have no lane left, and its batch is then empty.

    Args:
        lengths: Clicks of each sample, int64 [num_samples].
        num_lanes: Lanes of one rank.
        shuffle: Whether the order is random and differs from epoch to epoch; else it is the order
            of the samples, as in the authors' code.
        seed: Seed of that order.
        rank, world_size: This process among how many; by default those of ``torch.distributed``.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        num_lanes: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(seed, rank, world_size)
        self.num_lanes = num_lanes = whole("num_lanes", num_lanes)
        self.shuffle = flag("shuffle", shuffle)
        self._lengths = lengths
        order = np.arange(len(lengths))
        if shuffle:
            order = stream("layout", seed).permutation(len(lengths))
        in_order = lengths[order]
        self._start, self._lane = lane_schedule(in_order, num_lanes * self.world_size)
        self._stop = self._start + in_order
        # Places of the schedule by length: an epoch assigns samples of that length to them.
        self._by_length = np.argsort(in_order, kind="stable")

    def __len__(self) -> int:
        return int(self._stop.max(initial=0))

    def __iter__(self) -> Iterator[SessionParallelStep]:
        order = np.arange(len(self._lengths))  # the sample at each place
        if self.shuffle:
            order = shuffle_within_length(self._lengths, self._by_length, self.seed, self.epoch)
        start, lane, stop = self._start, self._lane, self._stop
        first, steps = self.first_step, len(self)
        given = np.searchsorted(start, np.arange(first, steps + 1))  # places started before a step
        place = np.zeros(lane.max(initial=-1) + 1, dtype=np.int64)  # of each lane
        place[lane[: given[0]]] = np.arange(given[0])  # of several the last, at which it is
        for step, low, high in zip(range(first, steps), given[:-1], given[1:], strict=True):
            place[lane[low:high]] = np.arange(low, high)
            at_work = np.flatnonzero(stop[place] > step)
            at_work = at_work[at_work % self.world_size == self.rank]
            at = place[at_work]
            yield order[at], step - start[at], at_work // self.world_size


class SessionParallelLoader(EpochLoader):
    """Session-parallel batches of GRU4Rec (Hidasi et al., ICLR 2016): one click per lane and step.

    A batch holds views of one click each (:meth:`SessionGraphDataset.click_views`), with ``y``, the
    click that follows. ``lane`` int64 [num_lanes] is the index of the carried state of a view;
    ``starts_session`` bool [num_lanes] is true if that state is zero. ``fit`` takes the loader as
    its data; the model must keep states between steps, as
    :class:`~graphseq.models.sequence.gru4rec.GRU4Rec` does.

    Args:
        dataset: The session graphs, with ``samples="sessions"``.
        num_lanes: Number of sessions read in parallel: the size of a batch.
        shuffle, seed, rank, world_size: As in :class:`SessionParallelSampler`.
        **kwargs: Further arguments of torch's loader: ``num_workers``, ``pin_memory``, ...

    Raises:
        ValueError: As :class:`SessionParallelSampler`, or if the dataset's samples are prefixes.
    """

    def __init__(
        self,
        dataset: SessionGraphDataset,
        num_lanes: int = 64,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        if dataset.samples != "sessions":
            raise ValueError(
                "Lanes walk through whole sessions: pass a SessionGraphDataset with "
                f"samples='sessions', not {dataset.samples!r}."
            )
        sampler = SessionParallelSampler(
            dataset.num_clicks(),
            num_lanes,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        super().__init__(dataset, _LaneViews(dataset), sampler, **kwargs)


class _LaneViews(torch.utils.data.Dataset[Batch]):
    """The dataset for torch's loader: one element is the batch of a step."""

    def __init__(self, graphs: SessionGraphDataset) -> None:
        self.graphs = graphs

    def __getitem__(self, step: SessionParallelStep) -> Batch:
        sample, position, lane = step
        fields = {
            "lane": torch.from_numpy(lane),
            "starts_session": torch.from_numpy(position == 0),
        }
        return self.graphs.click_views(sample, position, fields)
