"""The peers of ``time_to_quality.py``: run by the Python of each, it knows no graphseq.

A peer trains on ``train.csv`` with its own model, loss and loop. When the CPU time of training has
reached a mark it ranks every case of ``validation``; the best of these states ranks ``test``. A
JSON line tells hr@20 and mrr@20 of each. The time that a ranking takes is not counted.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.lib.arguments import seed_number

K = 20
WINDOW = 50
SESSION, ITEM, TIME = "session_id", "item_id", "timestamp"


class Clock:
    """CPU seconds of training, with a ranking of validation at every mark.

    Args:
        marks: CPU seconds, rising; the last one ends the training.
        network: What is trained.
        rank: hr@20 and mrr@20 of a part.
        say: Where a ranking goes.
    """

    def __init__(
        self,
        marks: list[float],
        network: torch.nn.Module,
        rank: Callable[[str], dict[str, float]],
        say: Callable[[Any], None],
    ) -> None:
        self.marks, self.network, self.rank, self.say = marks, network, rank, say
        self.used = 0.0
        self.passed = 0
        self.best = (-1.0, network.state_dict())
        self.since = time.process_time()

    def start(self) -> None:
        self.since = time.process_time()

    def stepped(self) -> bool:
        """Called after each step; whether the budget is spent."""
        self.used += time.process_time() - self.since
        if self.used >= self.marks[self.passed]:
            while self.passed < len(self.marks) and self.used >= self.marks[self.passed]:
                self.passed += 1
            found = self.rank("validation")
            if found["mrr@20"] > self.best[0]:
                self.best = (found["mrr@20"], copy.deepcopy(self.network.state_dict()))
            self.say({"cpu_seconds": round(self.used, 2), **found})
        self.start()
        return self.passed == len(self.marks)

    def end(self) -> None:
        """Ranks the test by the best state."""
        self.network.load_state_dict(self.best[1])
        self.say(self.rank("test"))


def cases(folder: Path, part: str) -> pd.DataFrame:
    """The clicks before each target: ``case``, ``item_id``, in order."""
    return pd.read_csv(folder / f"{part}.csv")


def metrics(folder: Path, part: str, best: np.ndarray) -> dict[str, float]:
    """hr@20 and mrr@20 of the best items per case, [num_cases, 20]."""
    target = pd.read_csv(folder / f"{part}_targets.csv")[ITEM].to_numpy()
    hit = best == target[:, None]
    place = 1 + hit.argmax(1)
    return {"hr@20": float(hit.any(1).mean()), "mrr@20": float((hit.any(1) / place).mean())}


def recbole(folder: Path, options: argparse.Namespace, say: Callable[[Any], None]) -> None:
    """RecBole's SR-GNN, trained by its own epoch on one sample for every prefix."""
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.data.interaction import Interaction
    from recbole.data.utils import get_dataloader
    from recbole.utils import get_model, get_trainer

    atomic = folder / "recbole" / "sessions"
    atomic.mkdir(parents=True, exist_ok=True)
    clicks = pd.read_csv(folder / "train.csv")
    clicks.columns = pd.Index([f"{SESSION}:token", f"{ITEM}:token", f"{TIME}:float"])
    clicks.to_csv(atomic / "sessions.inter", sep="\t", index=False)
    config = Config(
        model="SRGNN",
        dataset="sessions",
        config_dict={
            "USER_ID_FIELD": SESSION,
            "ITEM_ID_FIELD": ITEM,
            "TIME_FIELD": TIME,
            "load_col": {"inter": [SESSION, ITEM, TIME]},
            "train_neg_sample_args": None,
            "loss_type": "CE",
            "MAX_ITEM_LIST_LENGTH": WINDOW,
            "train_batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "embedding_size": options.width,
            "step": 1,
            "use_gpu": False,
            "show_progress": False,
            "reproducibility": False,
            "state": "WARNING",
            "data_path": str(folder / "recbole"),
            "checkpoint_dir": str(folder / "recbole" / "saved"),
        },
    )
    dataset = create_dataset(config)  # one row for every prefix
    dataset._change_feat_format()
    loader = get_dataloader(config, "train")(config, dataset, None, shuffle=True)
    network = get_model("SRGNN")(config, dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "SRGNN")(config, network)
    code = dataset.field2token_id[ITEM]
    token = np.array([-1, *(int(name) for name in dataset.field2id_token[ITEM][1:])])

    @torch.no_grad()
    def rank(part: str) -> dict[str, float]:
        network.eval()
        best = []
        frame = cases(folder, part)
        frame["code"] = frame[ITEM].astype(str).map(code)
        frame = frame.groupby("case").tail(WINDOW)
        frame["place"] = frame.groupby("case").cumcount()
        rows = torch.zeros(frame["case"].max() + 1, WINDOW, dtype=torch.int64)
        at = torch.as_tensor(frame[["case", "place", "code"]].to_numpy())
        rows[at[:, 0], at[:, 1]] = at[:, 2]
        for some in rows.split(256):
            asked = Interaction({network.ITEM_SEQ: some, network.ITEM_SEQ_LEN: (some > 0).sum(1)})
            scores = network.full_sort_predict(asked)
            scores[:, 0] = -torch.inf  # the padding item
            best.append(token[scores.topk(K).indices.numpy()])
        network.train()
        return metrics(folder, part, np.concatenate(best))

    clock = Clock(options.marks, network, rank, say)

    class UntilSpent:
        def __len__(self) -> int:
            return len(loader)

        def __iter__(self) -> Iterator[Any]:
            for batch in loader:
                yield batch
                if clock.stepped():
                    return

        def __getattr__(self, name: str) -> Any:
            return getattr(loader, name)

    clock.start()
    epoch = 0
    while clock.passed < len(clock.marks):
        trainer._train_epoch(UntilSpent(), epoch)
        epoch += 1
    clock.end()


