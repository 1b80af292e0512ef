"""How a training is run by Lightning, in which precision, and how its ends are caught."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from graphseq.models.base import SessionModel
from graphseq.training.lightning.checkpoints import Checkpoints
from graphseq.training.lightning.loop import SessionTraining
from graphseq.training.lightning.shared import Shared
from graphseq.training.lightning.state import load_optimizer_state, state_of

logger = logging.getLogger(__name__)

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""The types of half precision by the name of the setting."""

COMPILERS = ("g++", "clang++", "c++", "cl")
"""What torch.compile makes programs for a CPU with."""


SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What ends a training: Ctrl-C, and what a scheduler or a shutdown sends."""


class Stopped(Exception):  # noqa: N818 (it is asked for, no error)
    """Ctrl-C or SIGTERM on some process, upon which all of them have ended the same step.

    Lightning kills other processes on a ``KeyboardInterrupt``; these are to go on after ``fit``.
    """


class Keeper(Checkpoint):
    """Keeps the state of a training: as it goes on, every so often, and when it is ended.

    Args:
        checkpoints: Where to; ``None``: nowhere.
    """

    def __init__(self, checkpoints: Checkpoints | None) -> None:
        self.checkpoints = checkpoints
        self.stop_asked = False
        self.process = os.getpid()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lets the training go on from its state, now that there is an optimiser."""
        assert isinstance(pl_module, SessionTraining)
        pl_module.count_steps()
        load_optimizer_state(pl_module)
        self.catch_signals()  # Lightning has put a handler of its own before ours

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stops here if that was asked for; else writes a checkpoint where one is due."""
        training = pl_module
        assert isinstance(training, SessionTraining)
        if not training.waits:
            return
        # Nothing is written back: Ctrl-C may come while they exchange, and counts at the next step.
        if training.ranks.any(self.stop_asked):
            raise Stopped
        at_end = training.step == training.num_steps  # that of the epoch follows
        if (
            self.checkpoints is not None
            and not at_end
            and self.checkpoints.is_due(training.updates)
        ):
            self._write(training)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes a checkpoint after every epoch."""
        assert isinstance(pl_module, SessionTraining)
        self._write(pl_module)
        if pl_module.ranks.any(self.stop_asked) and not pl_module.is_over:
            raise Stopped

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Keeps where training stands, unless it stands in the middle of a step."""
        assert isinstance(pl_module, SessionTraining)
        pl_module.interrupted = isinstance(
            exception, (KeyboardInterrupt, Stopped, SIGTERMException)
        )
        if pl_module.waits and pl_module.optimizer is not None and pl_module.resumed is None:
            self._write(pl_module)

    def catch_signals(self) -> None:
        """Has Ctrl-C and SIGTERM ask for the end; in the main thread, which alone may."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self.on_interrupt)

    def on_interrupt(self, number: int, frame: Any) -> None:
        """Ctrl-C or SIGTERM: the first stops after the step in work, the second at once."""
        if os.getpid() != self.process:  # a process that builds batches has the handler, too
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return  # the one that it belongs to stops, and ends it
        if self.stop_asked:
            raise KeyboardInterrupt
        self.stop_asked = True
        again = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        logger.warning("Stopping after this step. %s again stops at once.", again)

    def _write(self, training: SessionTraining) -> None:
        if self.checkpoints is not None and training.trainer.is_global_zero:
            self.checkpoints.write(state_of(training))


def run(trainer: pl.Trainer, training: SessionTraining, keeper: Keeper) -> None:
    """Runs the loop from where the training stands; signals end it without leaving Python.

    Raises:
        KeyboardInterrupt: At a second signal, where other processes wait for this one.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    progress: Any = trainer.fit_loop.epoch_progress.current
    progress.ready = progress.started = progress.processed = progress.completed = training.epoch
    try:
        keeper.catch_signals()
        trainer.fit(training)
    except (Stopped, SIGTERMException):
        pass  # the caller keeps the best weights so far
    except SystemExit:
        # Lightning leaves the program at a second Ctrl-C; a training by itself need not.
        if not training.interrupted:
            raise
        if training.several:
            # Others are in the middle of a step: they end when this process is gone.
            raise KeyboardInterrupt from None
    finally:
        for number, handler in handlers.items():
            if main_thread and handler is not None:
                signal.signal(number, handler)


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


@contextmanager
def reading_in(
    model: SessionModel, precision: str, accelerator: str, *, compiled: bool = False
) -> Iterator[None]:
    """Has a model read sessions in half precision, or compiled, for a while.

    What it hands over, vectors or scores, has 32 bits again, so that losses and optimiser are the
    same in every precision.

    Args:
        model: Its ``training_vectors``, ``training_rows`` and ``score`` are replaced within the
            block; they do what they did wherever it does not train.
        precision: As in the settings; ``"32"`` changes nothing.
        accelerator: Where the training runs, as Lightning calls it.
        compiled: Whether ``torch.compile`` makes them.

    Raises:
        ValueError: If the device has no such precision, or there is no compiler.
    """
    if precision == "16-mixed" and accelerator == "cpu":
        raise ValueError(
            "precision='16-mixed' scales gradients, which is there for a GPU alone: use "
            "'bf16-mixed' on a CPU."
        )
    if compiled and accelerator == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise ValueError(
            f"compile=True needs a compiler, and there is none of {', '.join(COMPILERS)}: install "
            "one, or train with compile=False."
        )
    if precision == "32" and not compiled:
        yield
        return
    names = ("training_vectors", "training_rows", "score")

    def changed(method: Callable[..., Any]) -> Callable[..., Any]:
        # Batches differ in size: one program for all sizes, rather than one for each.
        made = torch.compile(method, dynamic=True) if compiled else method

        def read(*args: Any, **kwargs: Any) -> Any:
            if not model.training:
                return method(*args, **kwargs)
            if precision == "32":
                return made(*args, **kwargs)
            with torch.autocast(model.device.type, dtype=HALF[precision]):
                found = made(*args, **kwargs)
            if isinstance(found, Tensor):
                return found.float()
            return (found[0].float(), *found[1:])

        return read

    for name in names:
        setattr(model, name, changed(getattr(model, name)))
    try:
        with programs_apart() if compiled else nullcontext():
            yield
    finally:
        for name in names:
            delattr(model, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's hints about hardware and workers say nothing about a training of ours."""
    names = ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


quiet = Shared(_quiet)
"""A block in which Lightning says nothing of hardware and workers."""
