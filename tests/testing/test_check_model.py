"""The checker of models: a correct model passes, and each wrong one fails with its own message."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.nn import global_mean_pool

import graphseq as gs
from graphseq.models import CountingModel, SessionModel
from graphseq.testing import ModelCheckError, check_model, model_checks


class Own(SessionModel):
    """The mean of a session's items, through one layer."""

    def __init__(self, num_items: int, hidden_channels: int = 8) -> None:
        super().__init__(num_items)
        self.item = torch.nn.Embedding(num_items, hidden_channels)
        self.lin = torch.nn.Linear(hidden_channels, hidden_channels)

    def forward(self, batch: Batch) -> Tensor:
        x = self.item(batch.click_item)  # [num_clicks, d]
        mean: Tensor = global_mean_pool(x, batch.click_batch, batch.num_graphs)
        out: Tensor = self.lin(mean)
        return out

    def item_weight(self) -> Tensor:
        return self.item.weight


class Newest(Own):
    """It sees the newest three clicks, and counts its training sessions in a buffer."""

    max_length = 3
    item_counts: Tensor

    def __init__(self, num_items: int, hidden_channels: int = 8) -> None:
        super().__init__(num_items, hidden_channels)
        self.register_buffer("item_counts", torch.zeros(num_items))

    def attach(self, catalog: Any, sessions: Any = None) -> None:
        super().attach(catalog, sessions)
        if sessions is not None:
            self.item_counts.copy_(torch.from_numpy(sessions.catalog().counts))


class States(Own):
    """The state of a click is that of its item alone."""

    samples = "sessions"
    causal = True

    def click_states(self, batch: Batch) -> Tensor:
        out: Tensor = self.lin(self.item(batch.click_item))
        return out

    def forward(self, batch: Batch) -> Tensor:
        return self.click_states(batch)[batch.click_ptr[1:] - 1]


class Streaming(States):
    """It also streams: the state is the last item."""

    keeps_state = True

    def initial_state(self) -> Tensor:
        return torch.tensor([-1])

    def update_state(self, state: Tensor, item: Any) -> Tensor:
        code = torch.as_tensor(item).view(1)
        return state if int(code) < 0 else code

    def score_state(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        return self.score_vectors(self.lin(self.item(state)), items)[0]


class Counts(CountingModel):
    """Clicks of each item."""

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        share = self.popularity().repeat(batch.num_graphs, 1)
        if items is None:
            return share
        return share.gather(1, items.expand(batch.num_graphs, -1))


@pytest.mark.parametrize("family", [Own, Newest, States, Streaming, Counts])
def test_right_model_passes_all_checks(family: type[SessionModel]) -> None:
    names = check_model(family)
    assert names == [check.name for check in model_checks(family)]
    assert len(names) == len(set(names)) > 15


def test_model_with_further_arguments_is_built_with_them() -> None:
    class Wide(Own):
        def __init__(self, num_items: int, width: int) -> None:
            super().__init__(num_items, width)

    check_model(Wide, width=5)
    check_model(lambda num_items: Wide(num_items, 4))
    with pytest.raises(ValueError, match=r"Wide\(num_items=12\) cannot be built .*'width'.*pass"):
        check_model(Wide)


class WrongNumItems(Own):
    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.num_items = 3


class NoForward(SessionModel):
    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.item = torch.nn.Embedding(num_items, 4)


class NothingLearns(Own):
    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.requires_grad_(False)


class CausalWithoutStates(Own):
    causal = True


class CountsUndeclared(Counts):
    samples = "prefixes"


class HiddenArgument(Own):
    def __init__(self, num_items: int, *widths: int) -> None:
        super().__init__(num_items)
        if len(widths) > 9:
            raise ValueError


class Drawn(Own):
    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        generator = torch.Generator()
        generator.seed()
        torch.nn.init.normal_(self.lin.weight, generator=generator)


class TakesAnyNumber(Own):
    def __init__(self, num_items: Any) -> None:
        super().__init__(12)


class AllInTraining(Newest):
    @property
    def max_length(self) -> int | None:  # type: ignore[override]
        return None if self.training else 3


class NotANumber(Own):
    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch) / (batch.click_ptr.diff() - 1).view(-1, 1)


class Dropping(Own):
    def forward(self, batch: Batch) -> Tensor:
        return torch.nn.functional.dropout(super().forward(batch), training=True)


