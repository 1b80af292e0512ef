"""Every model in MODELS passes the checks of gs.testing, and grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

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
from graphseq.testing import ModelCheck, model_checks
from graphseq.testing.examples import ITEM_FEATURES as EXAMPLES_FEATURES
from graphseq.testing.examples import NUM_ITEMS, NUM_USERS, QUERIES, TRAIN, graphs_of
from graphseq.testing.subject import Subject

VARIANTS: dict[str, Callable[[int], SessionModel]] = {
    "popularity": lambda n: MODELS["popularity"](n),
    "markov": lambda n: MODELS["markov"](n),
    "markov-plain-2": lambda n: MODELS["markov"](n, order=2, backoff=0),
    "markov-decayed": lambda n: MODELS["markov"](n, order=2, half_life=4.0),
    "session_popularity": lambda n: MODELS["session_popularity"](n),
    "recency": lambda n: MODELS["recency"](n),
    "trending": lambda n: MODELS["trending"](n, 4.0),
    "sequential_rules": lambda n: MODELS["sequential_rules"](n),
    "sequential_rules-plain-3": lambda n: MODELS["sequential_rules"](
        n, 3, weight="linear", last_clicks=3, backoff=0
    ),
    "item_knn": lambda n: MODELS["item_knn"](n),
    "item_knn-nearest-2": lambda n: MODELS["item_knn"](
        n, 2, regularization=0, last_clicks=None, backoff=0
    ),
    "vsknn": lambda n: MODELS["vsknn"](n),
    "vsknn-two-of-three": lambda n: MODELS["vsknn"](
        n, 2, 3, decay="log", half_life=2.0, idf_weight=1.0, last_clicks=4, backoff=0
    ),
    "vstan": lambda n: MODELS["vstan"](n),
    "vstan-two-of-three": lambda n: MODELS["vstan"](n, 2, 3, half_life=2.0, backoff=0),
    "srgnn": lambda n: SRGNN(n, 8),
    "srgnn-binary-2": lambda n: SRGNN(n, 8, 2, edge_weight="binary", hybrid=False),
    "srgnn-decayed": lambda n: SRGNN(
        n, 8, edge_weight="decayed", half_life=2.0, half_life_unit="clicks"
    ),
    "srgnn-normalized": lambda n: SRGNN(n, 8, normalize=True, dropout=0.2),
    "srgnn-positions": lambda n: SRGNN(
        n, 8, normalize=True, positions="end", max_length=6, dropout=0.1
    ),
    "srgnn-softmax": lambda n: SRGNN(n, 8, readout="softmax", max_length=4),
    "srgnn-last": lambda n: SRGNN(n, 8, readout="last"),
    "srgnn-mean": lambda n: SRGNN(n, 8, readout="mean", hybrid=False),
    "srgnn-sum": lambda n: SRGNN(n, 8, readout="sum"),
    "tagnn": lambda n: TAGNN(n, 8),
    "tagnn-2": lambda n: TAGNN(n, 8, 2, edge_weight="binary", max_length=4),
    "gcegnn": lambda n: MODELS["gcegnn"](n, 8),
    "gcegnn-near": lambda n: MODELS["gcegnn"](
        n, 8, num_neighbors=11, steps=1, dropout=0.2, max_length=4
    ),
    "gcegnn-normalized": lambda n: MODELS["gcegnn"](n, 8, normalize=True, scale=5.0),
    "sgnnhn": lambda n: MODELS["sgnnhn"](n, 8),
    "sgnnhn-3": lambda n: MODELS["sgnnhn"](n, 8, 3, dropout=0.2, max_length=4),
    "gru4rec": lambda n: GRU4Rec(n, 8),
    "gru4rec-separate": lambda n: GRU4Rec(n, 8, 2, embedding="separate", dropout=0.3),
    "gru4rec-normalized": lambda n: GRU4Rec(n, 8, normalize=True, scale=5.0),
    "gru4rec-widths": lambda n: GRU4Rec(
        n, 8, embedding="separate", embedding_channels=5, lower_channels=[6, 9]
    ),
    "sasrec": lambda n: SASRec(n, 8),
    "sasrec-short": lambda n: SASRec(n, 8, max_length=3),
    "sasrec-normalized": lambda n: SASRec(n, 8, normalize=True, scale=5.0),
    "sasrec-ligr": lambda n: SASRec(n, 8, heads=2, block="ligr"),
    "sasrec-rotary": lambda n: SASRec(n, 8, heads=2, positions="rotary"),
    "sasrec-sinusoidal": lambda n: SASRec(n, 8, positions="sinusoidal"),
    "bert4rec": lambda n: BERT4Rec(n, 8),
    "bert4rec-short": lambda n: BERT4Rec(n, 8, max_length=3, positions="end"),
    "sasrec-none": lambda n: SASRec(n, 8, positions="none"),
    "sasrec-end": lambda n: SASRec(n, 8, positions="end", block="published", expansion=1),
    "bsarec": lambda n: MODELS["bsarec"](n, 8),
    "bsarec-short": lambda n: MODELS["bsarec"](n, 8, 1, heads=2, c=3, max_length=5),
    "bsarec-normalized": lambda n: MODELS["bsarec"](n, 8, normalize=True, scale=5.0),
    "bsarec-causal": lambda n: MODELS["bsarec"](n, 8, filter="moving_average", c=2, max_length=4),
    "hstu": lambda n: MODELS["hstu"](n, 8),
    "hstu-plain": lambda n: MODELS["hstu"](
        n, 8, 1, heads=2, max_length=3, time="none", normalize=False
    ),
    "lrurec": lambda n: MODELS["lrurec"](n, 8),
    "lrurec-attention": lambda n: MODELS["lrurec"](
        n, 8, 3, layer="linear_attention", heads=2, normalize=True, scale=5.0
    ),
    "core": lambda n: MODELS["core"](n, 8),
    "core-mean": lambda n: MODELS["core"](n, 8, 0, max_length=3),
    "caser": lambda n: Caser(n, 8),
    "caser-tied": lambda n: Caser(n, 8, embedding="tied"),
    "caser-vertical": lambda n: Caser(n, 8, max_length=3, num_horizontal=0),
    "caser-users": lambda n: Caser(n, 8, heights=[2, 3, 4], num_users=NUM_USERS, num_targets=3),
    "hgru4rec": lambda n: MODELS["hgru4rec"](n, 8),
    "hgru4rec-all": lambda n: MODELS["hgru4rec"](
        n, 8, 5, variant="all", embedding="separate", dropout=0.3, user_dropout=0.2
    ),
    "with_user": lambda n: MODELS["with_user"](n, NUM_USERS, arguments={"hidden_channels": 8}),
    "with_user-srgnn": lambda n: MODELS["with_user"](
        n, NUM_USERS, "srgnn", arguments={"hidden_channels": 8}
    ),
    "with_features": lambda n: MODELS["with_features"](n, arguments={"hidden_channels": 8}),
    "with_features-gate": lambda n: MODELS["with_features"](
        n, ITEM_FEATURES, "srgnn", fusion="gate", arguments={"hidden_channels": 8}
    ),
    "with_features-sum": lambda n: MODELS["with_features"](
        n, ITEM_FEATURES, "gru4rec", arguments={"hidden_channels": 8}
    ),
    "with_repeats": lambda n: MODELS["with_repeats"](n, arguments={"hidden_channels": 8}),
    "with_repeats-sasrec": lambda n: MODELS["with_repeats"](
        n, "sasrec", 0.5, arguments={"hidden_channels": 8, "max_length": 4}
    ),
    "content_knn": lambda n: MODELS["content_knn"](n),
    "content_knn-features": lambda n: MODELS["content_knn"](n, ITEM_FEATURES, last_clicks=2),
    "ials": lambda n: MODELS["ials"](n, 4),
    "lightgcn": lambda n: MODELS["lightgcn"](n, 4, epochs=2),
    "ensemble": lambda n: MODELS["ensemble"](n),
    "ensemble-scores": lambda n: MODELS["ensemble"](
        n, ["markov", "item_knn"], fusion="scores", weights=[0.7, 0.3]
    ),
    "bst": lambda n: BST(n, 8),
    "bst-features": lambda n: BST(n, 8, 2, max_length=3, item_features=ITEM_FEATURES),
    "bst_ranker": lambda n: BSTRanker(n, 8, mlp_channels=[16, 8]),
    "bst_ranker-features": lambda n: BSTRanker(
        n, 8, 2, max_length=4, item_features=ITEM_FEATURES, mlp_channels=[]
    ),
}
ITEM_FEATURES = [
    {"name": "kind", "kind": "categorical", "size": 3},
    {"name": "price", "kind": "numeric", "boundaries": [2.0, 5.0]},
    {"name": "tags", "kind": "multi_hot", "values": ["a", "b", "c"], "separator": "|"},
]
NEURAL = [
    name
    for name in VARIANTS
    if not issubclass(MODELS.get(name.split("-")[0], SessionModel), CountingModel)
]
COUNTING = [name for name in VARIANTS if name not in NEURAL]


CHECKS = [
    pytest.param(check, id=f"{name}-{check}")
    for name, build in VARIANTS.items()
    for check in model_checks(build)
]


def build(name: str) -> SessionModel:
    return Subject(VARIANTS[name], {}).ready()


def test_models_every_registered_class_is_checked_here() -> None:
    assert {name.split("-")[0] for name in VARIANTS} == set(MODELS)
    assert all(type(VARIANTS[n](NUM_ITEMS)) is MODELS[n.split("-")[0]] for n in VARIANTS)


@pytest.mark.parametrize("check", CHECKS)
def test_model(check: ModelCheck) -> None:
    check()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NEURAL)
@torch.no_grad()
def test_model_of_half_precision_scores_about_as_the_whole_one(
    name: str, dtype: torch.dtype
) -> None:
    model = build(name)
    batch = graphs_of(QUERIES)
    whole = model.score(batch)
    half = model.to(dtype).score(batch).float()
    most = 25 * torch.finfo(dtype).eps  # sums whose terms cancel lose several bits
    assert (half - whole).abs().max() < most * whole.abs().max()


@pytest.mark.parametrize("initial", ["mean", "neighbors", "features"])
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
    scores = grown.score(graphs_of(QUERIES))
    assert torch.allclose(scores[:, :NUM_ITEMS], model.score(graphs_of(QUERIES)), atol=1e-6)
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
    vocabulary = Vocabulary(np.arange(NUM_ITEMS + 2))
    lists = [*map(list, TRAIN), [NUM_ITEMS, 3, NUM_ITEMS + 1], [3, NUM_ITEMS]]
    log = Sessions.from_lists(lists, vocabulary=vocabulary)
    two = pd.DataFrame({"kind": [1, 0], "price": [1.0, np.nan], "tags": ["a", "b|c"]})
    table = pd.concat([EXAMPLES_FEATURES, two], ignore_index=True)
    log = replace(log, item_features=table)
    grown = grow(model, log)
    fresh = type(model)(**{**model.settings, "num_items": NUM_ITEMS + 2})
    assert isinstance(fresh, CountingModel)
    fresh.fit_counts(log.with_vocabulary(vocabulary))
    assert grown.state_dict().keys() == fresh.state_dict().keys()
    for key, value in fresh.state_dict().items():
        assert torch.equal(grown.state_dict()[key], value), key
