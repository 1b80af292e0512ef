"""Declarations of a model are checked at construction, and used everywhere."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Embedding, Parameter
from torch_geometric.data import Batch

import graphseq as gs
from graphseq.models import MODELS, SASRec, SessionModel, WithUser
from graphseq.models.reading import Additions


class Mean(SessionModel):
    """The mean of the clicked items' embeddings; it records its inputs."""

    def __init__(self, num_items: int, width: int = 4, *, newest: int | None = None) -> None:
        super().__init__(num_items)
        self.max_length = newest
        self.embedding = Embedding(num_items, width)
        self.longest: list[int] = []

    def forward(self, batch: Batch) -> Tensor:
        self.longest.append(int(batch.click_ptr.diff().max()))
        items = self.embedding(batch.click_item)
        total = items.new_zeros(batch.num_graphs, items.size(1))
        total = total.index_add(0, batch.click_batch, items)
        return total / batch.click_ptr.diff().unsqueeze(1)

    def item_weight(self) -> Tensor:
        return self.embedding.weight


class Lively(Mean):
    """Of every click the mean so far, which reads as far back as it is let."""

    samples = "sessions"
    causal = True

    def click_states(self, batch: Batch) -> Tensor:
        self.longest.append(int(batch.click_ptr.diff().max()))
        sums = self.embedding(batch.click_item).cumsum(0)
        before = torch.cat([sums.new_zeros(1, sums.size(1)), sums])[batch.click_ptr[:-1]]
        place = torch.arange(len(sums)) - batch.click_ptr[:-1][batch.click_batch] + 1
        return (sums - before[batch.click_batch]) / place.unsqueeze(1)


def sessions() -> gs.Sessions:
    rng = np.random.default_rng(0)
    return gs.Sessions.from_lists([rng.integers(0, 9, n).tolist() for n in [9, 2, 4, 7] * 5])


DECLARED = [
    ("samples", "session", r"Mine\.samples is one of 'sessions', 'prefixes', .*got 'session'"),
    ("samples", None, r"Mine\.samples is one of .*got None"),
    ("samples", ["sessions"], r"Mine\.samples is one of"),
    ("causal", "yes", r"Mine\.causal must be True or False, got 'yes'"),
    ("keeps_state", 1, r"Mine\.keeps_state must be True or False, got 1"),
    ("max_length", 0, r"Mine\.max_length must be at least 1, got 0"),
    ("max_length", "50", r"Mine\.max_length must be a whole number"),
    ("max_length", True, r"Mine\.max_length must be a whole number"),
    ("traits", "fast", r"Mine\.traits is a graphseq\.models\.Traits or None, got 'fast'"),
]


