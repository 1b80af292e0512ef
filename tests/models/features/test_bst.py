"""The next-item form of BST against a plain computation, prefix by prefix, and with features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.features import feature_specs
from graphseq.data.sessions.sessions import Sessions
from graphseq.models import BST
from graphseq.models.use.persistence import load
from tests.models.bst_reference import (
    CLICK_FEATURES,
    ITEM_FEATURES,
    SESSIONS,
    TABLE,
    batch_of,
    clicks_of,
    close,
    plain_block,
    plain_click,
    plain_item,
    sessions_of,
    weights,
)


def small_model(**arguments: object) -> BST:
    """A model in evaluation whose weights are large enough for everything to matter."""
    torch.manual_seed(0)
    rich = {
        "heads": 2,
        "max_length": 4,
        "positions": "time",
        "click_features": CLICK_FEATURES,
        "item_features": ITEM_FEATURES,
        "feature_channels": 3,
        "num_users": 4,
    }
    model = BST(7, 8, **{**rich, **arguments}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.attach(sessions_of(SESSIONS).catalog())
    return model


def plain_state(model: BST, session: list[int], user: int) -> np.ndarray:
    """The state after the last click of a session, from the paper's equations."""
    w = weights(model)
    x, before = [], None
    for place, (item, device, price, time) in enumerate(clicks_of(session)[-model.max_length :]):
        gap = 64 if before is None else int(2 * np.log2(1 + time - before))
        p = w["positions.weight"][place] + w["gaps.weight"][gap]
        x.append(plain_click(w, item, device, price) + p)
        before = time
    for layer in range(model.num_layers):
        x = plain_block(x, w, f"blocks.{layer}", model.heads, causal=True)
    return x[-1] + (w["user_embedding.weight"][user] if user >= 0 else 0)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_bst_scores_equal_the_papers_equations_head_by_head(num_layers: int) -> None:
    model = small_model(num_layers=num_layers)
    w = weights(model)
    states = np.stack([plain_state(model, s, user - 1) for user, s in enumerate(SESSIONS)])
    items = np.stack([plain_item(w, item) for item in range(7)])
    close(model(batch_of(SESSIONS)), states)
    close(model.score(batch_of(SESSIONS)), states @ items.T)


def test_bst_states_equal_vectors_of_prefixes_beyond_max_length() -> None:
    model = small_model()
    states = model.click_states(batch_of(SESSIONS[3:4]))
    prefixes = batch_of([SESSIONS[3][:stop] for stop in range(1, 12)])
    prefixes.user = torch.full((11,), -1)
    close(states, model(prefixes))


def test_bst_in_training_cuts_sessions_from_their_end_into_windows() -> None:
    model = small_model(dropout=0.0, num_users=None)
    states = model.train().click_states(batch_of(SESSIONS))
    whole = model.eval().click_states(batch_of([SESSIONS[3]]))
    # 11 clicks: windows of 3, 4 and 4; the first and, by its own last click, each of them.
    close(states[9:12], whole[:3])
    close(states[[15, 19]], whole[[6, 10]])


def test_bst_later_click_and_its_features_changed_leave_earlier_states() -> None:
    model = small_model(max_length=6)
    before = batch_of([[0, 1, 2, 3, 4]])
    after = batch_of([[0, 1, 2, 6, 4]])
    for field in ("click_device", "click_price", "click_time"):
        after[field][3:] += 1
    one, other = model.click_states(before), model.click_states(after)
    close(one[:3], other[:3])
    assert ((one[3:] - other[3:]).abs().amax(dim=1) > 1e-3).all()


@pytest.mark.parametrize("field", ["click_device", "click_price", "click_time", "user"])
def test_bst_each_input_changes_the_scores(field: str) -> None:
    model, one, other = small_model(), batch_of([[4, 0, 1]]), batch_of([[4, 0, 1]])
    other[field] = other[field].flip(0) if field == "click_time" else 2 - other[field]
    assert not torch.allclose(model.score(one), model.score(other), atol=1e-3)


