"""Specs of features, from sessions or given, and the codes of their values."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import graphseq as gs
from graphseq.data.sessions.features import Feature, encode_column, feature_specs
from graphseq.data.sessions.sessions import Sessions


def sessions_with(
    click: dict | None = None, item: pd.DataFrame | None = None, **fields: object
) -> Sessions:
    plain = Sessions.from_lists([["a", "b", "c"], ["a"]])
    return replace(plain, click_features=click or {}, item_features=item, **fields)


def test_feature_specs_of_a_log_name_kinds_sizes_and_quantiles() -> None:
    log = pd.DataFrame(
        {
            "session_id": [1, 1, 1, 2],
            "item_id": ["a", "b", "c", "a"],
            "device": ["phone", "tablet", None, "phone"],
            "price": [1.0, 2.0, np.nan, 4.0],
        }
    )
    table = pd.DataFrame({"brand": ["y", "x", None], "year": [1990, 2000, 2010]}, index=list("abc"))
    sessions = Sessions.from_frame(log, features=["device", "price"], item_features=table)
    specs = feature_specs(
        sessions, click=["device", "price"], item=["brand", "year"], num_buckets=2
    )
    assert specs == {
        "click_features": [
            {"name": "device", "kind": "categorical", "size": 2},
            {"name": "price", "kind": "numeric", "boundaries": [2.0]},
        ],
        "item_features": [
            {"name": "brand", "kind": "categorical", "values": ["x", "y"]},
            {"name": "year", "kind": "numeric", "boundaries": [2000.0]},
        ],
    }
    assert json.loads(json.dumps(specs)) == specs


def test_feature_specs_of_matrices_and_lists_are_multi_hot_or_vectors() -> None:
    item = pd.DataFrame(
        {
            "words": [["u", "v"], [], ["v"]],
            "image": [np.array([0.5, 1.0]), None, np.array([0.0, 2.0])],
            "genres": ["p|q", "q", None],
        }
    )
    click = {"flags": np.ones((4, 3), dtype=bool), "query": np.ones((4, 5), dtype=np.float32)}
    genres = {"name": "genres", "kind": "multi_hot", "separator": "|"}
    specs = feature_specs(
        sessions_with(click, item), click=["flags", "query"], item=["words", "image", genres]
    )
    assert specs == {
        "click_features": [
            {"name": "flags", "kind": "multi_hot", "size": 3},
            {"name": "query", "kind": "vector", "size": 5},
        ],
        "item_features": [
            {"name": "words", "kind": "multi_hot", "values": ["u", "v"]},
            {"name": "image", "kind": "vector", "size": 2},
            {"name": "genres", "kind": "multi_hot", "values": ["p", "q"], "separator": "|"},
        ],
    }


def test_feature_specs_of_integers_asked_as_categories_count_or_list_them() -> None:
    item = pd.DataFrame({"shop": pd.array([30, None, 10], dtype="Int64")})
    sessions = sessions_with({"page": np.array([0, 4, -1, 2])}, item)
    specs = feature_specs(
        sessions,
        click=[{"name": "page", "kind": "categorical"}],
        item=[{"name": "shop", "kind": "categorical"}],
    )
    assert specs["click_features"] == [{"name": "page", "kind": "categorical", "size": 5}]
    assert specs["item_features"] == [{"name": "shop", "kind": "categorical", "values": [10, 30]}]


def test_feature_specs_quantiles_of_many_equal_numbers_are_distinct_and_leave_no_bucket_empty() -> (
    None
):
    price = np.array([0.0] * 90 + [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    sessions = Sessions.from_lists([[0] * 100])
    spec = feature_specs(replace(sessions, click_features={"price": price}), click=["price"])
    edges = spec["click_features"][0]["boundaries"]
    buckets = np.bincount(np.searchsorted(edges, price, side="right"), minlength=len(edges) + 1)
    assert (np.diff(edges) > 0).all()
    assert (buckets > 0).all()


def test_feature_specs_of_movielens_tell_ratings_years_and_genres() -> None:
    genres = {"name": "genres", "kind": "multi_hot", "separator": "|"}
    sessions = gs.load_dataset("movielens-small")
    specs = feature_specs(sessions, click=["rating"], item=["year", genres])
    assert len(specs["item_features"][1]["values"]) == 20
    assert specs["click_features"][0]["boundaries"] == [2.0, 3.0, 3.5, 4.0, 4.5, 5.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"click": ["price"]}, "have no click feature 'price', but 'device'"),
        ({"item": ["price"]}, "have no item feature 'price', but none at all"),
        ({"click": ["device"], "num_buckets": 1}, "num_buckets must be at least 2, got 1"),
        (
            {"click": [{"name": "device", "kind": "vector", "colour": 1}]},
            "A feature is a dict with name, kind",
        ),
        ({"click": ["device"]}, "has no values, so it has no quantiles"),
    ],
)
def test_feature_specs_of_what_is_not_there_raise(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        feature_specs(sessions_with({"device": np.full(4, np.nan)}), **options)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "x"}, "A feature is a dict with name, kind"),
        ({"name": "x", "kind": "text"}, "one of categorical, numeric, multi_hot, vector, got 'te"),
        ({"name": "x", "kind": "categorical"}, "needs either a size or its values"),
        ({"name": "x", "kind": "categorical", "size": 2, "values": [1, 2]}, "either a size or"),
        ({"name": "x", "kind": "categorical", "size": 0}, "needs a size of at least 1"),
        ({"name": "x", "kind": "categorical", "values": [1, 1]}, "or distinct values"),
        ({"name": "x", "kind": "categorical", "size": 2, "separator": "|"}, "takes no separator"),
        ({"name": "x", "kind": "numeric"}, "needs boundaries, finite and ascending, got None"),
        ({"name": "x", "kind": "numeric", "boundaries": [2.0, 2.0]}, "finite and ascending"),
        ({"name": "x", "kind": "numeric", "boundaries": [1.0], "size": 3}, "takes no size"),
        ({"name": "x", "kind": "vector"}, "is vector and needs a size"),
        ({"name": "x", "kind": "vector", "size": 2, "values": [1]}, "takes no values"),
    ],
)
def test_feature_that_is_not_described_raises(spec: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Feature.from_spec(spec)


def test_feature_whose_name_is_no_text_raises() -> None:
    with pytest.raises(ValueError, match="name of a feature is text, got 7"):
        Feature(7, "categorical", size=2)  # type: ignore[arg-type]


def test_with_feature_vocabularies_renames_values_and_leaves_numbers_alone() -> None:
    own = gs.data.Vocabulary(["phone", "tv"])
    click = {"device": np.array([0, 1, -1, 0], dtype=np.int32), "price": np.arange(4.0)}
    sessions = sessions_with(click, feature_vocabularies={"device": own})
    other = {"device": gs.data.Vocabulary(["tablet", "phone"]), "page": own}
    recoded = sessions.with_feature_vocabularies(other)
    assert recoded.click_features["device"].tolist() == [1, -1, -1, 1]
    assert recoded.feature_vocabularies["device"] == other["device"]
    assert recoded.click_features["price"] is click["price"]
    assert recoded.with_feature_vocabularies(other) is recoded


def test_encode_column_of_values_gives_their_places_and_minus_one_for_others() -> None:
    feature = Feature("x", "categorical", values=["b", "a"])
    (codes,) = encode_column(feature, pd.Series(["a", None, "b", "z"]))
    assert codes.tolist() == [1, -1, 0, -1]
    assert codes.dtype == np.int32


def test_encode_column_of_integers_with_gaps_gives_their_places() -> None:
    feature = Feature("x", "categorical", values=[10, 30])
    (codes,) = encode_column(feature, pd.Series([30, None, 10], dtype="Int64"))
    assert codes.tolist() == [1, -1, 0]


def test_encode_column_of_codes_keeps_them_and_refuses_others() -> None:
    feature = Feature("x", "categorical", size=3)
    (codes,) = encode_column(feature, pd.Series([2.0, np.nan, -1.0, 0.0]))
    assert codes.tolist() == [2, -1, -1, 0]
    for wrong in (3.0, 0.5, -2.0):
        with pytest.raises(ValueError, match=r"holds codes 0\.\.2 by its size, .* but row 1 is"):
            encode_column(feature, pd.Series([0.0, wrong]))
    with pytest.raises(ValueError, match="holds no numbers"):
        encode_column(feature, pd.Series(["a"], name="x"))


def test_encode_column_of_numbers_gives_buckets_whose_lower_edge_is_theirs() -> None:
    feature = Feature("x", "numeric", boundaries=[1.0, 2.0])
    (codes,) = encode_column(feature, pd.Series([0.9, 1.0, 1.9, 2.0, np.inf, np.nan]))
    assert codes.tolist() == [0, 1, 1, 2, 2, -1]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["b|a|b", None, "", "c|z"], index=[7, 7, 3, 0]),
        pd.Series([["b", "a", "b"], None, [], np.array(["c", "z"])]),
    ],
)
def test_encode_column_of_several_values_counts_each_once(column: pd.Series) -> None:
    separator = "|" if isinstance(column.iloc[0], str) else None
    feature = Feature("x", "multi_hot", values=["a", "b", "c"], separator=separator)
    codes, ptr = encode_column(feature, column)
    assert codes.tolist() == [0, 1, 2]
    assert ptr.tolist() == [0, 2, 2, 2, 3]


def test_encode_column_of_no_value_at_all_is_empty_but_whole() -> None:
    codes, ptr = encode_column(Feature("x", "multi_hot", size=2), pd.Series([None, []]))
    assert codes.tolist() == []
    assert ptr.tolist() == [0, 0, 0]


def test_encode_column_of_vectors_is_zero_where_missing_and_refuses_other_widths() -> None:
    feature = Feature("x", "vector", size=2)
    (rows,) = encode_column(feature, pd.Series([[1.0, np.nan], None, np.array([3, 4])]))
    assert rows.tolist() == [[1, 0], [0, 0], [3, 4]]
    with pytest.raises(ValueError, match="vectors of 2 numbers by its size, but row 1 has 3"):
        encode_column(feature, pd.Series([[1.0, 2.0], [1.0, 2.0, 3.0]]))


@pytest.mark.parametrize("wrong", ["ab", 3.5, ["a", "b"], [[1.0, 2.0]], {"a": 1}])
def test_encode_column_of_vectors_names_what_is_no_vector(wrong: object) -> None:
    feature = Feature("x", "vector", size=2)
    with pytest.raises(ValueError, match="one vector of numbers per item, but row 1 has"):
        encode_column(feature, pd.Series([[1.0, 2.0], wrong], dtype=object))


def test_encode_column_of_vectors_counts_numbers_that_are_not_finite(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = pd.Series([[1.0, np.inf], [np.nan, np.nan], None, [1.0, 2.0]])
    (rows,) = encode_column(Feature("x", "vector", size=2), told)
    assert rows.tolist() == [[1, 0], [0, 0], [0, 0], [1, 2]]
    assert "Feature 'x': 2 of 3 vectors hold numbers that are not finite" in caplog.text
