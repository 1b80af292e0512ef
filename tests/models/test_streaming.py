"""Click by click in every family that streams: unknown clicks are skipped, wrong ones named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from graphseq.models import MODELS, SessionModel

NUM_ITEMS = 9
STREAMING = [name for name, family in MODELS.items() if hasattr(family, "initial_state")]


def built(name: str) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_channels": 8}
    arguments: dict[str, dict[str, Any]] = {
        "with_user": {"num_users": 3, "base": "sasrec", "arguments": {**sizes, "heads": 2}},
        "sasrec": {**sizes, "heads": 2},
        "bert4rec": {**sizes, "heads": 2},
    }
    model: SessionModel = MODELS[name](NUM_ITEMS, **arguments.get(name, sizes))
    return model.eval()


def flat(state: Any) -> Tensor:
    return (
        torch.cat([torch.as_tensor(part).view(-1).double() for part in state])
        if isinstance(state, tuple)
        else state
    )


@pytest.mark.parametrize("name", STREAMING)
def test_update_state_of_an_unknown_click_leaves_the_state(name: str) -> None:
    model = built(name)
    with torch.no_grad():
        state = model.update_state(model.initial_state(), 4)
        skipped = model.update_state(state, -1)
        assert torch.equal(flat(skipped), flat(state))
        later = [model.update_state(each, np.int64(2)) for each in (state, skipped)]
        assert torch.equal(flat(later[0]), flat(later[1]))
        first = model.update_state(model.update_state(model.initial_state(), -1), torch.tensor(4))
        assert torch.equal(flat(first), flat(state))
        assert torch.equal(model.score_state(first), model.score_state(state))


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize(
    ("item", "message"),
    [
        (NUM_ITEMS, r"item must be the code of an item in 0\.\.8, or -1 .*, got 9\."),
        (-2, r"item must be the code of an item in 0\.\.8, or -1 .*, got -2\."),
        (1.0, r"a whole number in 0\.\.8, or -1 for an unknown one, got 1\.0: model.catalog"),
        (True, r"a whole number in 0\.\.8, .* got True"),
        ("shoe", r"a whole number in 0\.\.8, .* got 'shoe'"),
        (None, r"a whole number in 0\.\.8, .* got None"),
        (torch.tensor(1.0), r"a whole number in 0\.\.8, .* got tensor\(1\.\)"),
        ([1, 2], r"got (shape )?\[2\]"),
    ],
)
def test_update_state_of_what_is_no_code_is_refused(name: str, item: Any, message: str) -> None:
    model = built(name)
    with pytest.raises(ValueError, match=message):
        model.update_state(model.initial_state(), item)


@pytest.mark.parametrize("name", ["gru4rec", "hgru4rec"])
def test_update_state_of_several_sessions_skips_the_unknown_clicks_alone(name: str) -> None:
    model = built(name)
    with torch.no_grad():
        state = model.update_state(model.initial_state(3), torch.tensor([1, 2, 3]))
        later = model.update_state(state, [4, -1, 5])
        whole = model.update_state(state, torch.tensor([4, 0, 5]))
    rows = (lambda s: s.unbind(1)) if name == "gru4rec" else (lambda s: s.unbind(0))
    expected = [rows(whole)[0], rows(state)[1], rows(whole)[2]]
    for found, wanted in zip(rows(later), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("user", "message"),
    [(3, "user below 3, or -1 for an unknown one, got 3"), (1.0, "user must be a whole number")],
)
def test_initial_state_of_a_user_that_is_none_is_refused(user: Any, message: str) -> None:
    for model in (built("with_user"), MODELS["caser"](NUM_ITEMS, 8, num_users=3)):
        with pytest.raises(ValueError, match=message):
            model.initial_state(user)
        model.initial_state(2)
        model.initial_state(-1)
