"""Random numbers of a training: functions of seed, epoch and step, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.dropout import _DropoutNd

from graphseq.nn.chance import drawing_from
from graphseq.random import seed_of
from graphseq.training.lightning.shared import Shared


def asks_torch(modules: Iterable[torch.nn.Module]) -> bool:
    """Whether some module may draw from torch's own generator, which all threads share.

    Modules of this package never do on a CPU, nor do modules of torch and PyG without dropout; for
    a custom module it is unknown.

    Args:
        modules: Modules, each of which is read with all its parts.
    """
    return any(_may_draw(part) for module in modules for part in module.modules())


def _may_draw(module: torch.nn.Module) -> bool:
    home = type(module).__module__.partition(".")[0]
    if home in ("torch", "torch_geometric"):
        own = (_DropoutNd, torch.nn.RReLU)
        return isinstance(module, own) or bool(getattr(module, "dropout", 0.0))
    return home != "graphseq"


def seed_step(seed: int, epoch: int, step: int, rank: int = 0) -> int:
    """The seed of a step's dropout: a function of seed, epoch, step and process."""
    return seed_of("dropout", seed, epoch, step, rank)


@contextmanager
def draws_of(state: int, device: torch.device, *, from_torch: bool) -> Iterator[None]:
    """A block whose random numbers follow from a seed: dropout's, and what torch draws.

    Args:
        state: The seed.
        device: Where values are.
        from_torch: Whether torch's own generator may be asked (:func:`asks_torch`).
    """
    foreign = seed_of("foreign_modules", state)
    if from_torch:
        torch.manual_seed(foreign)
    elif device.type == "cuda":  # torch's fused attention has no other generator
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(foreign)
    with drawing_from(torch.Generator(device).manual_seed(state)):
        yield


@contextmanager
def _callers_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield


callers_state = Shared(_callers_state)
"""A block after which torch's own random state is restored; of overlapping blocks, by the last."""
