"""Embeddings of side features against vectors put together by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from graphseq.nn.features import FeatureEmbedding, ItemFeatures

SPECS = [
    {"name": "brand", "kind": "categorical", "values": ["x", "y", "z"]},
    {"name": "price", "kind": "numeric", "boundaries": [1.0, 2.0]},
    {"name": "tags", "kind": "multi_hot", "values": ["a", "b", "c"], "separator": "|"},
    {"name": "image", "kind": "vector", "size": 2},
]
TABLE = pd.DataFrame(
    {
        "brand": ["z", None, "x", "other"],
        "price": [0.5, 2.0, np.nan, 1.0],
        "tags": ["a|c", "", "b", "a|b|c"],
        "image": [[1.0, 2.0], None, [0.0, 1.0], [3.0, -1.0]],
    }
)
ZERO = torch.zeros(4)


def by_hand(embedding: FeatureEmbedding) -> Tensor:
    """The rows of TABLE, part by part."""
    brand, price, tags, image = (part.weight for part in embedding.parts)
    rows = [
        [brand[2], price[0], (tags[0] + tags[2]) / 2, image[:, 0] + 2 * image[:, 1]],
        [ZERO, price[2], ZERO, ZERO],
        [brand[0], ZERO, tags[1], image[:, 1]],
        [ZERO, price[1], tags.mean(0), 3 * image[:, 0] - image[:, 1]],
    ]
    return torch.stack([torch.cat(row) for row in rows])


def filled() -> ItemFeatures:
    torch.manual_seed(0)
    module = ItemFeatures(SPECS, channels=4)
    module.fill(TABLE)
    return module


def test_feature_embedding_of_clicks_equals_the_parts_by_hand() -> None:
    torch.manual_seed(0)
    module = FeatureEmbedding(SPECS, channels=4)
    assert module.out_channels == 16
    values = {
        "brand": torch.tensor([2, -1, 0, 3]),  # 3: a code the feature does not have
        "price": torch.tensor(TABLE["price"].to_numpy()),
        "tags": torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]).bool(),
        "image": torch.tensor([[1.0, 2.0], [torch.nan, torch.nan], [0.0, 1.0], [3.0, -1.0]]),
    }
    torch.testing.assert_close(module(values), by_hand(module))
    ragged = torch.tensor([0, 2, 1, 0, 1, 2]), torch.tensor([0, 2, 2, 3, 6])
    torch.testing.assert_close(module({**values, "tags": ragged}), by_hand(module))


def test_feature_embedding_of_integers_buckets_them() -> None:
    module = FeatureEmbedding(SPECS[1:2], channels=4)
    whole = module({"price": torch.tensor([0, 1, 2, 9])})
    assert torch.equal(whole, module.parts[0].weight[[0, 1, 2, 2]])


def test_feature_embedding_of_no_clicks_is_empty() -> None:
    module = FeatureEmbedding(SPECS[:2], channels=4)
    none = {"brand": torch.empty(0).long(), "price": torch.empty(0)}
    assert module(none).shape == (0, 8)


def test_feature_embedding_missing_values_get_no_gradient() -> None:
    module = FeatureEmbedding(SPECS[:2], channels=4)
    module({"brand": torch.tensor([-1]), "price": torch.tensor([torch.nan])}).sum().backward()
    assert not any(part.weight.grad.any() for part in module.parts)


def test_item_features_equal_the_parts_by_hand_for_all_and_for_some() -> None:
    module = filled()
    expected = by_hand(module.embedding)
    torch.testing.assert_close(module(), expected)
    some = torch.tensor([3, 0, 3, 1])
    torch.testing.assert_close(module(some), expected[some])
    assert module(torch.empty(0).long()).shape == (0, 16)


def test_item_features_are_part_of_the_state_and_come_back_without_the_table() -> None:
    module, fresh = filled(), ItemFeatures(SPECS, channels=4)
    assert not fresh.is_filled
    fresh.load_state_dict(module.state_dict())
    assert fresh.is_filled
    assert torch.equal(fresh(), module())
    again = filled()  # of another size: the state decides
    again.fill(pd.concat([TABLE, TABLE]))
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(), module())


def test_item_features_filled_again_hold_the_new_table_alone() -> None:
    module = filled()
    module.fill(TABLE.iloc[[2, 0]])
    torch.testing.assert_close(module(), by_hand(module.embedding)[[2, 0]])


def test_item_features_state_without_its_buffers_is_refused() -> None:
    state = filled().state_dict()
    del state["codes_0"]
    with pytest.raises(RuntimeError, match="codes_0"):
        ItemFeatures(SPECS, channels=4).load_state_dict(state)


def test_item_features_without_any_value_count_as_known() -> None:
    module = ItemFeatures(SPECS[2:3], channels=4)
    module.fill(TABLE.assign(tags=None))
    assert module.is_filled
    assert torch.equal(module(), torch.zeros(4, 4))


@pytest.mark.parametrize(
    ("specs", "channels", "message"),
    [
        (SPECS[:1] * 2, 4, "distinct names, got brand, brand"),
        (SPECS, 0, "feature_channels must be at least 1, got 0"),
        ([{"name": "x", "kind": "categorical"}], 4, "either a size or its values"),
    ],
)
def test_feature_embedding_wrong_settings_raise(specs: list, channels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureEmbedding(specs, channels)


def test_feature_modules_tell_names_and_kinds() -> None:
    kinds = "brand: categorical, price: numeric, tags: multi_hot, image: vector"
    assert repr(FeatureEmbedding(SPECS)) == f"FeatureEmbedding({kinds})"
    assert repr(ItemFeatures(SPECS)) == f"ItemFeatures({kinds})"
