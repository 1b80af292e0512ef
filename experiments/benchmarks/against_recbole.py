"""Training and ranking against RecBole 1.2.1, on the same sessions in the same run.

RecBole is a peer that is run in a separate environment, never a part of this project. Set it up
once (torch first, so that nothing picks another build of it), then name its Python::

    python -m venv ../recbole
    ../recbole/bin/pip install torch==2.13.0
    ../recbole/bin/pip install recbole==1.2.1 "setuptools<80" "numpy<2" "pandas<2.3" "scipy<1.14"
    python -m experiments.benchmarks.against_recbole --recbole-python ../recbole/bin/python

Each side is a separate process with the same number of threads; they take turns, one waiting
while the other works, and a ratio is that of one turn. Same width, window, layers and heads; a
batch is 512 samples. What is compared is predicted items a second. RecBole makes one sample of
every prefix and so predicts one item a sample (BERT4Rec: its masked positions), by cross-entropy
over all items, which is how it trains these models; graphseq predicts every position of a session
in one pass where the family allows it, by sampled softmax with 2,048 shared negatives
(``sampled``) or over all items (``exact``). Both rank all items for the last click of each session.
Of RecBole's epoch the first steps are run, of its evaluation all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import torch

import graphseq as gs
from experiments.benchmarks.families import (
    DIGINETICA_ITEMS,
    TRAINED_BY,
    build_model,
    last_targets,
    rank,
    train,
)
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from graphseq.models import MODELS

MODULE = "experiments.benchmarks.against_recbole"
D, MAX_LENGTH = 100, 50
RANK_WANTED = 5
TRANSFORMER = {"n_layers": 2, "n_heads": 2, "hidden_size": D, "inner_size": 4 * D}
DROPOUTS = {"hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.2}


@dataclass(frozen=True)
class Pair:
    """One family on both sides.

    Args:
        recbole: RecBole's name.
        ratio_wanted: Of training by sampled softmax.
        ours: Arguments of our model, beside width and window.
        theirs: RecBole's settings, beside batch and window.
    """

    recbole: str
    ratio_wanted: int
    ours: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)


PAIRS = {
    "gru4rec": Pair(
        "GRU4Rec",
        25,
        {"num_layers": 1},
        {"embedding_size": D, "hidden_size": D, "num_layers": 1, "dropout_prob": 0.0},
    ),
    "srgnn": Pair("SRGNN", 15, {"num_layers": 1}, {"embedding_size": D, "step": 1}),
    "sasrec": Pair(
        "SASRec", 30, {"num_layers": 2, "heads": 2, "dropout": 0.2}, TRANSFORMER | DROPOUTS
    ),
    "bert4rec": Pair(
        "BERT4Rec",
        50,
        {"num_layers": 2, "heads": 2, "dropout": 0.2},
        TRANSFORMER | DROPOUTS | {"mask_ratio": 0.2},
    ),
    # Filters of all heights 1..50 on both sides; RecBole's has users besides.
    "caser": Pair(
        "Caser",
        50,
        {"num_horizontal": 8, "num_vertical": 4, "dropout": 0.4},
        {"embedding_size": D, "nh": 8, "nv": 4, "dropout_prob": 0.4},
    ),
}


def write_atomic(sessions: gs.Sessions, folder: Path) -> None:
    """The sessions as RecBole's atomic files, with every item of the catalog named."""
    folder = folder / "sessions"
    folder.mkdir(parents=True)
    frame = pd.DataFrame(
        {
            "session_id:token": sessions.session_index,
            "item_id:token": np.asarray(sessions.items),
            "timestamp:float": np.arange(sessions.num_clicks),  # order alone matters
        }
    )
    frame.to_csv(folder / "sessions.inter", sep="\t", index=False)
    items = pd.DataFrame({"item_id:token": np.arange(sessions.num_items)})
    items.to_csv(folder / "sessions.item", sep="\t", index=False)


