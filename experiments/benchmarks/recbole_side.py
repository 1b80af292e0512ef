"""The RecBole side of ``against_recbole.py``: run by RecBole's own Python, it knows no graphseq.

It reads one command a line, ``train`` or ``rank`` with a number of steps and of seconds at most,
and answers each with one line of JSON. Training is RecBole's own epoch, cut short; ranking is its
own full-ranking evaluation of the same number of test sessions.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer

PROTOCOL = {
    "USER_ID_FIELD": "session_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    # The item file names all items of the catalog, also those that no session here has.
    "load_col": {"inter": ["session_id", "item_id", "timestamp"], "item": ["item_id"]},
    "eval_args": {
        "split": {"LS": "test_only"},
        "group_by": "user",
        "order": "TO",
        "mode": "full",
    },
    "train_neg_sample_args": None,
    "loss_type": "CE",
    "metrics": ["Hit", "MRR", "NDCG"],
    "topk": [20],
    "valid_metric": "MRR@20",
    "use_gpu": False,
    "show_progress": False,
    "reproducibility": False,
    "state": "WARNING",
}


class FirstBatches:
    """The first batches of a loader, as many as fit into steps and seconds; counts what it gave."""

    def __init__(self, loader: Any, steps: int, seconds: float) -> None:
        self.loader = loader
        self.left = steps
        self.seconds = seconds
        self.steps = self.samples = self.targets = 0

    def __len__(self) -> int:
        return min(self.left, len(self.loader))

    def __iter__(self) -> Iterator[Any]:
        start = time.perf_counter()
        for batch in self.loader:
            self.steps += 1
            self.samples += len(batch)
            # BERT4Rec predicts the masked positions, every other model one item a sample.
            masked = batch["MASK_INDEX"] if "MASK_INDEX" in batch.interaction else None
            self.targets += len(batch) if masked is None else int((masked > 0).sum())
            yield batch
            if self.steps >= self.left or time.perf_counter() - start > self.seconds:
                return


class Side:
    """A RecBole model with its data and trainer."""

    def __init__(self, model: str, folder: Path, settings: dict[str, Any]) -> None:
        config = Config(
            model=model,
            dataset="sessions",
            config_dict=PROTOCOL
            | {"data_path": str(folder), "checkpoint_dir": str(folder / "saved")}
            | settings,
        )
        torch.manual_seed(0)
        random.seed(0)
        dataset = create_dataset(config)
        self.train_data, _, self.test_data = data_preparation(config, dataset)
        network = get_model(config["model"])(config, self.train_data.dataset)
        self.trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
        self.num_items = dataset.item_num - 1  # without its padding item

    def train(self, steps: int, seconds: float) -> dict[str, Any]:
        batches = FirstBatches(self.train_data, steps, seconds)
        start = time.perf_counter()
        self.trainer._train_epoch(batches, 0)
        taken = time.perf_counter() - start
        return {
            "seconds": taken,
            "steps": batches.steps,
            "samples": batches.samples,
            "targets": batches.targets,
        }

    def rank(self) -> dict[str, Any]:
        start = time.perf_counter()
        self.trainer.evaluate(self.test_data, load_best_model=False)
        return {
            "seconds": time.perf_counter() - start,
            "sessions": len(self.test_data.dataset),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # RecBole's own words go elsewhere
    sys.argv = sys.argv[:1]  # RecBole reads the command line too
    torch.set_num_threads(options.threads)
    side = Side(options.model, options.folder, options.settings)

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    answer({"num_items": side.num_items, "torch": torch.__version__})
    for line in sys.stdin:
        kind, *numbers = line.split()
        answer(side.train(int(numbers[0]), float(numbers[1])) if kind == "train" else side.rank())


if __name__ == "__main__":
    main()