def test_bst_item_features_change_scores_of_that_item_alone() -> None:
    model = small_model()
    session = [[0, 1, 2]]
    before = model.score(batch_of(session))
    table = TABLE.copy()
    table.loc[6, "tags"] = "b"
    model.attach(replace(sessions_of(SESSIONS), item_features=table).catalog())
    after = model.score(batch_of(session))
    close(before[:, :6], after[:, :6])
    assert abs(before[0, 6] - after[0, 6]) > 1e-3


def test_bst_item_rows_are_rows_of_the_table_in_value_and_gradient() -> None:
    model = small_model()
    items = torch.tensor([[3, 6], [3, 0]])
    rows, whole = model.items.rows(items), model.items.rows()[items]
    close(rows, whole)
    parameters = [model.items.weight, model.items.features.embedding.parts[0].weight]
    for one, other in zip(
        torch.autograd.grad(rows.square().sum(), parameters),
        torch.autograd.grad(whole.square().sum(), parameters),
        strict=True,
    ):
        close(one, other)


def test_bst_session_alone_equals_itself_in_a_batch() -> None:
    model = small_model(num_users=None)
    alone = torch.cat([model.score(batch_of([session])) for session in SESSIONS])
    close(model.score(batch_of(SESSIONS)), alone)


def test_bst_empty_batch_gives_no_states() -> None:
    empty = torch.empty(0, dtype=torch.long)
    model = BST(7, 8)
    batch = build_session_graphs(empty, torch.tensor([0]))
    assert model(batch).shape == (0, 8)
    assert model.click_states(batch).shape == (0, 8)


