"""What tests of several processes run: trainings of every kind, and what each process found.

Arguments: where results go; the number of processes; and ``launch`` where not torchrun has started
them but the first training is to do so.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import graphseq as gs
from graphseq.data.loading import shard_loader
from graphseq.training import Auxiliary, DwellTime, NextFeature
from graphseq.training.lightning import collectives, distributed
from graphseq.training.optim import optimizers

# pytest imports this file too, in search of doctests.
ARGUMENTS = sys.argv[1:] if __name__ == "__main__" else [".", "1"]
OUT, SIZE, LAUNCHES = Path(ARGUMENTS[0]), int(ARGUMENTS[1]), "launch" in ARGUMENTS
RANK = int(os.environ.get("LOCAL_RANK", 0))
NUM_ITEMS = 60
SOFTMAX = {"name": "sampled_softmax", "num_negatives": 20}
BPR_MAX = {"name": "bpr_max", "num_negatives": 5, "in_batch": True, "mask_collisions": False}
BCE = {"name": "bce", "num_negatives": 3, "shared": False}
PLAIN = {"hidden_channels": 8, "dropout": 0.0}

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("srgnn", PLAIN, {"gradient_clip": 0.1}),
    ("srgnn", PLAIN, {"loss": SOFTMAX, "gradient_clip": 0.1, "optimizer": "adamw"}),
    ("sasrec", PLAIN, {"loss": {**SOFTMAX, "in_batch": True}}),
    ("gru4rec", PLAIN, {"loss": BPR_MAX, "optimizer": "adagrad"}),
    ("sasrec", PLAIN, {"loss": BCE}),
    ("bert4rec", PLAIN, {"loss": SOFTMAX}),
    ("bert4rec", {**PLAIN, "masking": "80_10_10", "mask_prob": 0.5}, {"accumulate": 2}),
    ("bst_ranker", {**PLAIN, "heads": 2, "mlp_channels": [8]}, {"loss": BCE}),
    ("tagnn", PLAIN, {"loss": {**SOFTMAX, "shared": True}, "optimizer": "rowwise_adagrad"}),
    ("sasrec", PLAIN, {"loss": SOFTMAX, "auxiliary": ["shelf", "dwell_time"]}),
    # Shards, each process its own: of an even number and, of prefixes, of an odd one.
    ("sasrec", PLAIN, {"loss": {**SOFTMAX, "in_batch": True}, "shards": 2}),
    ("bert4rec", PLAIN, {"loss": SOFTMAX, "shards": 3}),
    ("srgnn", PLAIN, {"loss": SOFTMAX, "shards": 3, "augmentation": gs.data.ClickDropout(0.3)}),
]


ROWS_SENT: list[int] = []
READ: list[tuple[int, int, int]] = []
"""Epoch, shard and number of every sample of shards that was read."""


class Counted(collectives.Collectives):
    """Counts tables whose rows are exchanged."""

    def _add_rows(self, parameter: torch.Tensor) -> None:
        ROWS_SENT.append(len(parameter))
        super()._add_rows(parameter)


class Noted(shard_loader._BatchesOfShards):
    """Notes which samples of shards are read."""

    def __getitem__(self, step: tuple[int, shard_loader.Parts]) -> Any:
        epoch, parts = step
        READ.extend((epoch, shard, int(n)) for shard, samples in parts for n in samples)
        return super().__getitem__(step)


def split() -> gs.Split:
    """41 sessions to train on, so that a last batch of 8 has one and one process has none."""
    generator = np.random.default_rng(0)
    starts, lengths = generator.integers(NUM_ITEMS, size=41), generator.integers(2, 10, 41)
    lists = [
        [int(start + step) % NUM_ITEMS for step in range(length)]
        for start, length in zip(starts, lengths, strict=True)
    ]
    later = [[int(s), int(s + 1) % NUM_ITEMS, 0] for s in generator.integers(NUM_ITEMS, size=7)]
    vocabulary = gs.data.Vocabulary(np.arange(NUM_ITEMS))
    train, held = (gs.Sessions.from_lists(part, vocabulary=vocabulary) for part in (lists, later))
    train, held = (replace(part, **known_of(part)) for part in (train, held))
    return gs.Split(train, held, held)


def known_of(part: gs.Sessions) -> dict[str, Any]:
    """What further tasks ask for: times of clicks, a feature of items."""
    return {
        "time": np.cumsum(1.0 + np.arange(part.num_clicks) % 5),
        "item_features": pd.DataFrame({"shelf": np.arange(NUM_ITEMS) % 4}),
    }


def tasks(names: list[str]) -> list[Auxiliary]:
    return [DwellTime() if name == "dwell_time" else NextFeature(name) for name in names]


def built(name: str, arguments: dict[str, Any]) -> gs.models.SessionModel:
    """A model whose first weights are another process's own: they take over those of the first."""
    torch.manual_seed(RANK)
    return gs.models.MODELS[name](NUM_ITEMS, **arguments)


def flat(model: torch.nn.Module) -> list[float]:
    weights: list[float] = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    return weights


def train(number: int, name: str, arguments: dict[str, Any], settings: dict[str, Any]) -> Any:
    options = {"batch_size": 8 // SIZE, "learning_rate": 0.01, "patience": None, "progress": False}
    options |= settings
    named = options.pop("auxiliary", [])
    if LAUNCHES:
        options["devices"] = SIZE
    ROWS_SENT.clear()
    READ.clear()
    model, folder = built(name, arguments), OUT if number == 0 else None
    data: Any = split()
    if "shards" in options:
        options["validation"] = data.validation
        data = gs.data.Shards(OUT.parent / f"{options.pop('shards')}-shards")
    result = gs.fit(model, data, max_epochs=2, out=folder, auxiliary=tasks(named), **options)
    history = json.loads(result.history.to_json(orient="records"))
    settings = {**settings, "augmentation": "augmentation" in settings}
    found = {"case": [name, settings], "history": history, "weights": flat(model), "read": READ[:]}
    found["row_sparse"] = len(ROWS_SENT) if SIZE > 1 else 0
    if folder is not None:
        found["files"] = sorted(path.name for path in folder.iterdir())
        found["log"] = (folder / "logs" / "metrics.csv").read_text().splitlines()
        halves = folder.with_name(f"{folder.name}-halves")
        for epochs in (1, 2):
            model = built(name, arguments)
            gs.fit(model, split(), max_epochs=epochs, out=halves, resume=True, **options)
        found["resumed"] = flat(model)
    return found


if __name__ == "__main__":
    optimizers.SPARSE_FROM = 30  # so that the table here counts as a large one
    distributed.Collectives = Counted  # type: ignore[misc]
    shard_loader._BatchesOfShards = Noted  # type: ignore[misc]
    cases = CASES[:1] if LAUNCHES else CASES
    found = [train(number, *case) for number, case in enumerate(cases)]
    OUT.with_name(f"{OUT.name}-{RANK}.json").write_text(json.dumps(found))
