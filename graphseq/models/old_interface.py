"""The interface of models before 0.2, for classes that still use it; removed in 0.3."""

from __future__ import annotations

import inspect
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.nn.functional import linear

from graphseq.deprecation import warn_of_old_name
from graphseq.models.reading import TrainingRows

DECLARATIONS = {"trained_on": "samples", "states_equal_prefixes": "causal"}
"""Old name of a declaration -> its name."""

TABLE = ("item_weight", "item_rows", "item_bias", "score_vectors")
"""Methods instead of which stands one module, ``items``."""

METHODS = {
    **dict.fromkeys(TABLE, "items = gs.nn.ItemTable(...)"),
    "training_vectors": "training_rows(batch, generator)",
    "prepare": "attach(catalog, sessions)",
}
"""Old method -> what a class has in its place."""


ADOPTED: WeakSet[Any] = WeakSet()
"""Methods that :func:`adopt` made of old ones."""


class OldItemTable:
    """What the old methods of a model give, as :class:`graphseq.nn.ItemTable` has it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:  # of the table beneath, where the class has one
        return getattr(self.model._modules["items"], name)

    def __call__(self, items: Tensor) -> Tensor:
        looked_up: Tensor = self.model._modules["items"](items)
        return looked_up

    def _beneath(self, method: str) -> Any:
        """The table beneath, where the class does not override this method; else ``None``."""
        own = getattr(type(self.model), method) is not getattr(OldMethods, method)
        return None if own else self.model._modules.get("items")

    @property
    def bias(self) -> Tensor | None:
        table = self._beneath("item_bias")
        bias: Tensor | None = self.model.item_bias() if table is None else table.bias
        return bias

    @property
    def channels(self) -> int:
        return int(self.rows().size(1))

    def vectors(self, states: Tensor) -> Tensor:
        return states

    def rows(self, items: Tensor | None = None) -> Tensor:
        table = self._beneath("item_weight" if items is None else "item_rows")
        if table is None:
            table = self.model
            rows: Tensor = table.item_weight() if items is None else table.item_rows(items)
            return rows
        rows = table.rows(items)
        return rows

    def scores(self, vectors: Tensor, items: Tensor | None = None) -> Tensor:
        if type(self.model).score_vectors is not OldMethods.score_vectors:
            scores: Tensor = self.model.score_vectors(vectors, items)
            return scores
        return _scores(vectors, self.rows(items), self.bias, items)


class Renamed:
    """A declaration under its old name: it reads and sets the new one, with a warning."""

    def __init__(self, old: str) -> None:
        self.old, self.new = old, DECLARATIONS[old]

    def __get__(self, model: Any, family: type[Any]) -> Any:
        warn_of_old_name(f"{family.__name__}.{self.old}", f"{family.__name__}.{self.new}")
        return getattr(family if model is None else model, self.new)

    def __set__(self, model: Any, value: Any) -> None:
        warn_of_old_name(f"{type(model).__name__}.{self.old}", f"{type(model).__name__}.{self.new}")
        setattr(model, self.new, value)


class OldMethods:
    """The old names, for callers and for classes that declare or override some of them."""

    trained_on = Renamed("trained_on")
    states_equal_prefixes = Renamed("states_equal_prefixes")

    def item_weight(self) -> Tensor:
        return _table(self, "item_weight").rows()

    def item_rows(self, items: Tensor) -> Tensor:
        if "items" in self._modules:  # type: ignore[attr-defined]
            return _table(self, "item_rows").rows(items)
        weight = self.item_weight()
        for module in self.modules():  # type: ignore[attr-defined]
            if isinstance(module, torch.nn.Embedding) and module.weight is weight:
                rows: Tensor = module(items)  # so that its gradient can be row-sparse
                return rows
        return weight[items]

    def item_bias(self) -> Tensor | None:
        return _table(self, "item_bias").bias if "items" in self._modules else None  # type: ignore[attr-defined]

    def score_vectors(self, vectors: Tensor, items: Tensor | None = None) -> Tensor:
        rows = self.item_weight() if items is None else self.item_rows(items)
        return _scores(vectors, rows, self.item_bias(), items)

    def training_vectors(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        warn_of_old_name(
            f"{type(self).__name__}.training_vectors", f"{type(self).__name__}.training_rows"
        )
        rows = _above(self, "training_rows")(self, batch, generator)
        return rows.vectors, rows.targets

    def prepare(self, sessions: Any) -> None:
        warn_of_old_name(
            f"{type(self).__name__}.prepare(sessions)",
            f"{type(self).__name__}.attach(catalog, sessions)",
        )
        _above(self, "attach")(self, None, sessions)


def _scores(vectors: Tensor, rows: Tensor, bias: Tensor | None, items: Tensor | None) -> Tensor:
    """Inner products of vectors and rows of items, [C, d] or [n, C, d], plus the items' bias."""
    bias = bias if items is None or bias is None else bias[items]
    if rows.dim() == 2:
        return linear(vectors, rows, bias)
    scores = torch.einsum("nd,ncd->nc", vectors, rows)
    return scores if bias is None else scores + bias


def _above(model: Any, method: str) -> Any:
    """A method of the nearest class that has it as it is now."""
    found = (vars(family)[method] for family in type(model).__mro__ if method in vars(family))
    return next(each for each in found if each not in ADOPTED)


def _table(model: Any, method: str) -> Any:
    """The item table of a model that has one, whichever class asks for it by an old name."""
    warn_of_old_name(f"{type(model).__name__}.{method}()", f"{type(model).__name__}.items")
    return model._modules["items"]


def adopt(family: Any) -> None:
    """Gives a new class that overrides old methods what has replaced them."""
    own = vars(family)
    for name in own.keys() & METHODS.keys():
        warn_of_old_name(f"{family.__name__}.{name}", METHODS[name])
    if own.keys() & set(TABLE):
        family.items = property(OldItemTable)
    own_scores = bool(own.keys() & {"score", "score_vectors"})
    if (own_scores or own.get("adds_to_table")) and "scores_by_table" not in own:
        family.scores_by_table = False
    if own_scores and "adds_to_table" not in own:
        family.adds_to_table = False
    if "training_vectors" in own and "training_rows" not in own:
        family.training_rows = rows_of_old_vectors
    takes_sessions = (
        "attach" not in own or "sessions" in inspect.signature(family.attach).parameters
    )
    if "prepare" in own or not takes_sessions:
        attach = own.get("attach")

        def attach_and_prepare(self: Any, catalog: Any, sessions: Any = None) -> None:
            if attach is None:
                super(family, self).attach(catalog, sessions)
            elif catalog is not None:
                attach(self, catalog)
            if "prepare" in own and sessions is not None:
                self.prepare(sessions)

        family.attach = attach_and_prepare
        ADOPTED.add(attach_and_prepare)


def rows_of_old_vectors(self: Any, batch: Any, generator: torch.Generator) -> Any:
    """The rows of a class that has training_vectors alone: one per session, or one per click."""
    vectors, targets = self.training_vectors(batch, generator)
    if len(vectors) == batch.num_graphs:
        session = torch.arange(batch.num_graphs, device=vectors.device)
    elif len(vectors) == batch.click_index.numel():
        session = batch.click_batch
    else:
        raise ValueError(
            f"{type(self).__name__} trains on {len(vectors)} vectors for {batch.num_graphs} "
            f"sessions of {batch.click_index.numel()} clicks, and has no training_rows to say "
            "which session each belongs to."
        )
    return TrainingRows(vectors, targets, session)


ADOPTED.add(rows_of_old_vectors)
