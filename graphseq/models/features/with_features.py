"""Side features in the item table of any family, so that new items can be scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor

from graphseq.arguments import check_choice, check_shares, check_sizes
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.features import Spec
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.base import SessionModel, Traits
from graphseq.models.features.around import AroundBase, base_of
from graphseq.models.registry import register
from graphseq.nn.item_table import EncodedItemTable, ItemTable


@register("with_features")
class WithFeatures(AroundBase):
    r"""Another family, whose item table includes features besides ids:

    .. math::
        v_j = m_j e_j + \sum_k W_k f_{jk}

    in its input and in its scores (:class:`~graphseq.nn.item_table.EncodedItemTable`). An item
    without a training click is represented only by its features; id dropout trains for that case.
    In a catalog that grows (``gs.grow(model, data, initial="features")``) new items have no id part
    until ``fit``.

    Args:
        num_items: Items of the catalog.
        item_features: Specs of the features of items, as ``gs.data.feature_specs(sessions,
            item=[...])["item_features"]`` gives them; ``None``: the unchanged base.
        base: Name of a family in :data:`graphseq.models.MODELS` that scores by an item table and is
            trained by gradients. A family with a separate input table, such as GRU4Rec with
            ``embedding="separate"``, uses features only in its scores.
        feature_channels: Width of the embedding of each feature.
        id_dropout: Fraction of lookups without the id in training, in [0, 1).
        fusion: ``"sum"``, or ``"gate"``: weights per item for id and features. The gate is useful
            with several modalities, and with items that lack some of them.
        arguments: Arguments of the base, besides ``num_items``.

    Raises:
        ValueError: If ``base`` is no such family, a spec is wrong, or a size or share is.
    """

    traits = Traits(
        architecture="another family, its item rows made of ids and features",
        parallel=True,
        reach="that of its base",
        side_features=True,
        best_for="new items, and items with few clicks",
    )

    def __init__(
        self,
        num_items: int,
        item_features: Sequence[Spec] | None = None,
        base: str = "sasrec",
        *,
        feature_channels: int = 16,
        id_dropout: float = 0.1,
        fusion: Literal["sum", "gate"] = "sum",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(num_items, base, arguments)
        check_sizes(feature_channels=feature_channels)
        check_shares(id_dropout=id_dropout)
        check_choice("fusion", fusion, ("sum", "gate"))
        ids = self.inner.items
        if item_features:
            table = EncodedItemTable(
                num_items,
                ids.channels,
                item_features,
                feature_channels=feature_channels,
                id_dropout=id_dropout,
                fusion=fusion,
                bias=ids.bias is not None,
                normalize=ids.normalize,
                center=ids.center,
                scale=ids.scale,
            )
            self.inner.items = table
            with torch.no_grad():
                table.weight.copy_(ids.weight)
                if ids.bias is not None and table.bias is not None:
                    table.bias.copy_(ids.bias)

    def reset_parameters(self) -> None:
        inner: Any = self.inner  # each family has this method, but not their base class
        inner.reset_parameters()
        if isinstance(self.inner.items, EncodedItemTable):
            self.inner.items.reset_features()

    @classmethod
    def from_model(cls, model: SessionModel, item_features: Sequence[Spec], **options: Any) -> Self:
        """Builds this model around a copy of an existing base, which may be trained.

        Args:
            model: A model of a family in :data:`graphseq.models.MODELS`.
            item_features: As above.
            **options: The other arguments above, except ``base`` and its ``arguments``.

        Raises:
            ValueError: If the model is of another class, or of a family without an item table.
        """
        base, arguments = base_of(model, "with_features")
        made = cls(model.num_items, item_features, base, arguments=arguments, **options)
        return made.taking_over(model, strict=False)

    def attach(self, catalog: Catalog | None, sessions: Sessions | None = None) -> None:
        """Attaches the training data and the features of all items to model and base.

        Raises:
            ValueError: If the catalog has another number of items, or lacks a feature.
        """
        super().attach(catalog, sessions)
        table: ItemTable = self.inner.items
        if catalog is not None and isinstance(table, EncodedItemTable):
            table.fill(catalog, type(self).__name__)

    def initial_state(self, num_sessions: int | None = None, *, user: Any = -1) -> Any:
        return self.inner.initial_state(num_sessions, user=user)

    def update_state(self, state: Any, item: Any, *, ids: bool | None = None, **fields: Any) -> Any:
        return self.inner.update_state(state, item, ids=ids, **fields)

    def score_state(self, state: Any, items: Tensor | None = None) -> Tensor:
        return self.inner.score_state(state, items)

    def step(self, state: Any, items: Tensor) -> tuple[Tensor, Any]:
        return self.inner.step(state, items)

    def __repr__(self) -> str:
        names = ", ".join(str(spec["name"]) for spec in self.settings["item_features"] or ())
        return f"{type(self).__name__}({names or 'no features'}, {self.inner!r})"
