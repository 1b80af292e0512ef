"""What a training draws is its own: other threads neither disturb it nor are disturbed by it."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import GRU, Dropout, Linear, MultiheadAttention

import graphseq as gs
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.models.base import SessionModel
from graphseq.nn.chance import source
from graphseq.training.lightning.chance import asks_torch, draws_of
from graphseq.training.lightning.progress import silence_lightning
from graphseq.training.lightning.shared import Shared

NUM_ITEMS = 20
FAMILIES = ("sasrec", "bert4rec", "srgnn", "gru4rec", "gcegnn")


@pytest.fixture(scope="module")
def split() -> gs.Split:
    rng = np.random.default_rng(0)
    lists = [
        [(start + int(step)) % NUM_ITEMS for step in rng.integers(0, 4, size=2 + start % 5)]
        for start in range(4 * NUM_ITEMS)
    ]
    return gs.session_split(gs.Sessions.from_lists(lists), 0.2, seed=0, validation=0.2)


def model_of(name: str) -> SessionModel:
    torch.manual_seed(0)
    layers = {"num_layers": 2} if name == "gru4rec" else {}
    return gs.models.MODELS[name](NUM_ITEMS, 8, dropout=0.3, **layers)


def weights(model: SessionModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def train(model: SessionModel, split: gs.Split, seed: int, **options: Any) -> None:
    options = {"max_epochs": 2, "batch_size": 16, "learning_rate": 0.01, **options}
    gs.fit(model, split, seed=seed, progress=False, **options)


def beside(first: Callable[[], object], second: Callable[[], object]) -> None:
    """Does the second again and again in a thread of its own until the first is done."""
    over = threading.Event()

    def again() -> None:
        while not over.is_set():
            second()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        first()
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("name", FAMILIES)
def test_two_fits_in_two_threads_are_bit_equal_to_each_alone(name: str, split: gs.Split) -> None:
    alone, together = ([model_of(name) for _ in range(2)] for _ in range(2))
    for seed, model in enumerate(alone):
        train(model, split, seed)
    turn = threading.Barrier(2)  # step by step, so that their draws do alternate

    def taking_turns(row: Any) -> None:
        turn.wait(60)

    threads = [
        threading.Thread(target=train, args=(m, split, s), kwargs={"on_epoch": taking_turns})
        for s, m in enumerate(together)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(weights(one), weights(other))
    assert not torch.equal(weights(alone[0]), weights(alone[1]))


def test_what_another_thread_draws_or_loads_changes_no_fit(split: gs.Split, tmp_path: Path) -> None:
    alone, model = model_of("sasrec"), model_of("sasrec")
    train(alone, split, 1)
    alone.save(tmp_path / "model")

    def disturb() -> None:
        torch.manual_seed(5)
        torch.rand(3)
        gs.load(tmp_path / "model")

    beside(lambda: train(model, split, 1), disturb)
    assert torch.equal(weights(model), weights(alone))


def test_fit_changes_nothing_that_another_thread_draws(split: gs.Split) -> None:
    torch.manual_seed(3)
    expected = torch.rand(5)
    drawn: list[Tensor] = []

    def draw(row: Any) -> None:
        drawn.append(torch.rand(5))

    model = model_of("sasrec")
    torch.manual_seed(3)
    train(model, split, 1, on_epoch=draw, auxiliary=[Random()])
    assert torch.equal(drawn[0], expected)


class Random(gs.training.Auxiliary):
    """A further loss with weights of its own, that are drawn when it is prepared."""

    def __init__(self) -> None:
        super().__init__("random", 0.1)

    def prepare(self, model: SessionModel, sessions: Any) -> None:
        self.lin = Linear(8, 1)

    def forward(self, step: gs.training.Step) -> Tensor:
        return self.lin(step.vectors).square().mean()


Random.__module__ = "graphseq.tests"  # one of this package, of which it is known what it draws


class OwnDropout(gs.models.SASRec):
    """A family with a layer that draws from torch's own generator."""

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items, 8, dropout=0.3)
        self.further = Dropout(0.3)

    def click_states(self, batch: Any) -> Tensor:
        states: Tensor = self.further(super().click_states(batch))
        return states


def test_layer_that_draws_from_torch_is_seeded_and_leaves_the_callers_state(
    split: gs.Split,
) -> None:
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        models.append(OwnDropout(NUM_ITEMS))
        torch.manual_seed(len(models))
        state = torch.get_rng_state()
        train(models[-1], split, seed)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not torch.equal(weights(models[0]), weights(models[2]))


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Linear(2, 2), False),
        (gs.models.GRU4Rec(5, 4, 2, dropout=0.5), False),
        (gs.models.BERT4Rec(5, 4, dropout=0.5), False),
        (OwnDropout(5), True),
        (Dropout(0.1), True),
        (GRU(2, 2, 2, dropout=0.1), True),
        (GRU(2, 2, 2), False),
        (MultiheadAttention(2, 1, dropout=0.1), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_modules_that_may_draw_from_torch_are_known(
    module: torch.nn.Module, expected: bool
) -> None:
    assert asks_torch([Linear(1, 1), module]) is expected


@pytest.mark.parametrize("name", sorted(set(gs.models.MODELS) - {"with_user"}))
def test_families_draw_all_their_dropout_from_the_run(name: str, split: gs.Split) -> None:
    family = gs.models.MODELS[name]
    if family.samples == "counts":
        return
    model = family(NUM_ITEMS)
    assert not asks_torch([model])
    samples = "sessions" if family.samples in ("sessions", "cloze") else "prefixes"
    dataset = SessionGraphDataset(split.train, samples)
    model.attach(split.catalog)
    model.attach(None, split.train)
    batch = dataset.batch(range(30))
    model.train()
    read = model.score if family.samples == "pairs" else model
    state = torch.get_rng_state()
    outputs = []
    for seed in (1, 1, 2):
        with torch.no_grad(), draws_of(seed, torch.device("cpu"), from_torch=False):
            outputs.append(read(batch))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert source(torch.device("cpu")) is None


def test_shared_change_is_made_by_the_first_and_taken_back_by_the_last() -> None:
    events: list[str] = []

    class Change:
        def __enter__(self) -> None:
            events.append("made")

        def __exit__(self, *_: object) -> None:
            events.append("taken back")

    shared = Shared(Change)  # type: ignore[arg-type]
    first, second = shared(), shared()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert events == ["made"]
    second.__exit__(None, None, None)
    assert events == ["made", "taken back"]
    with pytest.raises(KeyError), shared():
        raise KeyError
    assert events == ["made", "taken back"] * 2


def test_quiet_of_two_threads_leaves_levels_and_filters_as_they_were() -> None:
    log = logging.getLogger("pytorch_lightning")
    before, filters = log.level, list(warnings.filters)
    first, second = silence_lightning(), silence_lightning()
    first.__enter__()
    second.__enter__()
    assert log.level == logging.WARNING
    first.__exit__(None, None, None)
    assert log.level == logging.WARNING
    second.__exit__(None, None, None)
    assert log.level == before
    assert list(warnings.filters) == filters