class PerNode(Own):
    def forward(self, batch: Batch) -> Tensor:
        out: Tensor = self.lin(self.item(batch.x))
        return out


class StatesPerNode(States):
    def click_states(self, batch: Batch) -> Tensor:
        out: Tensor = self.lin(self.item(batch.x))
        return out

    def forward(self, batch: Batch) -> Tensor:
        return Own.forward(self, batch)


class Narrow(Own):
    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch)[:, :3]


class Leaking(Own):
    def forward(self, batch: Batch) -> Tensor:
        out = super().forward(batch)
        return out - out.mean(0)


class AllInfinite(Own):
    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        return torch.full_like(super().score(batch, items), -torch.inf)


class IgnoresCandidates(Own):
    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        scores = super().score(batch)
        return scores if items is None else scores[:, : items.size(-1)]


class Unused(Own):
    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.forgotten = torch.nn.Linear(3, 3, bias=False)


class Numbers(Own):
    def forward(self, batch: Batch) -> Tensor:
        mean = global_mean_pool(batch.click_item.float(), batch.click_batch, batch.num_graphs)
        out: Tensor = super().forward(batch) + mean.view(-1, 1)
        return out


class SeesLater(States):
    def click_states(self, batch: Batch) -> Tensor:
        mean = global_mean_pool(self.item(batch.click_item), batch.click_batch, batch.num_graphs)
        return super().click_states(batch) + mean[batch.click_batch]


class SeesLaterSecretly(SeesLater):
    causal = False


class TimedSecretly(States):
    def click_states(self, batch: Batch) -> Tensor:
        return super().click_states(batch) * (1 + batch.click_time % 7).float().unsqueeze(1)


class CausalSecretly(States):
    samples = "prefixes"
    causal = False


class StateInPlace(Streaming):
    def update_state(self, state: Tensor, item: Any) -> Tensor:
        code = int(item)
        return state if code < 0 else state.fill_(code)


class StateOfTheFirst(Streaming):
    def update_state(self, state: Tensor, item: Any) -> Tensor:
        return super().update_state(state, item) if int(state) < 0 else state


class StateTakesUnknown(Streaming):
    def update_state(self, state: Tensor, item: Any) -> Tensor:
        return torch.as_tensor(item).view(1).clamp(min=0)


class StateGrows(Streaming):
    def update_state(self, state: Tensor, item: Any) -> Tensor:
        code = torch.as_tensor(item).view(1)
        return state if int(code) < 0 else torch.cat([code, state])

    def score_state(self, state: Tensor, items: Tensor | None = None) -> Tensor:
        return super().score_state(state[:1], items)


class NoState(States):
    keeps_state = True


class ForgetsNothing(Counts):
    def fit_counts(self, sessions: gs.Sessions) -> Any:
        before = self.item_counts
        super().fit_counts(sessions)
        self.item_counts = self.item_counts + (before if before.numel() else 0)
        return self


class Unsaved(Own):
    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.shift = torch.zeros(num_items)

    def attach(self, catalog: Any) -> None:
        super().attach(catalog)
        self.shift = torch.as_tensor(catalog.counts).float()

    def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
        scores = super().score(batch) + self.shift
        if items is None:
            return scores
        return scores.gather(1, items.expand(batch.num_graphs, -1))


class Fails(Own):
    def forward(self, batch: Batch) -> Tensor:
        raise RuntimeError("mat1 and mat2\ncannot be multiplied")


