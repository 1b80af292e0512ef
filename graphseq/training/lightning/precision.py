"""Half precision and compiled methods: what is allowed, and where compiled programs lie."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from graphseq.models.base import SessionModel
from graphseq.training.lightning.shared import Shared

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Lightning's names of what a training may have."""

COMPILERS = ("g++", "clang++", "c++", "cl")
"""What torch.compile makes programs for a CPU with."""

READERS = ("training_rows", "score")
"""Methods of a model that read sessions in a training step."""


def check_hardware(precision: str, accelerator: str, *, compiled: bool) -> None:
    """Refuses a precision or a compilation that the machine cannot do.

    Args:
        precision: As in the settings.
        accelerator: Where the training runs, as Lightning calls it.
        compiled: Whether ``torch.compile`` is to be used.

    Raises:
        ValueError: If the device lacks the precision, or the machine a compiler.
    """
    if precision == "16-mixed" and accelerator == "cpu":
        raise ValueError(
            "precision='16-mixed' scales gradients, which only a GPU can: use 'bf16-mixed' on a "
            "CPU."
        )
    if compiled and accelerator == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise ValueError(
            f"compile=True needs a compiler, and this machine has none of {', '.join(COMPILERS)}: "
            "install one, or train with compile=False."
        )


@contextmanager
def compiled_readers(
    model: SessionModel, device_type: str
) -> Iterator[dict[str, Callable[..., Any]]]:
    """The methods of a model that read sessions, compiled; the model itself stays as it is.

    Args:
        model: A model.
        device_type: ``"cpu"``, ``"cuda"``, ...
    """
    check_hardware("32", device_type, compiled=True)
    with programs_apart():
        # Batches differ in size: one program for all sizes, rather than one for each.
        yield {name: torch.compile(getattr(model, name), dynamic=True) for name in READERS}


@contextmanager
def _programs_apart() -> Iterator[None]:
    # Seconds of imports, for which compile=True alone is to wait.
    from torch._inductor import config
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    from torch._inductor.utils import fresh_cache

    # Torch sets the variable itself when it is imported.
    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR", default_cache_dir()) != default_cache_dir()
    if chosen:
        yield
        return
    # Compiled headers have a folder of their own, which cannot be chosen.
    with fresh_cache(), config.patch(cpp_cache_precompile_headers=False):
        yield


programs_apart = Shared(_programs_apart)
"""A block in which what torch.compile makes lies in a temporary folder, gone at the end.

Where ``TORCHINDUCTOR_CACHE_DIR`` names a folder, it lies there and stays.
"""
