"""A training goes on from its own checkpoint alone; another is refused with both sides named."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import Parameter
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR
from torch_geometric.transforms import Compose

import graphseq as gs
from graphseq.data import ClickDropout, RandomCrop
from graphseq.data.graphs.augment import Substitute
from graphseq.models.base import SessionModel
from graphseq.training import Contrastive, DwellTime
from graphseq.training.fit import CHECKPOINT
from graphseq.training.lightning.checkpoints import DurableCheckpointIO, read
from graphseq.training.lightning.identity import check_identity, described, identity_of

NUM_ITEMS = 12


@pytest.fixture(scope="module")
def split() -> gs.Split:
    starts = np.random.default_rng(0).integers(0, NUM_ITEMS, size=120)
    lists = [
        [(s + i) % NUM_ITEMS for i in range(n)] for s, n in zip(starts, 3 + starts % 4, strict=True)
    ]
    sessions = gs.Sessions.from_lists(lists)
    sessions = replace(sessions, time=np.arange(sessions.num_clicks, dtype=float))
    return gs.session_split(sessions, 0.2, seed=0, validation=0.2)


def model_of(**options: Any) -> SessionModel:
    torch.manual_seed(0)
    return gs.models.SASRec(NUM_ITEMS, 8, **{"heads": 2, **options})


def train(model: SessionModel, data: Any, out: Path, **options: Any) -> Any:
    options = {"max_epochs": 1, "batch_size": 16, "patience": None, "resume": True} | options
    return gs.fit(model, data, out=out, progress=False, **options)


@pytest.fixture(scope="module")
def begun(split: gs.Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch of a training, with everything that may differ."""
    out = tmp_path_factory.mktemp("begun")
    parts = {"augmentation": ClickDropout(0.2), "auxiliary": [DwellTime(0.1)]}
    train(model_of(), split, out, **parts)
    return out


def of_order(sessions: gs.Sessions) -> gs.Sessions:
    return sessions.select(np.arange(sessions.num_sessions)[::-1])


