"""What tests of the ends of two processes run: trainings that one process ends in its own way.

Arguments: the folder of the runs; the process that ends them; and ``launch`` where not torchrun has
started the processes but the first training is to do so. The last training ends the program.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import graphseq as gs
from graphseq.training.lightning import module
from graphseq.training.lightning.checkpoints import read

# pytest imports this file too, in search of doctests.
ARGUMENTS = sys.argv[1:] if __name__ == "__main__" else [".", "0"]
OUT, ENDING = Path(ARGUMENTS[0]), int(ARGUMENTS[1])
DEVICES = 2 if "launch" in ARGUMENTS else None
RANK = int(os.environ.get("LOCAL_RANK", 0))
seed_step = module.seed_step
way = ""
spoilt: list[list[int]] = []


def ending(seed: int, epoch: int, step: int, rank: int = 0) -> int:
    """Ends as it is asked for on one process, in the middle of a step."""
    state = seed_step(seed, epoch, step, rank)
    if (epoch, step, rank) == (1, 2, ENDING):
        for _ in range({"interrupt": 1, "interrupt twice": 2}.get(way, 0)):
            signal.raise_signal(signal.SIGINT)
        if way == "no number":
            spoilt.append([])
    return state


class Spoilt(gs.models.SASRec):
    """Has no number for a loss where that is asked for."""

    def training_vectors(self, batch: Any, generator: Any) -> tuple[Tensor, Tensor]:
        vectors, targets, _ = super().training_rows(batch, generator)
        if spoilt == [[]]:
            spoilt[0] = batch.y.tolist()
            vectors = vectors * torch.nan
        return vectors, targets


def train(kind: str, folder: str, **options: Any) -> dict[str, Any]:
    global way
    way = kind
    starts = np.random.default_rng(0).integers(20, size=41)
    sessions = gs.Sessions.from_lists([[int(s + i) % 20 for i in range(4)] for s in starts])
    torch.manual_seed(0)
    model = Spoilt(sessions.num_items, 8, dropout=0.2)
    settings: dict[str, Any] = {"max_epochs": 3, "batch_size": 4, "progress": False}
    settings |= {"out": OUT / folder, "validation": sessions, "devices": DEVICES}
    result = gs.fit(model, sessions, **settings, **options)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    return {"interrupted": result.interrupted, "weights": weights}


def main() -> None:
    module.seed_step = ending
    found: dict[str, Any] = {"whole": train("", "whole")}
    found["stopped"] = train("interrupt", "halves")
    state = read(OUT / "halves" / "checkpoints" / "last.ckpt")
    progress = state["session_training"]
    found["position"] = [len(progress["history"]), progress["step"]]
    found["resumed"] = train("", "halves", resume=True)
    try:
        train("no number", "no number")
    except ValueError as error:
        found["error"] = str(error)
    found["spoilt"] = spoilt
    (OUT / f"{RANK}.json").write_text(json.dumps(found))
    train("interrupt twice", "twice")
    (OUT / f"{RANK}.went-on").touch()


if __name__ == "__main__":
    main()