@pytest.mark.parametrize(("name", "value", "message"), DECLARED)
def test_class_that_declares_nonsense_is_not_made(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        type("Mine", (SessionModel,), {name: value})
    mine = type("Mine", (Mean,), {})(9)
    with pytest.raises(ValueError, match=message):
        setattr(mine, name, value)


@pytest.mark.parametrize("old", ["trained_on", "states_equal_prefixes"])
def test_old_declarations_are_checked_too_and_become_new_ones(old: str) -> None:
    new, value = {"trained_on": ("samples", "sessions")}.get(old, ("causal", True))
    with pytest.warns(DeprecationWarning, match=rf"Mine\.{old} is now Mine\.{new}"):
        mine = type("Mine", (SessionModel,), {old: value})
    assert getattr(mine, new) == value
    with pytest.warns(DeprecationWarning, match=rf"Mine\.{old} is now Mine\.{new}"):
        assert getattr(mine, old) == value
    with pytest.warns(DeprecationWarning, match=rf"Mine\.{old} is now"):
        assert getattr(mine(9), old) == value
    with pytest.raises(ValueError, match=rf"Mine\.{old} "):
        type("Mine", (SessionModel,), {old: "session"})


def test_properties_may_declare() -> None:
    class Mine(Mean):
        @property
        def max_length(self) -> int:  # type: ignore[override]
            return 3

        @max_length.setter
        def max_length(self, value: int | None) -> None: ...

    assert Mine(9).max_length == 3


# -- max_length ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [Mean, Lively])
def test_max_length_of_an_own_model_holds_in_training_evaluation_and_recommendation(
    family: type[Mean],
) -> None:
    model, log = family(9, newest=3), sessions()
    gs.fit(model, log, max_epochs=1, batch_size=8, progress=False)
    assert max(model.longest) == 3
    model.longest.clear()
    gs.evaluate(model, log)
    assert max(model.longest) == 3
    model.longest.clear()
    [long], [short] = model.recommend([[1, 2, 3, 4, 5, 6]], k=9), model.recommend([[4, 5, 6]], k=9)
    assert model.longest == [3, 3]
    assert long == short


@pytest.mark.parametrize("family", [Mean, Lively])
def test_max_length_cuts_evaluation_as_sessions_cut_by_hand(family: type[Mean]) -> None:
    torch.manual_seed(0)
    log = gs.Sessions.from_lists([[5, 6, 1, 2, 3, 4], [7, 8, 0, 1, 3, 3]])
    model = family(log.num_items, newest=2)
    windows = [
        row[max(0, end - 2) : end + 1]
        for row in [[5, 6, 1, 2, 3, 4], [7, 8, 0, 1, 3, 3]]
        for end in range(1, 6)
    ]
    found = gs.evaluate(model, log).ranks["better"].tolist()
    model.max_length = None
    by_hand = [
        gs.evaluate(model, gs.Sessions.from_lists([window], vocabulary=log.vocabulary))
        for window in windows
    ]
    assert found == [report.ranks["better"].iloc[-1] for report in by_hand]


# -- parts owed ----------------------------------------------------------------------------------


def test_parts_that_are_owed_are_named() -> None:
    class Bare(SessionModel):
        def __init__(self, num_items: int) -> None:
            super().__init__(num_items)
            self.weight = Parameter(torch.zeros(num_items, 2))

        def item_weight(self) -> Tensor:
            return self.weight

    log = sessions()
    for call, message in [
        (lambda: Bare(9)(None), r"Bare defines no forward\(batch\)"),
        (lambda: Mean(9).click_states(None), "Mean has no state for every click"),
        (lambda: gs.fit(Bare(9), log, max_epochs=1), r"Bare defines no forward\(batch\)"),
    ]:
        with pytest.raises(NotImplementedError, match=message):
            call()


@pytest.mark.parametrize("base", ["sasrec", "srgnn", "hgru4rec"])
def test_lanes_need_a_model_that_keeps_its_state(base: str) -> None:
    model = WithUser(9, base=base)
    assert not model.keeps_state
    assert WithUser(9, base="gru4rec").keeps_state
    with pytest.raises(ValueError, match="lanes=2 walks through sessions click by click"):
        gs.fit(model, sessions(), lanes=2, loss="bpr_max", max_epochs=1)
    assert [n for n, family in MODELS.items() if family.keeps_state] == ["gru4rec", "lrurec"]


# -- settings ------------------------------------------------------------------------------------


def test_arguments_are_settings_whether_kept_or_not() -> None:
    class Forgetful(Mean):
        def __init__(self, num_items: int, width: int = 4, depth: float = 2.0) -> None:
            super().__init__(num_items, width)

    model = Forgetful(9, depth=np.float64(3.0))
    assert model.settings == {"num_items": 9, "width": 4, "depth": 3.0}
    assert type(model.settings["depth"]) is float
    assert copy.deepcopy(model).settings == model.settings
    assert pickle.loads(pickle.dumps(Mean(9, 5))).settings == Mean(9, 5).settings


def test_arguments_handed_on_are_settings_by_their_names() -> None:
    class Mine(SASRec):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    model = Mine(9, 8, heads=2)
    assert model.settings == {"num_items": 9, "hidden_channels": 8, "heads": 2}
    assert Mine(**model.settings).hidden_channels == 8


def test_what_scores_in_a_way_of_its_own_is_not_ranked_by_its_table() -> None:
    class Flipped(Mean):
        def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
            return -super().score(batch, items)

    assert Mean.scores_by_table
    assert not Flipped.scores_by_table
    torch.manual_seed(0)
    model = Flipped(9)
    other = Mean(9)
    other.load_state_dict(model.state_dict())
    log = sessions()
    flipped = gs.evaluate(model, log).ranks["better"]
    assert flipped.equals(8 - gs.evaluate(other, log).ranks["better"])


def test_what_adds_to_its_table_is_ranked_with_what_it_adds() -> None:
    class Adding(Mean):
        adds_to_table = True

        def additions(self, batch: Batch) -> Additions:
            number = torch.arange(batch.num_graphs)
            return Additions(number, torch.zeros_like(number), torch.full(number.shape, 1e3))

    class Own(Adding):
        def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
            return self.items.scores(self(batch), items)

    class Silent(Mean):
        adds_to_table = True

    class Plain(Adding):
        def additions(self, batch: Batch) -> Any:
            return tuple(super().additions(batch))

    assert not Adding.scores_by_table
    assert not Own.adds_to_table
    torch.manual_seed(0)
    log, plain = sessions(), Mean(9)
    adding, own = Adding(9), Own(9)
    for model in (adding, own):
        model.load_state_dict(plain.state_dict())
        model.attach(log.catalog())
    places = gs.evaluate(adding, log).ranks["better"]
    before = gs.evaluate(plain, log).ranks["better"]
    is_first = np.concatenate([session[1:] for session in np.split(log.items, log.ptr[1:-1])]) == 0
    assert (places[is_first] == 0).all()
    assert ((places - before)[~is_first].isin([0, 1])).all()
    assert (places > before).any()
    assert gs.evaluate(own, log).ranks["better"].equals(before)
    said = r"Plain\.additions must give gs\.models\.Additions.*tuple"
    with pytest.raises(TypeError, match=said):
        Plain(9).score(gs.SessionGraphDataset(log).batch(np.arange(2)))
    with pytest.raises(TypeError, match=said):
        gs.evaluate(Plain(9), log)
    with pytest.raises(
        NotImplementedError, match="declares adds_to_table, but defines no additions"
    ):
        gs.evaluate(Silent(9), log)


def test_declaring_warns_of_nothing() -> None:
    with warnings.catch_warnings(action="error"):
        type("Mine", (SessionModel,), {"samples": "sessions", "max_length": 5, "causal": True})