def test_bst_two_thousand_clicks_give_the_state_of_the_newest() -> None:
    model = small_model(num_users=None)
    session = np.random.default_rng(0).integers(0, 7, 2000).tolist()
    batch = batch_of([session])
    close(model(batch), model.click_states(batch)[-1:])
    assert model.click_states(batch).shape == (2000, 8)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("click_device", "BST was built with the click feature 'device', but .* no click_device"),
        ("click_time", "BST was built with positions='time', but this batch has no click_time"),
    ],
)
def test_bst_field_missing_in_the_batch_raises_naming_it(field: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_model()(batch_of(SESSIONS, without=field))


def test_bst_times_that_hold_no_single_seconds_are_refused() -> None:
    batch = batch_of(SESSIONS)
    batch.click_time = batch.click_time.float()
    with pytest.raises(ValueError, match=r"click_time of \d+ is rounded to more than a second"):
        small_model()(batch)


def test_bst_users_missing_in_the_batch_raise() -> None:
    batch = build_session_graphs(torch.tensor([1, 2]), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="BST was built with num_users=2, but this batch has no u"):
        BST(7, 8, num_users=2)(batch)


def test_bst_item_features_missing_raise_naming_them() -> None:
    model = BST(7, 8, item_features=ITEM_FEATURES)
    with pytest.raises(ValueError, match=r"built with the item feature 'tags', but has no"):
        model.items.rows()
    with pytest.raises(ValueError, match="item feature 'tags', but the catalog has none"):
        model.attach(replace(sessions_of(SESSIONS), item_features=None).catalog())
    other = TABLE.rename(columns={"tags": "words"})
    with pytest.raises(ValueError, match="item feature 'tags', but the catalog has 'words'"):
        model.attach(replace(sessions_of(SESSIONS), item_features=other).catalog())


def test_bst_saved_and_loaded_keeps_the_features_without_the_table(tmp_path: Path) -> None:
    model, batch = small_model(), batch_of(SESSIONS)
    assert model.catalog is not None
    model.catalog = replace(model.catalog, item_features=None)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.catalog is not None
    assert loaded.catalog.item_features is None
    assert loaded.settings == model.settings
    assert torch.equal(loaded.score(batch), model.score(batch))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items must be at least 1, got 0"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"time_buckets": 0}, "time_buckets must be at least 1, got 0"),
        ({"num_users": 0}, "num_users must be at least 1, got 0"),
        ({"heads": 3}, "heads must divide hidden_channels, got 3 heads for 64"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"positions": "gap"}, "positions is 'start' or 'time', got 'gap'"),
        (
            {"feature_channels": 0, "click_features": CLICK_FEATURES},
            "feature_channels must be at least 1, got 0",
        ),
        ({"click_features": CLICK_FEATURES * 2}, "distinct names, got device, price, device"),
        ({"item_features": [{"name": "x"}]}, "A feature is a dict with name, kind and"),
    ],
)
def test_bst_wrong_setting_raises_naming_it(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BST(**{"num_items": 5, **arguments})


def ring(with_feature: bool, seed: int = 0) -> Sessions:
    """Walks on a ring of ten items whose next step is determined only by a click feature."""
    generator = np.random.default_rng(seed)
    forward = generator.integers(0, 2, (200, 8))
    step = np.where(forward == 1, 1, -1)
    start = generator.integers(0, 10, (200, 1))
    items = (start + np.cumsum(step, axis=1) - step) % 10
    sessions = Sessions.from_lists(items.tolist(), vocabulary=gs.data.Vocabulary(np.arange(10)))
    features = {"direction": forward.ravel()} if with_feature else {}
    return replace(sessions, click_features=features)


def test_bst_learns_what_a_click_feature_alone_tells() -> None:
    hits = {}
    for told in (True, False):
        train, test = ring(told), ring(told, seed=1)
        spec = {"name": "direction", "kind": "categorical"}
        specs = feature_specs(train, click=[spec] if told else [])
        torch.manual_seed(0)
        model = BST(10, 16, heads=2, dropout=0.0, max_length=8, **specs)
        gs.fit(model, train, max_epochs=5, batch_size=16, learning_rate=0.01, progress=False)
        hits[told] = gs.evaluate(model, test, ks=[1]).metrics["hr@1"]
    assert hits[True] > 0.95
    assert hits[False] < 0.65


def log_of(devices: list[str]) -> pd.DataFrame:
    """Two clicks of each of two sessions, on these devices."""
    clicks = {"session_id": [1, 1, 2, 2], "item_id": [3, 1, 1, 2], "time": [0, 5, 9, 60]}
    return pd.DataFrame({**clicks, "device": devices})


def test_bst_click_features_of_another_log_are_read_in_the_training_values(tmp_path: Path) -> None:
    train = Sessions.from_frame(
        log_of(["phone", "tv", "tablet", "phone"]), time="time", features=["device"]
    )
    torch.manual_seed(0)
    specs = feature_specs(train, click=["device"])
    model = BST(3, 8, heads=2, positions="time", **specs).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.attach(train.catalog())
    # Here "tv" is the first value, and "watch" is none that the model knows.
    log = log_of(["tv", "phone", "watch", "tv"])
    other = Sessions.from_frame(log, time="time", features=["device"])
    coded = replace(train, click_features={"device": np.array([1, 0, -1, 1])})
    expected = model.score(gs.SessionGraphDataset(coded).batch([0, 1]))
    ranks = gs.evaluate(model, other).ranks
    assert ranks.equals(gs.evaluate(model, coded).ranks)
    model.save(tmp_path / "model")
    for known in (model, load(tmp_path / "model")):
        assert known.catalog is not None
        assert known.catalog.click_vocabularies == {"device": train.feature_vocabularies["device"]}
        one_click = log.iloc[[0, 2]]
        for sessions in (other.window([0, 1], [0, 0], [1, 1]), one_click):
            for found, row in zip(known.recommend(sessions, k=3), expected, strict=True):
                scores = dict(found)
                close(torch.tensor([scores[i] for i in (3, 1, 2)]), row.detach())


def test_bst_recommend_for_lists_without_the_features_raises_naming_them() -> None:
    with pytest.raises(ValueError, match="BST was built with the click feature 'device'"):
        small_model(positions="start").recommend([[1, 2]])
