"""What the scripts share: a stopped training ends a script, so that no half result is recorded."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from pytorch_lightning.callbacks import Callback

import graphseq as gs
from experiments.lib.results import fit_whole, said


class Stop(Callback):
    """Sends this process a signal after the first step."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_train_batch_end(self, *_: Any) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_ends_the_script(number: int) -> None:
    sessions = gs.generate_sessions(60, 20, mean_length=4.0, seed=0)
    model = gs.models.GRU4Rec(sessions.num_items, 8)
    settings: dict[str, Any] = {"max_epochs": 3, "batch_size": 8, "progress": False, "seed": 0}
    with (
        pytest.raises(SystemExit, match=r"Stopped in the training of GRU4Rec\. .*--resume"),
        said(),
    ):
        fit_whole(model, sessions, callbacks=Stop(number), **settings)
    assert len(fit_whole(model, sessions, **settings).history) == 3