CLOCK: list[Clock] = []
"""RecTools copies its trainer with all callbacks, so the clock stands outside of them."""


def rectools(folder: Path, options: argparse.Namespace, say: Callable[[Any], None]) -> None:
    """RecTools' SASRec, trained by its own fit, over all items or with negatives per position."""
    import pytorch_lightning as pl
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    class Ends(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            CLOCK[0].start()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            trainer.should_stop = CLOCK[0].stepped()

    def trainer() -> pl.Trainer:
        return pl.Trainer(
            max_epochs=100_000,
            min_epochs=0,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=Ends(),
        )

    def log(frame: pd.DataFrame) -> Dataset:
        frame = frame.set_axis([Columns.User, Columns.Item, Columns.Datetime], axis=1)
        frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
        return Dataset.construct(frame.assign(**{Columns.Weight: 1.0}))

    model = SASRecModel(
        n_factors=options.width,
        n_blocks=2,
        n_heads=1,
        session_max_len=WINDOW,
        dropout_rate=0.2,
        lr=options.learning_rate,
        batch_size=options.batch_size,
        **(
            {"loss": "sampled_softmax", "n_negatives": options.negatives}
            if options.negatives
            else {}
        ),
        get_trainer_func=trainer,
        recommend_torch_device="cpu",
    )

    def rank(part: str) -> dict[str, float]:
        frame = cases(folder, part)
        frame["second"] = np.arange(len(frame))
        asked = log(frame)
        users = np.arange(frame["case"].max() + 1)
        found = model.recommend(users, asked, k=K, filter_viewed=False)
        best = np.full((len(users), K), -1)
        best[found[Columns.User], found[Columns.Rank] - 1] = found[Columns.Item]
        model.lightning_model.train()
        return metrics(folder, part, best)

    model._build_model_from_dataset(log(pd.read_csv(folder / "train.csv")))
    model.is_fitted = True  # it is asked while it is trained
    CLOCK.append(Clock(options.marks, model.lightning_model, rank, say))
    model.fit_trainer = trainer()
    model.fit_trainer.fit(model.lightning_model, model.data_preparator.get_dataloader_train())
    CLOCK[0].end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["recbole", "rectools"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--negatives", type=int, default=0, help="of RecTools; 0: all items")
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--marks", type=float, nargs="+", required=True)
    parser.add_argument("--seed", type=seed_number, default=0)
    options = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # a peer's own words go elsewhere
    sys.argv = sys.argv[:1]  # RecBole reads the command line too
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)
    random.seed(options.seed)

    def say(content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    say({"torch": torch.__version__})
    {"recbole": recbole, "rectools": rectools}[options.peer](options.folder, options, say)


if __name__ == "__main__":
    main()
