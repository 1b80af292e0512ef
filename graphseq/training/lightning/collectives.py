"""Processes that train one model together: who they are, and what they exchange."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from graphseq.data.loading.samplers import EpochSampler
from graphseq.data.sessions.sessions import Sessions

SMALL = 2**20
"""Gradients of up to this many numbers travel together, larger ones alone."""

NONE, SPARSE, DENSE = 0, 1, 2
"""What gradient a parameter has on a rank."""


class Collectives:
    """This process among the processes that train together; alone, nothing is exchanged.

    All ranks call every method in the same order. Results are the same on
    all of them, bit by bit, except what distinguishes the ranks.

    Args:
        rank, size: This process, from 0, and the number of processes; by default as
            ``torch.distributed`` has them.
    """

    def __init__(self, rank: int | None = None, size: int | None = None) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.size = (dist.get_world_size() if together else 1) if size is None else size
        self.rank = (dist.get_rank() if together else 0) if rank is None else rank

    @property
    def are_several(self) -> bool:
        return self.size > 1

    def numbers(self, number: int, device: torch.device | None = None) -> list[int]:
        """The number that each rank gives, in their order."""
        if self.size == 1:
            return [number]
        given = torch.zeros(self.size, dtype=torch.long, device=device)
        given[self.rank] = number
        dist.all_reduce(given)
        numbers: list[int] = given.tolist()
        return numbers

    def before(self, number: int, device: torch.device | None = None) -> int:
        """The sum of the numbers that the ranks before this one give."""
        return sum(self.numbers(number, device)[: self.rank])

    def any(self, flag: bool) -> bool:
        """Whether the flag of some rank is set."""
        return any(self.numbers(int(flag)))

    def summed(self, values: Tensor) -> Tensor:
        """The sum over ranks."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def gathered(self, values: Tensor) -> Tensor:
        """The rows of all ranks, in the order of ranks; ranks may have different numbers of rows.

        Args:
            values: [n, ...], of one type and width on all ranks.
        """
        if self.size == 1:
            return values
        counts = self.numbers(len(values), values.device)
        padded = values.new_zeros(max(counts), *values.shape[1:])
        padded[: len(values)] = values
        everyone = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(everyone, padded)
        return torch.cat([part[:n] for part, n in zip(everyone, counts, strict=True)])

    @torch.no_grad()
    def from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites tensors with the tensors of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.data, 0)

    @torch.no_grad()
    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Makes the gradient of every parameter the sum over ranks.

        Of row-sparse gradients the rows and their values travel, never the table. A rank without a
        gradient gives zeros; a parameter without one on any rank is left without.

        Args:
            parameters: The same on all ranks, in the same order.
        """
        if self.size == 1:
            return
        device = parameters[0].device
        kinds = torch.tensor([_kind(p) for p in parameters], device=device)
        dist.all_reduce(kinds, dist.ReduceOp.MAX)
        bucket: list[Tensor] = []
        for parameter, kind in zip(parameters, kinds.tolist(), strict=True):
            if kind == SPARSE:
                self._add_rows(parameter)
            elif kind == DENSE:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                elif parameter.grad.is_sparse:
                    parameter.grad = parameter.grad.to_dense()
                if parameter.numel() > SMALL:
                    parameter.grad = parameter.grad.contiguous()
                    dist.all_reduce(parameter.grad)
                else:
                    bucket.append(parameter)
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for parameter in bucket:
            by_type.setdefault(parameter.dtype, []).append(parameter)
        for some in by_type.values():
            flat = torch.cat([_gradient(p).reshape(-1) for p in some])
            dist.all_reduce(flat)
            parts = flat.split([p.numel() for p in some])
            for parameter, part in zip(some, parts, strict=True):
                parameter.grad = part.view_as(parameter)

    def _add_rows(self, parameter: Tensor) -> None:
        width = parameter.shape[1:]
        if parameter.grad is None:
            rows = torch.empty(0, dtype=torch.long, device=parameter.device)
            values = parameter.new_empty(0, *width)
        else:
            gradient = parameter.grad.coalesce()
            rows, values = gradient.indices()[0], gradient.values()  # [n], [n, d]
        rows, values = self.gathered(rows), self.gathered(values)
        index = rows.unsqueeze(0)
        gradient = torch.sparse_coo_tensor(
            index, values, parameter.shape, check_invariants=False, is_coalesced=False
        )
        parameter.grad = gradient.coalesce()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.rank} of {self.size})"


SINGLE_PROCESS = Collectives(0, 1)
"""One process that trains by itself."""


class ShareOfBatches(EpochSampler[NDArray[np.int64]]):
    """One rank's part of each batch that a single process would have.

    All ranks together then read each sample once per epoch, in the same batches as one process; a
    rank may have no sample of a small batch.

    Args:
        batches: The sampler of a single process, with the batch size of all ranks together.
        collectives: This process among them.
    """

    def __init__(self, batches: EpochSampler[NDArray[np.int64]], collectives: Collectives) -> None:
        super().__init__(batches.seed, collectives.rank, collectives.size)
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        self.batches.epoch, self.batches.first_step = self.epoch, self.first_step
        for samples in self.batches:
            low = len(samples) * self.rank // self.world_size
            high = len(samples) * (self.rank + 1) // self.world_size
            yield samples[low:high]


def share_of(sessions: Sessions, collectives: Collectives) -> Sessions:
    """The sessions that one rank ranks: consecutive ones, with about the same clicks as others."""
    if not collectives.are_several:
        return sessions
    shares = np.arange(collectives.size + 1) * sessions.num_clicks / collectives.size
    bounds = np.searchsorted(sessions.ptr, shares)
    bounds[-1] = sessions.num_sessions
    return sessions.select(np.arange(bounds[collectives.rank], bounds[collectives.rank + 1]))


def _kind(parameter: Tensor) -> int:
    if parameter.grad is None:
        return NONE
    return SPARSE if parameter.grad.is_sparse else DENSE


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
