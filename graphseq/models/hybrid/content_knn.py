"""Content kNN: items with features similar to the items of the session."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.arguments import check_sizes
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.features import Feature, Spec, encode_column
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import Traits
from graphseq.models.counting.counting import CountingModel, Evidence
from graphseq.models.registry import register
from graphseq.nn.features import ItemFeatures
from graphseq.nn.item_table import columns_of


@register("content_knn")
class ContentKNN(CountingModel):
    r"""Cosine of items by their features, summed over the newest clicks of the session.

    .. math::
        \hat y_{sj} = \sum_{t=1}^{R} \gamma^{t-1} \cos(f_{i_t}, f_j) + \beta \frac{c_j}{N}

    with :math:`i_1` the newest click, :math:`R` ``last_clicks``, :math:`\gamma` ``decay`` and
    :math:`\beta` ``backoff``. :math:`f_j` represents the item: the values of its categorical and
    multi-hot features, the buckets of its numbers, and given vectors, such as vectors of a text or
    image encoder. Each feature has length one; a missing feature is zero. Only :math:`c_j` is
    learned from clicks, so new items are treated like old ones. With vectors of titles this is a
    zero-shot text recommender.

    Args:
        num_items: Items of the catalog.
        item_features: Specs of the features, as ``gs.data.feature_specs(sessions,
            item=[...])["item_features"]`` gives them; ``None``: only popularity.
        last_clicks: Number of last clicks of a session that are summed.
        decay: Weight of a click relative to the one after it, in (0, 1].
        backoff: Weight of the share of training clicks, which orders equal items.

    Raises:
        ValueError: If a spec is wrong or an argument is out of range.
    """

    traits = Traits(
        architecture="cosine of items by their features",
        parallel=True,
        reach="last_clicks clicks",
        side_features=True,
        best_for="items without clicks, and the floor under models of features",
    )
    num_roundings = 4096  # a cosine of given vectors has one term per channel
    in_main_memory = ("feature_ptr", "feature_column", "feature_value")

    feature_ptr: Tensor
    feature_column: Tensor
    feature_value: Tensor

    def __init__(
        self,
        num_items: int,
        item_features: Sequence[Spec] | None = None,
        *,
        last_clicks: int = 5,
        decay: float = 0.7,
        backoff: float = 0.001,
    ) -> None:
        super().__init__(num_items)
        check_sizes(last_clicks=last_clicks)
        if not 0 < decay <= 1:
            raise ValueError(f"decay must lie in (0, 1], got {decay}.")
        if not 0 <= backoff < float("inf"):
            raise ValueError(f"backoff must be a finite number of at least 0, got {backoff}.")
        self.features = [Feature.from_spec(spec) for spec in item_features or ()]
        self.last_clicks = last_clicks
        self.decay = decay
        self.backoff = backoff
        self.set_buffer("feature_ptr")  # [num_items + 1], into the values
        self.set_buffer("feature_column", dtype=torch.int)
        self.set_buffer("feature_value", dtype=torch.double)

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Reads the features of all items.

        Raises:
            ValueError: If the catalog lacks one.
        """
        super().attach(catalog, sessions)
        if catalog is None:
            return
        blocks = [csr_matrix((self.num_items, 0))]
        if self.features:
            specs = [feature.to_spec() for feature in self.features]
            table = columns_of(ItemFeatures(specs, 1), catalog.item_features, type(self).__name__)
            blocks += [_of_unit_length(_values(each, table[each.name])) for each in self.features]
        known = _of_unit_length(hstack(blocks, format="csr"))  # f: [num_items, num_values]
        self.set_buffer("feature_ptr", known.indptr.astype(np.int64))
        self.set_buffer("feature_column", known.indices.astype(np.int32))
        self.set_buffer("feature_value", known.data.astype(np.float64))

    def evidence(self, batch: Batch) -> Evidence:
        """Sums of cosines with the newest clicks."""
        self.popularity()  # raises if the model is not fitted
        column = self.feature_column.numpy()
        parts = (self.feature_value.numpy(), column, self.feature_ptr.numpy())
        features = csr_matrix(parts, (self.num_items, int(column.max(initial=-1)) + 1))
        items, ptr = batch.click_item.cpu().numpy(), batch.click_ptr.cpu().numpy()
        session = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
        age = ptr[1:][session] - 1 - np.arange(len(items))  # 0: the newest click
        near = age < self.last_clicks
        weight = self.decay ** age[near].astype(np.float64)
        shape = (len(ptr) - 1, self.num_items)
        clicks = csr_matrix((weight, (session[near], items[near])), shape)
        sums = (clicks @ features) @ features.T
        sums.data = np.maximum(sums.data, 0)  # negative cosines are no evidence
        return Evidence([csr_matrix(sums)], backoff=self.backoff)


def _values(feature: Feature, column: object) -> csr_matrix:
    """One feature of all items, [num_items, num_codes]."""
    codes, *ptr = encode_column(feature, column)  # type: ignore[arg-type]
    if feature.kind == "vector":
        return csr_matrix(np.nan_to_num(codes.astype(np.float64)))
    number = len(codes) if not ptr else len(ptr[0]) - 1
    row = np.arange(number) if not ptr else np.repeat(np.arange(number), np.diff(ptr[0]))
    known = codes >= 0
    one = np.ones(int(known.sum()))
    return csr_matrix((one, (row[known], codes[known])), (number, feature.num_codes))


def _of_unit_length(rows: csr_matrix) -> csr_matrix:
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(1)).ravel())
    scale: NDArray[np.float64] = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return csr_matrix(rows.multiply(scale[:, None]))
