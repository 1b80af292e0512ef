"""One checker for every model in MODELS, on the same sessions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models import (
    BST,
    MODELS,
    SRGNN,
    TAGNN,
    BERT4Rec,
    BSTRanker,
    Caser,
    CountingModel,
    GRU4Rec,
    SASRec,
    SessionModel,
)
from graphseq.models.use.grow import grow
from graphseq.models.use.persistence import load

NUM_ITEMS = 12
NUM_USERS = 3
SESSION_CLICKS = 3
TRAIN = [[0, 3, 5, 3], [5, 3], [7], [1, 1, 1, 2], [11, 0, 3], [4, 8, 9, 10, 6, 0], [2, 2, 5]]
QUERIES = [
    [3, 5, 3, 0],
    [7],  # one click
    [2, 2, 2],  # one item, repeated
    [0, 3],
    [10, 9, 4, 9, 10, 1, 6, 8, 0, 3, 5, 5],
]

VARIANTS: dict[str, Callable[[], SessionModel]] = {
    "popularity": lambda: MODELS["popularity"](NUM_ITEMS),
    "markov": lambda: MODELS["markov"](NUM_ITEMS),
    "markov-plain-2": lambda: MODELS["markov"](NUM_ITEMS, order=2, backoff=0),
    "markov-decayed": lambda: MODELS["markov"](NUM_ITEMS, order=2, half_life=4.0),
    "session_popularity": lambda: MODELS["session_popularity"](NUM_ITEMS),
    "recency": lambda: MODELS["recency"](NUM_ITEMS),
    "sequential_rules": lambda: MODELS["sequential_rules"](NUM_ITEMS),
    "sequential_rules-plain-3": lambda: MODELS["sequential_rules"](
        NUM_ITEMS, 3, weight="linear", last_clicks=3, backoff=0
    ),
    "item_knn": lambda: MODELS["item_knn"](NUM_ITEMS),
    "item_knn-nearest-2": lambda: MODELS["item_knn"](
        NUM_ITEMS, 2, regularization=0, last_clicks=None, backoff=0
    ),
    "vsknn": lambda: MODELS["vsknn"](NUM_ITEMS),
    "vsknn-two-of-three": lambda: MODELS["vsknn"](
        NUM_ITEMS, 2, 3, decay="log", half_life=2.0, idf_weight=1.0, last_clicks=4, backoff=0
    ),
    "vstan": lambda: MODELS["vstan"](NUM_ITEMS),
    "vstan-two-of-three": lambda: MODELS["vstan"](NUM_ITEMS, 2, 3, half_life=2.0, backoff=0),
    "srgnn": lambda: SRGNN(NUM_ITEMS, 8),
    "srgnn-binary-2": lambda: SRGNN(NUM_ITEMS, 8, 2, edge_weight="binary", hybrid=False),
    "srgnn-decayed": lambda: SRGNN(
        NUM_ITEMS, 8, edge_weight="decayed", half_life=2.0, half_life_unit="clicks"
    ),
    "srgnn-normalized": lambda: SRGNN(NUM_ITEMS, 8, normalize=True, dropout=0.2),
    "srgnn-softmax": lambda: SRGNN(NUM_ITEMS, 8, readout="softmax", max_length=4),
    "srgnn-last": lambda: SRGNN(NUM_ITEMS, 8, readout="last"),
    "srgnn-mean": lambda: SRGNN(NUM_ITEMS, 8, readout="mean", hybrid=False),
    "srgnn-sum": lambda: SRGNN(NUM_ITEMS, 8, readout="sum"),
    "tagnn": lambda: TAGNN(NUM_ITEMS, 8),
    "tagnn-2": lambda: TAGNN(NUM_ITEMS, 8, 2, edge_weight="binary", max_length=4),
    "gcegnn": lambda: MODELS["gcegnn"](NUM_ITEMS, 8),
    "gcegnn-near": lambda: MODELS["gcegnn"](
        NUM_ITEMS, 8, num_neighbors=11, steps=1, dropout=0.2, max_length=4
    ),
    "sgnnhn": lambda: MODELS["sgnnhn"](NUM_ITEMS, 8),
    "sgnnhn-3": lambda: MODELS["sgnnhn"](NUM_ITEMS, 8, 3, dropout=0.2, max_length=4),
    "gru4rec": lambda: GRU4Rec(NUM_ITEMS, 8),
    "gru4rec-separate": lambda: GRU4Rec(NUM_ITEMS, 8, 2, embedding="separate", dropout=0.3),
    "gru4rec-normalized": lambda: GRU4Rec(NUM_ITEMS, 8, normalize=True, scale=5.0),
    "gru4rec-widths": lambda: GRU4Rec(
        NUM_ITEMS, 8, embedding="separate", embedding_channels=5, lower_channels=[6, 9]
    ),
    "sasrec": lambda: SASRec(NUM_ITEMS, 8),
    "sasrec-short": lambda: SASRec(NUM_ITEMS, 8, max_length=3),
    "sasrec-normalized": lambda: SASRec(NUM_ITEMS, 8, normalize=True, scale=5.0),
    "sasrec-ligr": lambda: SASRec(NUM_ITEMS, 8, heads=2, block="ligr"),
    "sasrec-rotary": lambda: SASRec(NUM_ITEMS, 8, heads=2, positions="rotary"),
    "bert4rec": lambda: BERT4Rec(NUM_ITEMS, 8),
    "bert4rec-short": lambda: BERT4Rec(NUM_ITEMS, 8, max_length=3, positions="end"),
    "sasrec-none": lambda: SASRec(NUM_ITEMS, 8, positions="none"),
    "sasrec-end": lambda: SASRec(NUM_ITEMS, 8, positions="end", block="published", expansion=1),
    "bsarec": lambda: MODELS["bsarec"](NUM_ITEMS, 8),
    "bsarec-short": lambda: MODELS["bsarec"](NUM_ITEMS, 8, 1, heads=2, c=3, max_length=5),
    "bsarec-causal": lambda: MODELS["bsarec"](
        NUM_ITEMS, 8, filter="moving_average", c=2, max_length=4
    ),
    "hstu": lambda: MODELS["hstu"](NUM_ITEMS, 8),
    "hstu-plain": lambda: MODELS["hstu"](
        NUM_ITEMS, 8, 1, heads=2, max_length=3, time="none", normalize=False
    ),
    "core": lambda: MODELS["core"](NUM_ITEMS, 8),
    "core-mean": lambda: MODELS["core"](NUM_ITEMS, 8, 0, max_length=3),
    "caser": lambda: Caser(NUM_ITEMS, 8),
    "caser-constrained": lambda: Caser(NUM_ITEMS, 8, embedding="constrained"),
    "caser-vertical": lambda: Caser(NUM_ITEMS, 8, max_length=3, num_horizontal=0),
    "caser-users": lambda: Caser(NUM_ITEMS, 8, heights=[2, 3, 4], num_users=NUM_USERS, targets=3),
    "hgru4rec": lambda: MODELS["hgru4rec"](NUM_ITEMS, 8),
    "hgru4rec-all": lambda: MODELS["hgru4rec"](
        NUM_ITEMS, 8, 5, variant="all", embedding="separate", dropout=0.3, user_dropout=0.2
    ),
    "with_user": lambda: MODELS["with_user"](
        NUM_ITEMS, NUM_USERS, arguments={"hidden_channels": 8}
    ),
    "with_user-srgnn": lambda: MODELS["with_user"](
        NUM_ITEMS, NUM_USERS, "srgnn", arguments={"hidden_channels": 8}
    ),
    "bst": lambda: BST(NUM_ITEMS, 8),
    "bst-features": lambda: BST(NUM_ITEMS, 8, 2, max_length=3, item_features=ITEM_FEATURES),
    "bst_ranker": lambda: BSTRanker(NUM_ITEMS, 8, mlp_channels=[16, 8]),
    "bst_ranker-features": lambda: BSTRanker(
        NUM_ITEMS, 8, 2, max_length=4, item_features=ITEM_FEATURES, mlp_channels=[]
    ),
}
ITEM_FEATURES = [
    {"name": "kind", "kind": "categorical", "size": 3},
    {"name": "price", "kind": "numeric", "boundaries": [2.0, 5.0]},
    {"name": "tags", "kind": "multi_hot", "values": ["a", "b", "c"], "separator": "|"},
]
ITEM_TABLE = pd.DataFrame(
    {
        "kind": np.arange(NUM_ITEMS) % 4 - 1,  # -1: unknown
        "price": np.append(np.arange(NUM_ITEMS - 1), np.nan),
        "tags": ["a|b", "b", "", "a|b|c"] * 3,
    }
)
NEURAL = [
    name
    for name in VARIANTS
    if not issubclass(MODELS.get(name.split("-")[0], SessionModel), CountingModel)
]
COUNTING = [name for name in VARIANTS if name not in NEURAL]


def train_sessions(order: list[int] | None = None) -> Sessions:
    """The training sessions; with ``order``, item ``i`` has code ``order.index(i)``."""
    vocabulary = Vocabulary(np.arange(NUM_ITEMS) if order is None else np.array(order))
    sessions = Sessions.from_lists(TRAIN, vocabulary=vocabulary)
    table = ITEM_TABLE if order is None else ITEM_TABLE.take(order).reset_index(drop=True)
    return replace(sessions, item_features=table)


def build(name: str, sessions: Sessions | None = None) -> SessionModel:
    sessions = train_sessions() if sessions is None else sessions
    torch.manual_seed(0)
    model = VARIANTS[name]()
    model.attach(sessions.catalog())
    model.prepare(sessions)
    return model.fit_counts(sessions) if isinstance(model, CountingModel) else model.eval()


def as_batch(sessions: list[list[int]], users: list[int] | None = None) -> Batch:
    """Their graphs: with a user each, by length where not given, and as histories of sessions.

    What a session has depends on itself alone, so that it is the same in any batch.
    """
    lengths = [len(session) for session in sessions]
    ptr = torch.from_numpy(np.concatenate(([0], np.cumsum(lengths))))
    items = torch.tensor([item for session in sessions for item in session])
    user = torch.tensor([n % (NUM_USERS + 1) - 1 for n in lengths] if users is None else users)
    place = torch.cat([torch.arange(n) for n in lengths])
    fields = {"click_session": place // SESSION_CLICKS, "click_time": place**3}
    return build_session_graphs(items, ptr, click_fields=fields, session_fields={"user": user})


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_models_every_registered_class_is_checked_here() -> None:
    assert {name.split("-")[0] for name in VARIANTS} == set(MODELS)
    assert all(type(VARIANTS[name]()) is MODELS[name.split("-")[0]] for name in VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_model_scores_are_finite_or_minus_infinity_of_the_right_shape(name: str) -> None:
    scores = build(name).score(as_batch(QUERIES))
    assert scores.shape == (len(QUERIES), NUM_ITEMS)
    assert scores.is_floating_point()
    assert (scores.isfinite() | scores.isneginf()).all()
    assert scores.isfinite().any()


@pytest.mark.parametrize("name", NEURAL)
def test_model_every_parameter_gets_a_gradient(name: str) -> None:
    # Some lie behind a ReLU, which at this width may be shut for a few sessions: ask many.
    generator = torch.Generator().manual_seed(1)
    lists = [torch.randint(NUM_ITEMS, (9,), generator=generator).tolist() for _ in range(20)]
    model = build(name)
    scores = model.score(as_batch(lists + QUERIES))
    scores.log_softmax(-1)[:, 0].sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("name", VARIANTS)
def test_model_session_alone_equals_itself_in_a_batch(name: str) -> None:
    model = build(name)
    together = model.score(as_batch(QUERIES))
    alone = torch.cat([model.score(as_batch([session])) for session in QUERIES])
    close(alone, together)


@pytest.mark.parametrize("name", VARIANTS)
def test_model_scores_do_not_depend_on_the_order_of_sessions(name: str) -> None:
    model = build(name)
    close(model.score(as_batch(QUERIES[::-1])).flip(0), model.score(as_batch(QUERIES)))


@pytest.mark.parametrize("name", VARIANTS)
def test_model_renumbered_items_give_renumbered_scores(name: str) -> None:
    order = torch.randperm(NUM_ITEMS, generator=torch.Generator().manual_seed(2))
    code = order.argsort()  # new code of each item
    model = build(name)
    other = build(name, train_sessions(order.tolist()))
    if name in NEURAL:
        state = dict(model.named_parameters())
        tables = [key for key, value in state.items() if value.shape[:1] == (NUM_ITEMS,)]
        assert tables
        # What attach made of the catalogue is in the new codes already.
        kept = {**other.state_dict(), **state}
        other.load_state_dict({**kept, **{key: state[key][order] for key in tables}})
    renumbered = [code[session].tolist() for session in QUERIES]
    close(other.score(as_batch(renumbered)), model.score(as_batch(QUERIES))[:, order])


@pytest.mark.parametrize("name", VARIANTS)
def test_model_candidates_equal_columns_of_all_items(name: str) -> None:
    model, batch = build(name), as_batch(QUERIES)
    everything = model.score(batch)
    shared = torch.tensor([4, 0, 11, 4])
    each = torch.randint(NUM_ITEMS, (len(QUERIES), 3), generator=torch.Generator().manual_seed(3))
    close(model.score(batch, shared), everything[:, shared])
    close(model.score(batch, each), everything.gather(1, each))


@pytest.mark.parametrize("name", NEURAL)
def test_model_causal_exactly_where_it_says_so(name: str) -> None:
    model = build(name)
    session = QUERIES[-1]
    prefixes = [session[:end] for end in range(1, len(session) + 1)]
    try:
        vectors = model(as_batch(prefixes, users=[1] * len(prefixes)))
    except NotImplementedError:  # a family that scores candidates, not vectors
        assert not model.causal
        return
    try:
        states = model.click_states(as_batch([session], users=[1]))
    except NotImplementedError:  # a family without a state for every click
        states = torch.full_like(vectors, torch.nan)
    equal = torch.allclose(states, vectors, rtol=1e-5, atol=1e-5)
    assert equal == model.causal


@pytest.mark.parametrize("name", COUNTING)
def test_model_second_fit_equals_a_fresh_fit(name: str) -> None:
    other = Sessions.from_lists([[6, 7, 6], [9, 0]], vocabulary=train_sessions().vocabulary)
    fresh = build(name, other)
    again = build(name)
    assert isinstance(again, CountingModel)
    again.fit_counts(other)
    assert again.state_dict().keys() == fresh.state_dict().keys()
    for key, value in fresh.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


@pytest.mark.parametrize("name", VARIANTS)
def test_model_saved_and_loaded_gives_same_scores_and_recommendations(
    name: str, tmp_path: Path
) -> None:
    model = build(name)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.settings == model.settings
    batch = as_batch(QUERIES)
    assert torch.equal(loaded.score(batch), model.score(batch))
    assert loaded.recommend([*QUERIES, []], k=5) == model.recommend([*QUERIES, []], k=5)


@pytest.mark.parametrize("initial", ["mean", "neighbours", "features"])
@pytest.mark.parametrize("name", NEURAL)
def test_grown_model_scores_known_items_and_sessions_as_before(name: str, initial: str) -> None:
    model = build(name)
    new = [NUM_ITEMS + 2, 3, 0, NUM_ITEMS, 5, 7, NUM_ITEMS + 1]  # in an order of its own
    log = Sessions.from_lists([new, [5, NUM_ITEMS + 1, 7]])
    table = pd.DataFrame({"kind": [0, 1] * 3 + [0], "price": np.arange(7.0), "tags": ["a"] * 7})
    grown = grow(model, replace(log, item_features=table), initial=initial)  # type: ignore[arg-type]
    assert (type(grown), grown.num_items, grown.training) == (type(model), NUM_ITEMS + 3, False)
    assert model.num_items == NUM_ITEMS
    assert grown.catalog is not None
    beyond = [NUM_ITEMS + 2, NUM_ITEMS, NUM_ITEMS + 1]
    assert grown.catalog.items.ids.tolist() == [*range(NUM_ITEMS), *beyond]
    scores = grown.score(as_batch(QUERIES))
    assert torch.allclose(scores[:, :NUM_ITEMS], model.score(as_batch(QUERIES)), atol=1e-6)
    assert scores.isfinite().all()
    tables = 0
    for key, value in grown.named_parameters():
        before = model.get_parameter(key)
        assert torch.equal(value[: len(before)], before), key
        tables += value.shape != before.shape
    assert tables


@pytest.mark.parametrize("name", COUNTING)
def test_grown_counting_model_equals_a_fresh_one_in_the_codes_kept(name: str) -> None:
    model = build(name)
    log = Sessions.from_lists([*TRAIN, [NUM_ITEMS, 3, NUM_ITEMS + 1], [3, NUM_ITEMS]])
    grown = grow(model, log)
    vocabulary = Vocabulary(np.arange(NUM_ITEMS + 2))
    fresh = type(model)(**{**model.settings, "num_items": NUM_ITEMS + 2})
    assert isinstance(fresh, CountingModel)
    fresh.fit_counts(log.with_vocabulary(vocabulary))
    assert grown.state_dict().keys() == fresh.state_dict().keys()
    for key, value in fresh.state_dict().items():
        assert torch.equal(grown.state_dict()[key], value), key


@pytest.mark.parametrize("name", VARIANTS)
def test_model_asked_for_more_items_than_exist_gives_each_once(name: str) -> None:
    model = build(name)
    scores = model.score(as_batch(QUERIES))
    for answer, row in zip(model.recommend(QUERIES, k=3 * NUM_ITEMS), scores, strict=True):
        assert {item for item, _ in answer} == set(row.isfinite().nonzero().view(-1).tolist())
        assert len(answer) == int(row.isfinite().sum())


@pytest.mark.parametrize("name", VARIANTS)
def test_model_settings_name_every_argument_and_rebuild_the_model(name: str) -> None:
    model = build(name)
    arguments = list(inspect.signature(type(model).__init__).parameters)[1:]
    assert list(model.settings) == arguments
    torch.manual_seed(0)
    again = type(model)(**model.settings)
    assert again.settings == model.settings
    assert repr(again) == repr(model)
    again.attach(train_sessions().catalog())
    again.prepare(train_sessions())
    if name in NEURAL:
        for key, value in again.state_dict().items():
            assert torch.equal(value, model.state_dict()[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_model_without_items_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="num_items must be at least 1, got 0"):
        MODELS[name](0)
