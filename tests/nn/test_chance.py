"""Draws from a separate generator: the same numbers as with a seed, without side effects."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from graphseq.models import MODELS
from graphseq.nn.chance import OwnDraws, drawing_from, source
from graphseq.nn.dropout import dropout

DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(5),
    "randn": lambda: torch.randn(5),
    "randint": lambda: torch.randint(3, 99, (5,)),
    "randperm": lambda: torch.randperm(9),
    "rand_like": lambda: torch.rand_like(torch.ones(5)),
    "uniform_": lambda: torch.empty(5).uniform_(-1, 1),
    "normal": lambda: torch.normal(0.0, 1.0, (5,)),
    "multinomial": lambda: torch.multinomial(torch.ones(9), 4),
    "dropout": lambda: torch.nn.functional.dropout(torch.ones(20)),
    "layer": lambda: torch.nn.Linear(3, 2).weight.detach(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_own_draws_are_those_after_a_seed_and_leave_torchs_state(name: str) -> None:
    torch.manual_seed(4)
    expected = DRAWS[name]()
    torch.manual_seed(9)
    state = torch.get_rng_state()
    with OwnDraws(4):
        drawn = DRAWS[name]()
    assert torch.equal(drawn, expected)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", MODELS)
def test_first_weights_by_own_draws_are_those_after_a_seed(name: str) -> None:
    torch.manual_seed(4)
    expected = MODELS[name](30).state_dict()
    state = torch.get_rng_state()
    with OwnDraws(4):
        made = MODELS[name](30).state_dict()
    assert all(torch.equal(made[key], expected[key]) for key in expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_draws_from_the_generator_of_its_thread_alone() -> None:
    x = torch.ones(1000)
    torch.manual_seed(4)
    expected = dropout(x, 0.5)
    found: dict[str, Tensor] = {}

    def elsewhere() -> None:
        assert source(torch.device("cpu")) is None
        found["other"] = dropout(x, 0.5)

    torch.manual_seed(8)
    of_torch = dropout(x, 0.5)
    torch.manual_seed(8)
    with drawing_from(torch.Generator().manual_seed(4)):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        found["own"] = dropout(x, 0.5)
    assert torch.equal(found["own"], expected)
    assert torch.equal(found["other"], of_torch)


def test_generator_of_another_device_is_not_asked() -> None:
    with drawing_from(torch.Generator().manual_seed(4)):
        assert source(torch.device("cpu")) is not None
        assert source(torch.device("cuda")) is None