class Side:
    """A process that answers each command line with a line of JSON."""

    def __init__(self, command: list[str]) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.about = self._answer()

    def ask(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise SystemExit(f"One side of the benchmark failed:\n{self.errors.read()[-4000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def serve(name: str, folder: Path, threads: int) -> None:
    """Our side: the same commands, by ``fit`` and ``evaluate``."""
    answers, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(threads)
    sessions = gs.Sessions.open(folder)
    everyone = np.arange(sessions.num_sessions)
    known = sessions.window(everyone, np.zeros_like(everyone), sessions.lengths - 1)
    test = last_targets(sessions)
    model = build_model(name, sessions.num_items, D, MAX_LENGTH, **PAIRS[name].ours)

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    answer({"num_items": model.num_items, "torch": torch.__version__})
    for line in sys.stdin:
        kind, *words = line.split()
        if kind == "rank":
            answer({"sessions_a_second": rank(model, test, repeats=1)[0]})
            continue
        done = train(
            model,
            known,
            words[0],
            batch_size=int(words[1]),
            steps=int(words[2]),
            repeats=1,
            seconds=float(words[3]),
        )
        answer({"targets_a_second": done.speeds[0], "targets_a_step": done.targets_a_step})


def measure(
    benchmark: Benchmark, name: str, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Adds the rows of one family; the versions that RecBole's side names."""
    pair = PAIRS[name]
    settings = pair.theirs | {
        "MAX_ITEM_LIST_LENGTH": MAX_LENGTH,
        "train_batch_size": options.batch_size,
        "eval_batch_size": options.batch_size,
    }
    threads = ["--threads", str(torch.get_num_threads())]
    script = Path(__file__).with_name("recbole_side.py")
    theirs_command = [str(options.recbole_python), str(script), "--model", pair.recbole]
    theirs_command += ["--folder", str(folder), "--settings", json.dumps(settings), *threads]
    ours_command = [sys.executable, "-m", MODULE, "--serve", name, "--folder", str(folder / "ours")]
    speeds: dict[str, list[float]] = {loss: [] for loss in (*TRAINED_BY, "rank")}
    peer: dict[str, list[float]] = {"train": [], "samples": [], "rank": []}
    steps = {}
    with Side(theirs_command) as theirs, Side([*ours_command, *threads]) as ours:
        if ours.about["num_items"] != theirs.about["num_items"]:
            raise SystemExit(f"The sides differ in items: {ours.about}, {theirs.about}.")
        theirs.ask("train 1 1000")  # a warm-up
        for _ in range(options.repeats):
            for loss in TRAINED_BY:
                size = f"{options.batch_size} {options.steps} {options.seconds}"
                done = ours.ask(f"train {loss} {size}")
                speeds[loss].append(done["targets_a_second"])
                steps[loss] = done["targets_a_step"]
            done = theirs.ask(f"train {options.steps} {options.seconds}")
            peer["train"].append(done["targets"] / done["seconds"])
            peer["samples"].append(done["samples"] / done["seconds"])
        for _ in range(options.repeats):
            speeds["rank"].append(ours.ask("rank")["sessions_a_second"])
            done = theirs.ask("rank")
            peer["rank"].append(done["sessions"] / done["seconds"])
    for loss in TRAINED_BY:
        benchmark.add(
            family=name,
            loss=loss,
            targets_a_second=round(statistics.median(speeds[loss])),
            targets_a_step=round(steps[loss]),
            recbole_targets_a_second=round(statistics.median(peer["train"])),
            recbole_samples_a_second=round(statistics.median(peer["samples"])),
            **_ratio(speeds[loss], peer["train"]),
            ratio_wanted=pair.ratio_wanted if loss == "sampled" else "-",
            repeats=options.repeats,
        )
    benchmark.add(
        family=name,
        sessions_a_second=round(statistics.median(speeds["rank"])),
        recbole_sessions_a_second=round(statistics.median(peer["rank"])),
        **_ratio(speeds["rank"], peer["rank"]),
        ratio_wanted=RANK_WANTED,
        repeats=options.repeats,
    )
    return theirs.about


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 1),
        "ratio_range": [round(min(ratios), 1), round(max(ratios), 1)],
    }


def main(argv: list[str] | None = None) -> None:
    here = [name for name in PAIRS if name in MODELS]
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recbole-python", type=Path, help="Python of RecBole's environment")
    parser.add_argument("--dataset", help="default: generated sessions with Diginetica's items")
    parser.add_argument("--root")
    parser.add_argument("--families", nargs="+", choices=here, default=here)
    parser.add_argument("--sessions", type=int, default=10_000, help="of the data, drawn at random")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=30, help="of each turn, at most")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each turn, about")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--note", help="said beside the results: a busy machine, ...")
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    parser.add_argument("--serve", choices=here, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        serve(options.serve, options.folder, options.threads)
        return
    if options.recbole_python is None:
        raise SystemExit("RecBole runs in its own environment: name it by --recbole-python.")
    if options.dataset is None:
        sessions = gs.generate_sessions(50_000, DIGINETICA_ITEMS, mean_length=5.0, seed=0)
    else:
        sessions = gs.load_split(options.dataset, options.root).train
    long_enough = np.flatnonzero(sessions.lengths > 2)  # a training target and a test target
    order = np.random.default_rng(0).permutation(long_enough)[: options.sessions]
    sessions = sessions.select(order)
    benchmark = Benchmark.start(MODULE, argv, options.dataset, sessions)
    if options.note:
        benchmark.content["note"] = options.note
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_atomic(sessions, folder)
        sessions.save(folder / "ours")
        for family in options.families:
            about = measure(benchmark, family, folder, options)
            benchmark.content["versions"] |= {"recbole": "1.2.1", "recbole's torch": about["torch"]}
            benchmark.write(options.out / "recbole.json")
    benchmark.finish(options.out / "recbole.json")


if __name__ == "__main__":
    main()