OTHERS: dict[str, tuple[Callable[[gs.Split], dict[str, Any]], str]] = {
    "heads": (
        lambda split: {"model": model_of(heads=4)},
        "by heads of the model: 2 there, 4 here; give it the same, or train without resume",
    ),
    "positions": (
        lambda split: {"model": model_of(positions="end")},
        "by positions of the model: start there, end here",
    ),
    "class": (
        lambda split: {"model": gs.models.GRU4Rec(NUM_ITEMS, 8)},
        "by the model: SASRec there, GRU4Rec here",
    ),
    "permuted": (
        lambda split: {"data": replace(split, train=of_order(split.train))},
        r"by the training sessions: 77 sessions of \d+ clicks \(\w{12}\.\.\.\) there, 77 sessions",
    ),
    "times": (
        lambda split: {
            "data": replace(split, train=replace(split.train, time=split.train.time + 1))
        },
        "by the training sessions: 77 sessions",
    ),
    "validation": (
        lambda split: {"data": replace(split, validation=of_order(split.validation))},
        "by the validation part: 19 sessions of .* there, 19 sessions of",
    ),
    "no validation": (
        lambda split: {"data": split.train},
        r"by the validation part: 19 sessions of .* there, None here",
    ),
    "test as validation": (
        lambda split: {"validation": split.test},
        "by the validation part: 19 sessions of .* there, 24 sessions of",
    ),
    "no augmentation": (
        lambda split: {"augmentation": None},
        r"by the augmentation: \{.*ClickDropout.*\} there, None here",
    ),
    "augmentation": (
        lambda split: {"augmentation": ClickDropout(0.3)},
        r"by share of the augmentation: 0\.2 there, 0\.3 here",
    ),
    "other augmentation": (
        lambda split: {"augmentation": RandomCrop(0.2)},
        "by class of the augmentation: ClickDropout there, RandomCrop here",
    ),
    "no auxiliary": (
        lambda split: {"auxiliary": []},
        r"by the auxiliary losses: \[.*DwellTime.*\] there, \[\] here",
    ),
    "weight of auxiliary": (
        lambda split: {"auxiliary": [DwellTime(0.5)]},
        r"by weight of number 0 of the auxiliary losses: 0\.1 there, 0\.5 here",
    ),
    "other auxiliary": (
        lambda split: {"auxiliary": [Contrastive(RandomCrop(0.5), name="dwell_time")]},
        "by class of number 0 of the auxiliary losses: DwellTime there, Contrastive here",
    ),
    "loss": (
        lambda split: {"loss": gs.SampledLoss("bpr")},
        "made with loss cross_entropy, this training has {'name': 'bpr'",
    ),
    "exclude_seen": (
        lambda split: {"exclude_seen": True},
        "made with exclude_seen False, this training has True",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_training_is_refused_with_both_sides_named(
    name: str, split: gs.Split, begun: Path
) -> None:
    change, message = OTHERS[name]
    given: dict[str, Any] = {
        "data": split,
        "augmentation": ClickDropout(0.2),
        "auxiliary": [DwellTime(0.1)],
    }
    given |= change(split)
    model = given.pop("model", None) or model_of()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=message):
        train(model, given.pop("data"), begun, max_epochs=2, **given)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_the_same_training_goes_on(split: gs.Split, begun: Path) -> None:
    parts: dict[str, Any] = {"augmentation": ClickDropout(0.2), "auxiliary": [DwellTime(0.1)]}
    assert len(train(model_of(), split, begun, **parts).history) == 1


def test_loader_of_ones_own_is_compared_by_what_it_tells(split: gs.Split, tmp_path: Path) -> None:
    graphs = gs.SessionGraphDataset(split.train, "sessions")
    train(model_of(), gs.SessionGraphLoader(graphs, 16, shuffle=True), tmp_path)
    other = gs.SessionGraphDataset(of_order(split.train), "sessions")
    for loader, message in (
        (gs.SessionGraphLoader(graphs, 8, shuffle=True), "by batch_size of the loader: 16 there"),
        (gs.SessionGraphLoader(graphs, 16), "by shuffle of the loader: True there, False here"),
        (gs.SessionGraphLoader(graphs, 16, shuffle=True, seed=3), "by the seed of the loader: 0"),
        (gs.SessionGraphLoader(other, 16, shuffle=True), "by the training sessions: 77 sessions"),
        (list(gs.SessionGraphLoader(graphs, 40)), "made with 5 batches per epoch, here are 2"),
    ):
        with pytest.raises(ValueError, match=message):
            train(model_of(), loader, tmp_path, max_epochs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": 2}, r"of 3 epochs, and this training ends after 2 \(max_epochs=2"),
        ({"schedule": "linear", "max_epochs": 4}, "made with max_epochs 3, this training has 4"),
        ({"warmup": 0.1, "max_epochs": 4}, "made with max_epochs 3, this training has 4"),
    ],
)
def test_end_that_would_have_made_other_weights_is_refused(
    options: dict[str, Any], message: str, split: gs.Split, tmp_path: Path
) -> None:
    train(model_of(), split, tmp_path, **{**options, "max_epochs": 3})
    with pytest.raises(ValueError, match=message):
        train(model_of(), split, tmp_path, **options)


def test_patience_that_would_have_ended_before_is_refused(split: gs.Split, tmp_path: Path) -> None:
    result = train(model_of(), split, tmp_path, max_epochs=9, learning_rate=1e-12)
    assert result.best_epoch < 7
    with pytest.raises(ValueError, match=r"of 9 epochs, and this training ends after \d \(.*=2\)"):
        train(model_of(), split, tmp_path, max_epochs=9, learning_rate=1e-12, patience=2)


# -- what a checkpoint holds ----------------------------------------------------------------------


def without(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for name in path[:-1]:
            state = state[name]
        del state[path[-1]]

    return change


def put(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for name in path[:-1]:
            state = state[name]
        state[path[-1]] = value

    return change


OWN = "session_training"
OPTIMIZER = ("optimizer_states", 0)

LAYOUTS: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    *(
        (without(name), f"the checkpoint lacks {name}")
        for name in ("state_dict", "optimizer_states", "loops")
    ),
    *(
        (without(OWN, name), f"the checkpoint lacks {name}")
        for name in ("identity", "settings", "history", "best_weights")
    ),
    (without(OWN), "The checkpoint is not one of a SessionModule"),
    (put(3, OWN, "run"), "run of the checkpoint must be a mapping, got 3"),
    (without(OWN, "identity", "the model"), "identity of the checkpoint lacks the model"),
    (put(1.5, OWN, "step"), "step of the checkpoint must be a whole number"),
    (put(7, OWN, "best_epoch"), "best_epoch of the checkpoint must"),
    (
        put("x", OWN, "history", 0, "loss"),
        "loss of history of .*, element 0, must be a fin",
    ),
    (
        put(torch.zeros(3), OWN, "loss_sum"),
        r"loss_sum of the checkpoint must be torch.float64 \[\], got",
    ),
    (put(torch.zeros(2), *OPTIMIZER, "state", 0, "exp_avg"), r"exp_avg of state 0 of .* \[2\]"),
    (
        put(torch.zeros(NUM_ITEMS, 8, dtype=torch.double), *OPTIMIZER, "state", 0, "exp_avg_sq"),
        r"exp_avg_sq of state 0 of optimizer_states of .* must be torch.float32 \[12, 8\], got",
    ),
    (put(torch.tensor(0.5), *OPTIMIZER, "state", 0, "step"), "must be a whole number of steps"),
    (put({}, *OPTIMIZER, "state", 99), "optimizer_states of .* has a state of parameter 99"),
    (without(*OPTIMIZER, "state", 0, "exp_avg"), "state 0 of optimizer_states .* lacks exp_avg"),
    (
        put(torch.zeros(3, dtype=torch.int32), *OPTIMIZER, "state", 0, "last"),
        "has one of clock and last, which go together",
    ),
    (put({}, OWN, "average"), "average of the checkpoint lacks steps"),
    (put({"model.x": torch.zeros(1)}, "state_dict"), "does not fit this training, its model"),
]


@pytest.mark.parametrize(("change", "message"), LAYOUTS, ids=lambda v: v if str(v) == v else "")
def test_checkpoint_that_lacks_something_or_has_other_shapes_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, split: gs.Split, tmp_path: Path
) -> None:
    train(model_of(), split, tmp_path)
    path = tmp_path / CHECKPOINT
    state = read(path)
    change(state)
    DurableCheckpointIO(path).save_checkpoint(state, path)
    with pytest.raises(ValueError, match=message):
        train(model_of(), split, tmp_path, max_epochs=2)


@pytest.mark.parametrize("optimizer", ["adam", "rowwise_adagrad", "adagrad", "sgd"])
def test_layout_of_every_optimizer_with_sparse_rows_and_average_goes_on(
    optimizer: str, split: gs.Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphseq.training.optim.optimizers.SPARSE_FROM", 1)
    options: dict[str, Any] = {"loss": gs.SampledLoss("bpr", 3), "ema": 0.9, "optimizer": optimizer}
    train(model_of(), split, tmp_path, **options)
    train(model_of(), split, tmp_path, max_epochs=2, **options)
    state = read(tmp_path / CHECKPOINT)
    average = state["session_training"]["average"]
    for table in average["tables"].values():
        table["last"][0] = 999
    DurableCheckpointIO(tmp_path / CHECKPOINT).save_checkpoint(state, tmp_path / CHECKPOINT)
    assert average["tables"]
    with pytest.raises(ValueError, match=r"last of table 0 of average .* must lie within 0\.\."):
        train(model_of(), split, tmp_path, max_epochs=3, **options)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_link_that_leads_nowhere_is_no_new_beginning(
    which: str, split: gs.Split, tmp_path: Path
) -> None:
    path = tmp_path / "out" / CHECKPOINT
    link = path if which == "file" else path.parent
    link.parent.mkdir(parents=True)
    os.symlink(tmp_path / "nothing", link)
    with pytest.raises(ValueError, match=r"nowhere|link|missing"):
        train(model_of(), split, tmp_path / "out")


# -- the trainer ---------------------------------------------------------------------------------

LIMITED, CLIPPED = {"limit_train_batches": 2}, {"gradient_clip_algorithm": "value"}
OTHER_UPDATES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    ({"schedule": "linear"}, {}, LIMITED, r"by the updates in all \(.*\): 10 there, 4 here"),
    ({"schedule": "cosine"}, LIMITED, {}, r"by the updates in all \(.*\): 4 there, 10 here"),
    ({"warmup": 0.5}, {}, {"max_steps": 7}, r"by the updates in all \(.*\): 10 there, 7 here"),
    ({"gradient_clip": 1}, CLIPPED, {}, "the clipping of gradients: 1.0 by value there, 1.0 by no"),
]


def first_of_two_epochs(split: gs.Split, out: Path, **options: Any) -> None:
    train(model_of(), split, out, max_epochs=2, on_epoch=lambda row: True, **options)


@pytest.mark.parametrize(("settings", "then", "here", "message"), OTHER_UPDATES)
def test_training_of_other_updates_is_refused_with_both_sides_named(
    settings: dict[str, Any],
    then: dict[str, Any],
    here: dict[str, Any],
    message: str,
    split: gs.Split,
    tmp_path: Path,
) -> None:
    first_of_two_epochs(split, tmp_path, trainer_options=then, **settings)
    with pytest.raises(ValueError, match=message):
        train(model_of(), split, tmp_path, max_epochs=2, trainer_options=here, **settings)
    result = train(model_of(), split, tmp_path, max_epochs=2, trainer_options=then, **settings)
    assert len(result.history) == 2


def test_limit_that_no_learning_rate_depends_on_may_differ(split: gs.Split, tmp_path: Path) -> None:
    first_of_two_epochs(split, tmp_path)
    result = train(model_of(), split, tmp_path, max_epochs=2, trainer_options=LIMITED)
    assert result.history["targets"][1] < result.history["targets"][0]


def test_checkpoint_that_says_nothing_of_its_updates_goes_on(
    split: gs.Split, tmp_path: Path
) -> None:
    first_of_two_epochs(split, tmp_path, schedule="linear")
    path = tmp_path / CHECKPOINT
    state = read(path)
    del state[OWN]["run"]  # as earlier versions wrote it
    DurableCheckpointIO(path).save_checkpoint(state, path)
    result = train(model_of(), split, tmp_path, max_epochs=2, schedule="linear")
    assert len(result.history) == 2


# -- an optimizer or a schedule of your own ------------------------------------------------------

RATE = 0.1


def rated(rate: Any) -> Callable[..., Any]:
    return lambda parameters: SGD(parameters, lr=rate)


def configured(**config: Any) -> Callable[..., Any]:
    args = SimpleNamespace(**config)
    return lambda parameters: SGD(parameters, lr=args.lr)


def keyed(**config: Any) -> Callable[..., Any]:
    return lambda parameters: SGD(parameters, lr=config["lr"])


class Rates:
    def __init__(self, rate: float) -> None:
        self.rate, self.calls = rate, 0

    def make(self, parameters: Any) -> Any:
        return SGD(parameters, lr=self.rate)


def by_global(parameters: Any) -> Any:
    return SGD(parameters, lr=RATE)


def two(parameters: Any, lr: float = 0.1, momentum: float = 0.0) -> Any:
    return SGD(parameters, lr=lr, momentum=momentum)


def with_defaults(*defaults: float) -> Callable[..., Any]:
    return FunctionType(two.__code__, globals(), "two", defaults)


OTHER_FUNCTIONS: dict[str, tuple[Any, Any, str]] = {
    "constant": (
        lambda parameters: SGD(parameters, lr=0.1),
        lambda parameters: SGD(parameters, lr=0.5),
        "by number 1 of constants of the optimizer: 0.1 there, 0.5 here; give it the same, or tr",
    ),
    "code": (
        lambda parameters: SGD(parameters, lr=0.1),
        lambda parameters: Adam(parameters, lr=0.1),
        r"by code of the optimizer: \w+ there, \w+ here",
    ),
    "within": (
        lambda parameters: (lambda: SGD(parameters, lr=0.1))(),
        lambda parameters: (lambda: SGD(parameters, lr=0.5))(),
        "by number 1 of constants of number 1 of constants of the optimizer: 0.1 there, 0.5 here",
    ),
    "around": (rated(0.1), rated(0.5), "by rate of reads of the optimizer: 0.1 there, 0.5 here"),
    "attribute": (configured(lr=0.1), configured(lr=0.5), "lr of args of reads .*: 0.1 .* 0.5 he"),
    "key": (keyed(lr=0.1), keyed(lr=0.5), "by lr of config of reads .*: 0.1 there, 0.5 here"),
    "default": (with_defaults(0.1, 0.0), with_defaults(0.5, 0.0), "defaults of .* 0.1 .* 0.5 he"),
    "method": (Rates(0.1).make, Rates(0.5).make, "by rate of self of reads .*: 0.1 .* 0.5 here"),
    "partial": (partial(SGD, lr=0.1), partial(SGD, lr=0.5), "by lr of number 2 .*: 0.1 .* 0.5 he"),
    "class of partial": (partial(SGD, lr=0.1), partial(Adam, lr=0.1), "SGD there, Adam here"),
    "partial of a function": (partial(two, lr=0.1), partial(two, lr=0.5), "0.1 there, 0.5 here"),
}


@pytest.mark.parametrize("which", OTHER_FUNCTIONS)
def test_other_optimizer_of_your_own_is_refused_with_both_sides_named(
    which: str, split: gs.Split, tmp_path: Path
) -> None:
    then, here, message = OTHER_FUNCTIONS[which]
    train(model_of(), split, tmp_path, optimizer=then)
    with pytest.raises(ValueError, match=message):
        train(model_of(), split, tmp_path, max_epochs=2, optimizer=here)
    assert len(train(model_of(), split, tmp_path, max_epochs=2, optimizer=then).history) == 2


def test_other_schedule_of_your_own_is_refused(split: gs.Split, tmp_path: Path) -> None:
    train(model_of(), split, tmp_path, schedule=partial(StepLR, step_size=5))
    with pytest.raises(ValueError, match="by step_size of number 2 of the schedule: 5 there, 6"):
        train(model_of(), split, tmp_path, max_epochs=2, schedule=partial(StepLR, step_size=6))


def test_optimizer_that_reads_another_global_value_is_refused(
    split: gs.Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(model_of(), split, tmp_path, optimizer=by_global)
    monkeypatch.setitem(globals(), "RATE", 0.5)
    with pytest.raises(ValueError, match=r"by RATE of reads of .*: 0\.1 there, 0\.5 here"):
        train(model_of(), split, tmp_path, max_epochs=2, optimizer=by_global)


def test_what_an_optimizer_does_not_read_may_differ() -> None:
    rates = Rates(0.1)
    for then, here in (
        (configured(lr=0.1, resume=False), configured(lr=0.1, resume=True)),
        (keyed(lr=0.1, resume=False), keyed(lr=0.1, resume=True)),
        (rated(Parameter(torch.zeros(3))), rated(Parameter(torch.ones(3)))),
    ):
        assert described(then) == described(here)
    before = described(rates.make)
    rates.calls += 1
    assert described(rates.make) == before


CALLS, COUNT = [], 0


def test_what_an_optimizer_writes_down_may_differ_but_not_a_list_that_it_reads(
    split: gs.Split, tmp_path: Path
) -> None:
    rates, seen, number = [0.1], set(), 0
    notes = SimpleNamespace(lines=[], rate=[1.0])

    def own(parameters: Any) -> Any:
        global COUNT
        nonlocal number
        COUNT, number = COUNT + 1, number + 1
        CALLS.append(number)
        seen.add(number)
        notes.lines.append(rates)
        rate = []
        rate.extend(rates + notes.rate)
        return SGD(parameters, lr=rate[0] * rate[1])

    train(model_of(), split, tmp_path, optimizer=own)
    assert len(train(model_of(), split, tmp_path, max_epochs=2, optimizer=own).history) == 2
    assert (len(CALLS), COUNT, len(seen), len(notes.lines)) == (2, 2, 2, 2)
    notes.rate.append(3.0)
    with pytest.raises(ValueError, match=r"by rate of notes of reads of the optimizer: \[1.0\] th"):
        train(model_of(), split, tmp_path, max_epochs=3, optimizer=own)
    notes.rate.pop()
    rates[0] = 0.5
    with pytest.raises(ValueError, match=r"by number 0 of rates of reads of .*: 0\.1 there, 0\.5"):
        train(model_of(), split, tmp_path, max_epochs=3, optimizer=own)


OWN_FUNCTIONS = """
import math

KNOWN = {"a", "b", "c", "d"}


def helper(x):
    return math.sqrt(x) + helper(x - 1) if x > 1 and str(x) not in {"p", "q", "r", "s"} else 0.5


def outer(rate):
    kinds = frozenset(["sgd", "adam", "adagrad"])

    def inner(x, *, kind="sgd"):
        "Its description."
        return helper(x) * rate if kind in kinds and kind not in KNOWN else [x + 1 for _ in KNOWN]

    return inner
"""


def test_function_is_told_the_same_in_another_process_and_after_many_calls(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN_FUNCTIONS)
    outer = runpy.run_path(str(path), run_name="own")["outer"]
    here = described(outer(0.5))
    for _ in range(100):  # CPython writes faster instructions into code that runs often
        outer(0.5)(3)
    assert described(outer(0.5)) == here
    code = (
        "import runpy; from graphseq.training.lightning.identity import described\n"
        f"print(described(runpy.run_path({str(path)!r}, run_name='own')['outer'](0.5)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == str(here)
    path.write_text(OWN_FUNCTIONS.replace("Its description.", "It is described."))
    assert described(runpy.run_path(str(path), run_name="own")["outer"](0.5)) == here
    path.write_text(OWN_FUNCTIONS.replace("else 0.5", "else 0.7"))  # of the helper
    assert described(runpy.run_path(str(path), run_name="own")["outer"](0.5)) != here


def test_earlier_checkpoints_have_functions_by_name_and_code_alone() -> None:
    told = described(two)
    saved = {"the augmentation": {"class": "Own", "by": [f"two {told['code']}", "x"]}}
    check_identity(saved, {"the augmentation": {"class": "Own", "by": [told, "x"]}})
    other = {"the augmentation": {"class": "Own", "by": [described(by_global), "x"]}}
    with pytest.raises(
        ValueError, match=r"by number 0 of by of the augmentation: two .* there, by_"
    ):
        check_identity(saved, other)


# -- what is told of a part -----------------------------------------------------------------------


def test_parts_are_told_apart_by_what_they_hold(split: gs.Split) -> None:
    near, far = (Substitute(split.train, 0.2, steps=n) for n in (1, 2))
    other = Substitute(split.test, 0.2)
    assert described(near) == described(Substitute(split.train, 0.2))
    assert described(near) != described(far)
    assert described(near) != described(other)
    assert described(Compose([near, far])) != described(Compose([far, near]))
    assert described(lambda x: x + 1) != described(lambda x: x * 2)
    assert described(partial(max, 1)) != described(partial(max, 2))
    assert described(np.arange(3)) == described(np.arange(3))
    assert described(np.arange(3)) != described(torch.arange(4))
    assert described({"a": (1, None, 0.5, {3})}) == {"a": [1, None, 0.5, ["3"]]}


def test_further_loss_is_told_by_its_arguments_before_and_after_it_was_prepared(
    split: gs.Split,
) -> None:
    class Watched(DwellTime):
        """One that extends another, as to look at it, is taken for that."""

    fresh, prepared = DwellTime(0.2), Watched(0.2)
    prepared.prepare(model_of(), split.train)
    assert described(fresh) == described(prepared)
    assert described(fresh) == {"class": "DwellTime", "weight": 0.2, "name": "dwell_time"}


def test_features_of_items_are_part_of_the_sessions(split: gs.Split) -> None:
    sizes = [
        replace(split.train, item_features=pd.DataFrame({"size": np.arange(NUM_ITEMS) + n}))
        for n in (0, 1)
    ]
    one, other = (identity_of(model_of(), s, None, None, [], 1) for s in sizes)
    check_identity(one, one)
    with pytest.raises(ValueError, match="by item features of the training sessions"):
        check_identity(one, other)


def test_number_of_processes_is_compared(split: gs.Split) -> None:
    one, two = (identity_of(model_of(), split.train, None, None, [], n) for n in (1, 2))
    with pytest.raises(ValueError, match="by the number of processes: 1 there, 2 here"):
        check_identity(one, two)
