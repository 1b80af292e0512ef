"""How many processes train together, where each runs, and how Lightning starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from torch import Tensor

from graphseq.arguments import check_sizes
from graphseq.training.lightning.collectives import Collectives

ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}
"""Lightning's names of kinds of devices by torch's."""


class RowSparseDDP(DDPStrategy):
    """Lightning's strategy of one process per device, for row-sparse gradients.

    torch's wrapper of the model would send whole tables where a step touches a few rows. It would
    also wait for gradients of a process that has no session of a small batch. Here the rows travel
    (:meth:`~graphseq.training.lightning.collectives.Collectives.add_gradients`), after the last
    batch of an update. As with the wrapper, the gradient is the mean over processes.
    """

    _blocked = False

    def configure_ddp(self) -> None:
        """Leaves the model as it is."""

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """A block in which gradients are not exchanged: more batches of the update follow."""
        self._blocked = True
        try:
            yield
        finally:
            self._blocked = False

    def post_backward(self, closure_loss: Tensor) -> None:
        if not self._blocked:
            module: Any = self.lightning_module
            parameters = [p for p in module.parameters() if p.requires_grad]
            Collectives().add_gradients(parameters)
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self.world_size)


def check_strategy(strategy: object) -> None:
    """Refuses strategies that cannot train a session model.

    torch's wrapper waits for gradients of every process, and one may have no session of a small
    batch; strategies that split the model leave no process the whole item table.

    Args:
        strategy: One of Lightning's, or its name.

    Raises:
        ValueError: If it is neither of one device nor :class:`RowSparseDDP`.
    """
    if strategy != "auto" and not isinstance(strategy, (RowSparseDDP, SingleDeviceStrategy)):
        name = strategy if isinstance(strategy, str) else type(strategy).__name__
        raise ValueError(
            f"The strategy {name!r} cannot train a session model on several devices: use "
            "fit(..., devices=2), or strategy=gs.training.RowSparseDDP() for a trainer of your own."
        )


@dataclass(frozen=True)
class LaunchConfig:
    """The processes of a training.

    Args:
        accelerator: Lightning's name of the kind of device.
        devices: Processes on this machine, each with a device, or the numbers of the devices.
        num_nodes: Machines.
        rank: This process, from 0, as far as it is known before processes meet.
    """

    accelerator: str
    devices: int | list[int]
    num_nodes: int = 1
    rank: int = 0

    @property
    def size(self) -> int:
        """Processes in all."""
        here = self.devices if isinstance(self.devices, int) else len(self.devices)
        return here * self.num_nodes

    @property
    def strategy(self) -> Strategy | str:
        """What Lightning takes."""
        return RowSparseDDP() if self.size > 1 else "auto"

    @classmethod
    def from_arguments(
        cls, device: str | torch.device, devices: int | None = None, num_nodes: int | None = None
    ) -> LaunchConfig:
        """The processes that the caller asks for, or that torchrun has started.

        Args:
            device: As :func:`~graphseq.training.fit.fit` takes it.
            devices: Processes per machine; ``None``: the processes of torchrun, or one.
            num_nodes: Machines; ``None``: the machines of torchrun, or one.

        Raises:
            ValueError: If a device is missing, the numbers do not match the processes that torchrun
                has started, or the address of other machines is not given.
        """
        check_sizes(devices=devices, num_nodes=num_nodes)
        accelerator, number = one_device(device)
        started = int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1
        if started > 1:
            here = int(os.environ.get("LOCAL_WORLD_SIZE", 0)) or started // (num_nodes or 1)
            here = here if devices is None else devices
            nodes = max(1, started // here) if num_nodes is None else num_nodes
            if here * nodes != started:
                raise ValueError(
                    f"{started} processes were started, but devices={here} and num_nodes={nodes} "
                    f"ask for {here * nodes}: leave both out where torchrun starts them."
                )
        else:
            here, nodes = devices or 1, num_nodes or 1
            if nodes > 1 and "MASTER_ADDR" not in os.environ:  # they would wait for half an hour
                raise ValueError(
                    f"num_nodes={nodes}, but this machine does not know the others: start the "
                    "script by torchrun on each, or set MASTER_ADDR, MASTER_PORT and NODE_RANK."
                )
        if here > 1:
            _check_number(accelerator, here, device)
        local = int(os.environ.get("LOCAL_RANK", 0))
        rank = int(os.environ.get("RANK", int(os.environ.get("NODE_RANK", 0)) * here + local))
        chosen: int | list[int] = here
        if here == 1 and number is not None:
            chosen = [number]
        return cls(accelerator, chosen, nodes, rank if here * nodes > 1 else 0)


def one_device(device: str | torch.device) -> tuple[str, int | None]:
    """Lightning's name of the kind of a device, and its number, if one is asked for.

    Args:
        device: As :func:`~graphseq.training.fit.fit` takes it.

    Raises:
        ValueError: If there is no such kind of device, or none here.
    """
    if isinstance(device, str) and device == "auto":
        return "auto", None
    try:
        kind = torch.device(device) if isinstance(device, (str, torch.device)) else None
    except RuntimeError:
        kind = None
    accelerator = None if kind is None else ACCELERATORS.get(kind.type)
    if kind is None or accelerator is None:
        raise ValueError(
            f"device is 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto', got {device!r}"
            f"{': ' + repr('cuda') + ' is a GPU' if str(device).startswith('gpu') else ''}."
        )
    if kind.type == "cpu":
        return "cpu", None
    there = torch.cuda.device_count() if kind.type == "cuda" else 0
    if kind.type == "mps":
        there = int(torch.backends.mps.is_available())
    if (kind.index or 0) >= there:
        raise ValueError(
            f"Device {str(device)!r} is not there, this machine has {there} of {kind.type!r}: use "
            "device='cpu' or 'auto'."
        )
    return accelerator, kind.index


def _check_number(accelerator: str, number: int, device: Any) -> None:
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    kinds = {"gpu": ("GPUs", torch.cuda.device_count()), "cpu": ("cores", os.cpu_count() or 1)}
    kind, there = kinds.get(accelerator, (f"devices of {device}", 1))
    if number > there:
        raise ValueError(
            f"devices={number} needs as many {kind} on this machine, here are {there}: ask for "
            "fewer."
        )
    if device != "auto" and torch.device(device).index is not None:
        raise ValueError(
            f"devices={number} takes the first {number} of this machine, but device is {device}: "
            "leave out its number."
        )