class ShortTargets(Own):
    def training_vectors(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self(batch), batch.y[:-1]


class FarTargets(Own):
    def training_vectors(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self(batch), batch.y + 12


class EmptyFails(Own):
    def forward(self, batch: Batch) -> Tensor:
        out = super().forward(batch)
        return out.view(batch.num_graphs, -1)


@pytest.mark.parametrize(
    ("family", "name", "message"),
    [
        (WrongNumItems, "declarations", "built for 12 items has num_items=3"),
        (NoForward, "declarations", "defines neither forward(batch) nor score(batch, items=None)"),
        (NothingLearns, "declarations", "has no parameter that learns"),
        (CausalWithoutStates, "declarations", "causal=True, but defines no click_states(batch)"),
        (CountsUndeclared, "declarations", "declares samples='prefixes' and is a CountingModel"),
        (Drawn, "arguments_kept", "has another lin.weight: let first weights depend on torch's"),
        (TakesAnyNumber, "wrong_arguments", "is built with num_items=0: call super().__init__"),
        (NotANumber, "finite_scores", "scores the session [7] with NaN or infinity"),
        (AllInfinite, "finite_scores", "scores every item of every session with -inf"),
        (Dropping, "finite_scores", "differently the second time: use dropout and random draws in"),
        (
            PerNode,
            "finite_scores",
            "forward must give shape [5, 8] here, one row per session, got [16",
        ),
        (Narrow, "finite_scores", "mat1 and mat2 shapes cannot be multiplied (5x3 and 8x12)"),
        (Narrow, "shapes", "forward of 5 sessions gives shape [5, 3], wanted [5, 8]"),
        (
            StatesPerNode,
            "shapes",
            "must give shape [22, 8] here, one row per click, got [16, 8]",
        ),
        (Leaking, "alone_or_in_a_batch", "scores the session [3, 5, 3, 0] differently alone and"),
        (EmptyFails, "empty_batch", "cannot reshape tensor of 0 elements"),
        (IgnoresCandidates, "candidates", "with items of shape [4] differs from those columns"),
        (Unused, "gradients", "never uses forgotten.weight: no gradient reaches it"),
        (Numbers, "item_codes", "numbered in another order"),
        (ShortTargets, "samples", "trains on 6 vectors with 5 targets"),
        (FarTargets, "samples", "they are codes below 12"),
        (SeesLater, "causal", "declares causal=True, but the states of the clicks"),
        (SeesLaterSecretly, "causal", "it sees what it is to predict"),
        (TimedSecretly, "times", "at other times differently: declare reads_times = True"),
        (CausalSecretly, "causal", "declares causal=False, but the states of its clicks are"),
        (NoState, "streaming", "declares keeps_state=True, but has no initial_state()"),
        (StateInPlace, "streaming", "changes its input state"),
        (StateOfTheFirst, "streaming", "scores [10, 9] differently click by click and from its"),
        (StateTakesUnknown, "streaming", "update_state with -1, an unknown item, changes"),
        (StateGrows, "streaming", "its states have shapes [(2,), (3,)"),
        (SeesLater, "evaluation", "check causal, max_length and score"),
        (AllInTraining, "max_length", "declares max_length=3, but training on a longer session"),
        (Unsaved, "save_and_load", "loaded again scores differently (by up to"),
        (ForgetsNothing, "fit_again", "fitted a second time remembers the first in item_counts"),
        (Fails, "finite_scores", "RuntimeError: mat1 and mat2"),
    ],
)
def test_wrong_model_fails_by_one_sentence(
    family: type[SessionModel], name: str, message: str
) -> None:
    checks = {check.name: check for check in model_checks(family)}
    with pytest.raises(ModelCheckError, match=re.escape(message)) as raised:
        checks[name]()
    text = str(raised.value)
    assert text.startswith(family.__name__)
    assert "\n" not in text
    assert text.endswith((".", "multiplied (5x3 and 8x12)", "mat2", "ambiguous"))
    with pytest.raises(ModelCheckError):
        check_model(family)


def test_check_that_is_left_out_is_not_made() -> None:
    with pytest.raises(ModelCheckError):
        check_model(Numbers)
    names = check_model(Numbers, leave_out=["item_codes"])
    assert "item_codes" not in names
    with pytest.raises(ValueError, match="There is no check 'codes': the checks are declarations,"):
        check_model(Numbers, leave_out=["codes"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Own(12), r"got one that is built: pass its class, check_model\(Own, ...\)"),
        (
            torch.nn.Linear,
            "Linear is not a model: inherit from graphseq.models.SessionModel",
        ),
        (lambda num_items: 3, r"gave int\."),
        ("srgnn", "a class of models or a function of num_items that builds one, got 'srgnn'"),
    ],
)
def test_what_builds_no_model_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_model(given)


def test_checks_leave_torchs_random_state_and_the_models_class_alone() -> None:
    before = torch.get_rng_state()
    check_model(Streaming)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_check_says_its_name_and_what_it_asks() -> None:
    for check in model_checks(Own):
        assert str(check) == check.name
        assert check.asks[0].isupper()
        assert len(check.asks) > 20
