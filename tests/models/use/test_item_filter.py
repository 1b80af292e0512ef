"""Items to allow or to exclude: every form stands for the same codes; wrong ones are refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from graphseq.data.sessions.sessions import Sessions
from graphseq.models import ItemFilter, MarkovChain, Popularity
from graphseq.models.use import item_filter as module
from graphseq.models.use.item_filter import read_items

SHELF = {"a": "shoes", "b": "hats", "c": "shoes", "d": None, "e": "coats"}
PRICE = {"a": 10.0, "b": 20.0, "c": 30.0, "d": 40.0, "e": np.nan}


@pytest.fixture
def model() -> Popularity:
    """Popularity over a, b, c, d, e, the codes 0..4, each item rarer than the one before."""
    lists = [["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2 + ["e"]]
    features = pd.DataFrame({"shelf": SHELF, "price": PRICE})
    sessions = Sessions.from_lists(lists)
    log = pd.DataFrame({"session_id": 0, "item_id": sessions[0]})
    return Popularity(5).fit_counts(Sessions.from_frame(log, item_features=features))


def codes(model: Popularity, items: Any, sessions: int = 1, what: str = "allow") -> Any:
    found = read_items(model, items, sessions, what)
    if found.ptr is None:
        return found.codes.tolist()
    return [part.tolist() for part in np.split(found.codes, found.ptr[1:-1])]


@pytest.mark.parametrize(
    "items",
    [
        ["c", "a", "c"],
        ("a", "c"),
        {"a", "c"},
        np.array(["a", "c"]),
        np.array(["a", "c"], dtype=object),
        pd.Index(["c", "a"]),
        pd.Series(["a", "c"]),
        pd.Series([True, False, True], index=["a", "b", "c"]),
        pd.Series([True, True, False], index=["c", "a", "e"], dtype="boolean"),
        pd.Series({item: shelf == "shoes" for item, shelf in SHELF.items()}),
        np.array([True, False, True, False, False]),
        [True, False, True, False, False],
        torch.tensor([True, False, True, False, False]),
        pd.array([True, False, True, False, False], dtype="boolean"),
        pl.Series([True, False, True, False, False]),
        pl.Series(["a", "c"]),
        pa.array(["a", "c"]),
        {"shelf": "shoes"},
        {"shelf": ["shoes"], "price": [10.0, 20.0, 30.0]},
        {"price": lambda price: price.isin([10, 30])},
        (item for item in ("a", "c")),
    ],
    ids=repr,
)
def test_items_of_every_form_are_the_same_codes(model: Popularity, items: Any) -> None:
    assert codes(model, items) == [0, 2]


def test_items_missing_feature_fits_no_value(model: Popularity) -> None:
    assert codes(model, {"shelf": ["shoes", "hats", "coats"]}) == [0, 1, 2, 4]
    assert codes(model, {"price": lambda price: price > 15}) == [1, 2, 3]


@pytest.mark.parametrize(
    "items",
    [
        [["a", "c"], [], ["e"]],
        [{"a", "c"}, [], pd.Series([True], index=["e"])],
        [{"shelf": "shoes"}, np.array([], dtype=object), [False] * 4 + [True]],
        (np.array(["a", "c"]), np.array([], dtype=object), torch.tensor([False] * 4 + [True])),
    ],
    ids=repr,
)
def test_items_for_each_session_may_have_any_form(model: Popularity, items: Any) -> None:
    assert codes(model, items, 3) == [[0, 2], [], [4]]


def test_items_masks_for_each_session_are_read_in_the_order_of_codes(model: Popularity) -> None:
    masks = np.zeros((3, 5), dtype=bool)
    masks[[0, 0, 2], [0, 2, 4]] = True
    assert codes(model, masks, 3) == [[0, 2], [], [4]]
    assert codes(model, torch.from_numpy(masks), 3) == [[0, 2], [], [4]]
    with pytest.raises(ValueError, match=r"2 x 5 here, but allow has 3 x 5"):
        codes(model, masks, 2)


def test_items_of_a_model_without_ids_are_codes_and_masks() -> None:
    plain = Popularity(4)
    assert codes(plain, [3, 1]) == [1, 3]
    assert codes(plain, [True, False, False, True]) == [0, 3]
    assert codes(plain, np.array([3, 1], dtype=np.uint8)) == [1, 3]
    assert codes(plain, torch.tensor([3, 1])) == [1, 3]
    assert codes(plain, np.array([[3, 1], [0, 2]]), 2) == [[1, 3], [0, 2]]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["x", "y"], "allow names no item that the model knows: it has 'x', 'y', and the model's"),
        ([1, 2], "None of these 2 ids in allow is known, as they are of another type: 1 is"),
        (pd.Series([True], index=[3]), "ids in allow is known, as they are of another type: 3 is"),
        (7, "allow is a collection of ids, got 7"),
        ({"shelf": "shoos"}, "allow fits no item: no item has {'shelf': 'shoos'}"),
        ({"shelf": "coats", "price": 10.0}, "fits no item"),
        ({"colour": 1}, "rule on 'colour', but the item features are shelf, price"),
        ({}, "rule without a condition"),
        ({"price": lambda price: price}, "one boolean for each of 5 items; got float64 [5]"),
        ([True, False], "one value for each of the model's 5 items, in the order of their codes"),
        (np.ones(6, dtype=bool), "but allow has 6"),
        (
            pd.Series([True, None], index=["a", "b"], dtype="boolean"),
            "neither true nor false for 1",
        ),
        ("ab", "allow is a collection of ids, got 'ab'"),
        ([["a"], ["b"]], "one for each of the 1 sessions; got 2 entries"),
    ],
    ids=repr,
)
def test_items_that_are_none_are_refused(model: Popularity, items: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        codes(model, items)


def test_items_allowed_for_one_session_must_be_known_too(
    model: Popularity, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=r"allow of session 1 names no item .* it has 'x'"):
        codes(model, [["a"], ["x"]], 2)
    with pytest.raises(ValueError, match=r"allow of session 1 names no item .* it has 'x'"):
        codes(model, [{"shelf": "shoes"}, ["x"]], 2)
    assert codes(model, [["a", "x"], []], 2) == [[0], []]
    assert "skipped 1 unknown ids in allow: 'x'" in caplog.text


def test_items_to_exclude_may_be_unknown(
    model: Popularity, caplog: pytest.LogCaptureFixture
) -> None:
    assert codes(model, ["x"], what="exclude") == []
    assert "skipped 1 unknown ids in exclude: 'x'" in caplog.text
    assert codes(model, {"shelf": "boots"}, what="exclude") == []
    assert codes(model, [], what="allow") == []


def test_item_filter_made_before_is_taken_as_it_is(model: Popularity) -> None:
    shoes = ItemFilter.of(model, {"shelf": "shoes"})
    assert len(shoes) == 2
    assert repr(shoes) == "ItemFilter(2 of 5 items)"
    assert codes(model, shoes) == [0, 2]
    assert codes(model, [shoes, ["b"]], 2) == [[0, 2], [1]]
    with pytest.raises(ValueError, match="made for a model of 5 other items"):
        codes(Popularity(4), shoes)
    with pytest.raises(ValueError, match=r"^items is a rule on item features, and the model knows"):
        ItemFilter.of(Popularity(4), {"shelf": "shoes"})


def test_items_long_lists_are_looked_up_again_only_when_they_change(
    model: Popularity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_FROM", 2)
    looked_up = []
    real = module._of_ids
    monkeypatch.setattr(module, "_of_ids", lambda *args: looked_up.append(1) or real(*args))
    ids = ["a", "c"]
    for expected, change in ((1, None), (1, None), (2, "d"), (2, None)):
        if change is not None:
            ids[1] = change  # the same list holds other ids
        assert codes(model, ids) == [0, 2 if ids[1] == "c" else 3]
        assert len(looked_up) == expected
    array = np.array(["a", "c"])
    assert codes(model, array) == [0, 2]
    array[1] = "e"
    assert codes(model, array) == [0, 4]
    plain = Popularity(3)
    assert codes(plain, [1, 0]) == [0, 1]
    assert codes(plain, [True, False, False]) == [0]  # equal to [1, 0, 0], and a mask


def test_recommend_allowed_and_excluded_items_of_every_form(model: Popularity) -> None:
    def items(**options: Any) -> list[list[Any]]:
        return [[i for i, _ in answer] for answer in model.recommend([["a"], []], **options)]

    assert items(allow={"shelf": "shoes"}) == [["a", "c"]] * 2
    assert items(exclude={"shelf": "shoes"}) == [["b", "d", "e"]] * 2
    assert items(exclude=np.array([True, True, False, False, False]), k=2) == [["c", "d"]] * 2
    assert items(allow=pd.Series([True, False], index=["e", "a"])) == [["e"]] * 2


@pytest.mark.parametrize("sessions", [1, 3, 40])
def test_recommend_hidden_or_picked_allowed_items_give_the_same(sessions: int) -> None:
    generator = np.random.default_rng(0)
    log = Sessions.from_lists(generator.integers(0, 30, (200, 4)).tolist())
    model = MarkovChain(log.num_items).fit_counts(log)
    asked = generator.integers(0, 30, (sessions, 3)).tolist()
    everything = model.recommend(asked, 30)
    for size in (1, 5, 12, 25, 30):
        allowed = generator.choice(30, size, replace=False).tolist()
        expected = [[pair for pair in answer if pair[0] in allowed][:4] for answer in everything]
        assert model.recommend(asked, 4, allow=allowed) == expected
