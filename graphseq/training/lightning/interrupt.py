"""Ctrl-C and SIGTERM: the first ends training after the current step, the second at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What ends a training: Ctrl-C, and what a scheduler or a shutdown sends."""


class StopTraining(Exception):  # noqa: N818 (it is asked for, no error)
    """Raised when one process got Ctrl-C or SIGTERM, after all finished the same step."""


class TwoStageInterrupt(Checkpoint):
    """Ends training after the current step, and lets the program continue after ``fit``.

    Lightning raises ``KeyboardInterrupt`` in the middle of a step, kills the other processes and
    leaves the program. Here every process finishes the same step, also where only one of them got
    the signal. It is a ``Checkpoint`` so that Lightning calls it after the checkpoint of the step
    is written.

    Attributes:
        interrupted: Whether a signal has ended the training.
    """

    def __init__(self) -> None:
        self.asked = False
        self.interrupted = False
        self.process = os.getpid()

    @contextmanager
    def caught(self) -> Iterator[None]:
        """A block that a signal ends quietly; earlier handlers are restored at its end.

        Raises:
            KeyboardInterrupt: At a second signal, where other processes wait for this one.
        """
        main_thread = threading.current_thread() is threading.main_thread()
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self._catch_signals()
        try:
            yield
        except (StopTraining, SIGTERMException):
            pass  # the model keeps the best weights so far
        except SystemExit:
            # Lightning leaves the program at a second Ctrl-C; a training of one process need not.
            if not self.interrupted:
                raise
            if self.several:
                # Others are in the middle of a step: they end when this process is gone.
                raise KeyboardInterrupt from None
        finally:
            for number, handler in handlers.items():
                if main_thread and handler is not None:
                    signal.signal(number, handler)

    several = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.several = trainer.world_size > 1
        self._catch_signals()  # Lightning has put a handler of its own before ours

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        # Within a group of batches, and at the end of an epoch, more belongs to the same update.
        if pl_module.pending == 0 and not trainer.is_last_batch:
            self._stop_if_asked(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if not trainer.should_stop and not is_last:
            self._stop_if_asked(pl_module)

    def _stop_if_asked(self, pl_module: Any) -> None:
        # Ctrl-C may come while processes exchange the flag: it counts at the next step then.
        if pl_module.collectives.any(self.asked):
            raise StopTraining

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        ends = (KeyboardInterrupt, StopTraining, SIGTERMException)
        self.interrupted = isinstance(exception, ends)

    def _catch_signals(self) -> None:
        """Has Ctrl-C and SIGTERM ask for the end; in the main thread, which alone may."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        if os.getpid() != self.process:  # a process that builds batches inherits the handler
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return  # the main process stops, and ends it
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        again = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        logger.warning("Stopping after this step. %s again stops at once.", again)
