"""Items to allow or to exclude: every form gives the same codes; wrong ones raise errors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from graphseq.data.sessions.sessions import Sessions
from graphseq.models import ItemFilter, MarkovChain, Popularity, SessionModel
from graphseq.models.use import item_filter as module
from graphseq.models.use.grow import grow
from graphseq.models.use.item_filter import read_items
from graphseq.models.use.persistence import load

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
    shoes = ItemFilter.from_items(model, {"shelf": "shoes"})
    assert len(shoes) == 2
    assert repr(shoes) == "ItemFilter(2 of 5 items)"
    assert codes(model, shoes) == [0, 2]
    assert codes(model, [shoes, ["b"]], 2) == [[0, 2], [1]]
    with pytest.raises(ValueError, match="made for a model of 5 other items"):
        codes(Popularity(4), shoes)
    with pytest.raises(ValueError, match=r"^items is a rule on item features, and the model knows"):
        ItemFilter.from_items(Popularity(4), {"shelf": "shoes"})


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


def test_filters_combine_as_sets_do(model: Popularity) -> None:
    shoes, cheap = (
        ItemFilter.from_items(model, {"shelf": "shoes"}),
        ItemFilter.from_items(model, ["a", "b"]),
    )
    assert [list(f) for f in (shoes & cheap, shoes | cheap, shoes - cheap, ~shoes)] == [
        ["a"],
        ["a", "b", "c"],
        ["c"],
        ["b", "d", "e"],
    ]
    assert model.recommend([[]], allow=~shoes & ~cheap, k=1)[0][0][0] == "d"
    assert codes(model, shoes & ~shoes) == []
    with pytest.raises(TypeError, match="combined with another one, got list"):
        shoes & ["a"]  # type: ignore[operator]
    with pytest.raises(ValueError, match="one is of 5 items, the other of 4 other ones"):
        shoes | ItemFilter.from_items(Popularity(4), [1])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"not": {"shelf": "shoes"}}, "bde"),
        ({"not": [{"shelf": "shoes"}, ["e"]]}, "bd"),
        ({"or": [{"shelf": "hats"}, {"price": 30.0}, ["e"]]}, "bce"),
        ({"and": [{"shelf": ["shoes", "hats"]}, {"not": ["a"]}]}, "bc"),
        ({"shelf": "shoes", "not": {"price": 10.0}}, "c"),
        ({"or": [{"and": [["a", "b"], ["b", "c"]]}, {"shelf": "coats"}]}, "be"),
        ({"or": [{"shelf": "gloves"}, ["c", "zzz"]]}, "c"),  # a part may fit nothing
    ],
    ids=str,
)
def test_rules_nest(model: Popularity, rule: Any, expected: str) -> None:
    assert codes(model, rule) == ["abcde".index(item) for item in expected]


def test_rules_that_do_not_nest_say_why(model: Popularity) -> None:
    for rule in (
        {"or": "shoes"},
        {"or": []},
        {"or": ["a"]},
        {"and": {"shelf": "shoes"}},
        {"or": [1]},
        {"not": 1},
    ):
        with pytest.raises(ValueError, match=r"allow has '.*', which takes a list of rules, ids"):
            codes(model, rule)
    with pytest.raises(ValueError, match="allow fits no item"):
        codes(model, {"not": {"not": {"shelf": "gloves"}}})
    plain = Popularity(3)
    assert codes(plain, {"not": [1]}) == [0, 2]  # ids need no features


def test_rule_on_a_column_named_like_a_word_of_rules_is_one_on_the_column() -> None:
    log = pd.DataFrame({"session_id": 0, "item_id": ["a", "b"]})
    features = pd.DataFrame({"not": [1, 2]}, index=["a", "b"])
    model = Popularity(2).fit_counts(Sessions.from_frame(log, item_features=features))
    assert codes(model, {"not": 2}) == [1]


def test_items_of_many_callers_are_kept_and_the_oldest_forgotten(
    model: Popularity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_FROM", 1)
    monkeypatch.setattr(module, "KEPT", 3)
    looked_up: list[Any] = []
    real = module._chosen
    monkeypatch.setattr(module, "_chosen", lambda *args: looked_up.append(args[0]) or real(*args))
    kept = [["a"], pd.Series(["a", "b"]), {"shelf": "shoes"}]
    for _ in range(3):
        assert [codes(model, items) for items in kept] == [[0], [0, 1], [0, 2]]
    assert len(looked_up) == 3
    assert codes(model, ["e"]) == [4]  # ["a"] was asked for longest ago
    assert codes(model, {"shelf": "shoes"}) == [0, 2]
    assert len(looked_up) == 4
    assert codes(model, ["a"]) == [0]
    assert len(looked_up) == 5


def test_items_of_every_form_kept_are_read_again_when_they_change(
    model: Popularity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_FROM", 1)
    mask = pd.Series([True, False], index=["a", "b"])
    assert codes(model, mask) == [0]
    assert codes(model, mask.set_axis(["c", "b"])) == [2]  # the same values of other ids
    assert codes(model, np.array(["a", "b"])) == [0, 1]
    assert codes(model, np.array(["a", "c"])) == [0, 2]
    chosen = {"a", "b"}
    assert codes(model, chosen) == [0, 1]
    chosen.add("e")
    assert codes(model, chosen) == [0, 1, 4]
    assert codes(model, list({"a", "b"})) == [0, 1]
    text = pd.array(["a", "b"], dtype="str")
    assert codes(model, text) == [0, 1]
    text[1] = "d"
    assert codes(model, text) == [0, 3]
    wanted = {"price": 10.0}
    assert codes(model, wanted) == [0]
    wanted["price"] = 20.0
    assert codes(model, wanted) == [1]
    assert codes(model, ["zzz"], what="exclude") == []
    with pytest.raises(ValueError, match="names no item that the model knows"):
        codes(model, ["zzz"])


def test_rule_kept_is_read_again_for_other_features(
    model: Popularity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_FROM", 1)
    assert codes(model, {"shelf": "shoes"}) == [0, 2]
    assert model.catalog is not None
    table = pd.DataFrame({"shelf": ["hats", "shoes", None, None, None]})
    model.catalog = replace(model.catalog, item_features=table)
    assert codes(model, {"shelf": "shoes"}) == [1]
    limit = [25.0]
    rule = {"shelf": lambda shelf: shelf == ("shoes" if limit[0] > 20 else "hats")}
    assert codes(model, rule) == [1]
    limit[0] = 5.0
    assert codes(model, rule) == [0]  # a function is called each time


# -- delisted ----------------------------------------------------------------------------------


def test_delisted_items_are_never_recommended_and_counted(
    model: Popularity, caplog: pytest.LogCaptureFixture
) -> None:
    def items(**options: Any) -> list[str]:
        return ["".join(i for i, _ in answer) for answer in model.recommend([["a"], []], **options)]

    model.delist(["a", "d"])
    assert repr(model.catalog) == "Catalog(num_items=5, 2 delisted, num_users=0)"
    assert items() == ["bce"] * 2
    assert items(exclude=["b"]) == ["ce"] * 2
    assert items(exclude=[["b"], ["c"]]) == ["ce", "be"]
    assert items(allow=["a", "b"]) == ["b"] * 2
    assert "skipped 1 delisted items in allow" in caplog.text
    assert items(allow=[["a", "c"], ["d"]]) == ["c", ""]
    assert items(allow=~ItemFilter.from_items(model, ["b"]), k=2) == ["ce"] * 2
    model.delist(ItemFilter.from_items(model, {"shelf": "hats"}))
    assert items() == ["ce"] * 2
    model.relist(["a"])
    assert items() == ["ace"] * 2
    model.relist()
    assert items() == ["abcde"] * 2


def test_delisted_items_stay_so_when_saved_grown_and_trained_on(
    model: Popularity, tmp_path: Path
) -> None:
    def best_of(model: SessionModel) -> str:
        return "".join(item for item, _ in model.recommend([[]])[0])

    model.delist(["b"])
    model.save(tmp_path / "model")
    assert best_of(load(tmp_path / "model")) == "acde"
    log = Sessions.from_lists([["f", "a"], ["b", "f", "f"]])
    grown = grow(model, log)
    assert grown.catalog is not None
    assert grown.catalog.items.decode(grown.catalog.delisted) == ["b"]
    assert best_of(grown) == "facde"
    assert model.catalog is not None
    counts = replace(model.catalog, delisted=np.empty(0, dtype=np.int64))
    model.attach(counts)
    assert best_of(model) == "acde"


def test_delist_of_what_is_unknown_is_counted_or_refused(
    model: Popularity, caplog: pytest.LogCaptureFixture
) -> None:
    model.delist(["a", "zzz"])
    assert "1 of 2 items to delist are not in the catalog, 'zzz' the first" in caplog.text
    with pytest.raises(ValueError, match="None of the 1 items to delist is in the catalog, 'zzz'"):
        model.delist(["zzz"])
    with pytest.raises(ValueError, match=r"takes a collection of ids, got 'a': write \['a'\]"):
        model.delist("a")
    with pytest.raises(ValueError, match=r"None of these 1 ids to relist is known, as they are of"):
        model.relist([1])
    with pytest.raises(ValueError, match="delist needs the ids of the model's items"):
        Popularity(3).delist([1])
    with pytest.raises(ValueError, match=r"codes in 0\.\.4, ascending and distinct"):
        replace(model.catalog, delisted=np.array([5]))  # type: ignore[type-var]
    model.delist([])
    assert len(model.catalog.delisted) == 1  # type: ignore[union-attr]
