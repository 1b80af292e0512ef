"""The relations of items as a PyG ``HeteroData``: edges from items to their feature values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch_geometric.data import HeteroData

from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.features import Feature, Spec, encode_column
from graphseq.data.sessions.sessions import Sessions


def knowledge_graph(items: Catalog | Sessions, features: Sequence[Spec]) -> HeteroData:
    """A graph of items and the values of their features, for PyG's heterogeneous models.

    Args:
        items: Items with ``item_features``.
        features: Specs of the kinds ``"categorical"``, ``"multi_hot"`` and ``"numeric"`` (whose
            values are its buckets), as ``gs.data.feature_specs`` gives them.

    Returns:
        Node types ``item`` and one per feature, named as the feature, with ``num_nodes`` and
        ``x``, the codes 0, 1, ...; edge types ``("item", "has_<feature>", feature)`` with
        ``edge_index`` [2, num_edges]. An item that lacks a feature has no edge of it.

    Raises:
        ValueError: If there is no feature, the items lack one, or one is a vector.
    """
    catalog = items.catalog() if isinstance(items, Sessions) else items
    if not features:
        raise ValueError("A knowledge graph needs at least one feature of the items.")
    graph = HeteroData()
    graph["item"].num_nodes = catalog.num_items
    graph["item"].x = torch.arange(catalog.num_items)
    for spec in features:
        feature = Feature.from_spec(spec)
        table = catalog.item_features
        if table is None or feature.name not in table:
            raise ValueError(f"These items have no feature {feature.name!r}.")
        if feature.kind == "vector" or feature.name == "item":
            raise ValueError(
                f"The feature {feature.name!r} is no relation: values are nodes, vectors are not, "
                "and 'item' names the items."
            )
        codes, *ptr = encode_column(feature, table[feature.name])
        number = np.arange(catalog.num_items)
        item = number if not ptr else np.repeat(number, np.diff(ptr[0]))
        known = codes >= 0
        edges = np.stack([item[known], codes[known]]).astype(np.int64)
        graph[feature.name].num_nodes = feature.num_codes
        graph[feature.name].x = torch.arange(feature.num_codes)
        graph["item", f"has_{feature.name}", feature.name].edge_index = torch.from_numpy(edges)
    return graph
