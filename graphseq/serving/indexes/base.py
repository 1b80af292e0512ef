"""The one interface of all indexes: item vectors in, the best items of session vectors out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from graphseq.arguments import whole
from graphseq.data.storage import Folder, FolderKind, FolderWriter, open_folder, write_folder
from graphseq.data.storage.rules import anything, check_arguments, flag, mapping_of, text
from graphseq.data.storage.rules import whole as whole_number
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference
from graphseq.models.use.ties import first_equal
from graphseq.serving.item_vectors import (
    Codes,
    Floats,
    ItemVectors,
    float_rows,
    model_version,
    require_table,
)
from graphseq.serving.shared_lock import SharedLock

INDEX = FolderKind(
    format="graphseq.index",
    version=1,
    header="index.json",
    holds="saved index",
    made_by="index.save",
    rules={
        "kind": text(),
        "settings": mapping_of(anything()),
        "width": whole_number(1),
        "has_bias": flag(),
        "model_version": text(),
    },
)


class Index(ABC):
    """Finds the items with the highest inner products.

    A subclass stores rows, which are numbered as they come. An item that is removed keeps its row,
    which no search finds any more, until the index is built again. Any number of threads may
    search; a change waits until they are done.

    Args:
        vectors: The items to find.

    Attributes:
        kind: Its name in :data:`graphseq.serving.INDEXES`.
        package: The library behind it; ``None``: none beside graphseq's own.
        rounds: Whether its scores are of rounded numbers. A recommender then asks for twice as
            many items, and keeps the best by the model's own scores.
    """

    kind: ClassVar[str]
    package: ClassVar[str | None] = None
    rounds: ClassVar[bool] = False

    _held: tuple[int, int, NDArray[np.bool_] | None] | None = None
    _lowest_equal: tuple[str, Tensor | None] | None = None

    def __init__(self, vectors: ItemVectors) -> None:
        self.width = vectors.rows.shape[1]
        self.has_bias = vectors.has_bias
        self.model_version = vectors.model_version
        self.revision = 0
        """Number of changes since it was built."""
        self._items: Codes = np.array(vectors.items, dtype=np.int64)
        self._alive: NDArray[np.bool_] = np.ones(len(self._items), dtype=bool)
        self._lock = SharedLock()
        self._build(vectors.rows)

    @classmethod
    def of(cls, model: SessionModel, **settings: Any) -> Self:
        """The index of all items of a model.

        Args:
            model: A model whose scores are inner products with one item table.
            **settings: Options of this kind of index.

        Raises:
            ValueError: If the family scores in another way, or the library is missing.
        """
        return cls(ItemVectors.of(model), **settings)

    def of_other(self, model: SessionModel) -> Self:
        """The same items, settings and kind of index over the vectors of another model.

        Raises:
            ValueError: If an item was added that the model does not have.
        """
        vectors, items = ItemVectors.of(model), self.items
        refuse_foreign(items, len(vectors.rows))
        return self._of_part(vectors, items)

    def rebuilt(self, model: SessionModel) -> Self:
        """The index of all items of a model, except for those that were removed from this one.

        Raises:
            ValueError: If the family scores in another way.
        """
        vectors = ItemVectors.of(model)
        gone = np.setdiff1d(self._items[~self._alive], self.items)
        return self._of_part(vectors, np.setdiff1d(vectors.items, gone))

    def _of_part(self, vectors: ItemVectors, items: Codes) -> Self:
        """This kind of index with these settings, over some items of a model."""
        version = vectors.model_version
        part = ItemVectors(vectors.rows[items], items, vectors.has_bias, version)
        return type(self)(part, **self.settings)

    # -- searching -----------------------------------------------------------------------------

    def search(self, queries: ArrayLike, k: int) -> tuple[Codes, Floats]:
        """The items with the highest inner products.

        Args:
            queries: float32 [n, width], as :func:`~graphseq.serving.query_vectors` makes them.
            k: Items to find per query.

        Returns:
            Codes, int64 [n, k], and scores, float32 [n, k], best first. Where fewer are found, -1
            and ``-inf`` fill the row.

        Raises:
            ValueError: If a query has another width, or a value that is NaN or infinite.
        """
        k, queries = whole("k", k), float_rows(queries, "queries")
        self._check_width(queries, "queries")
        items = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        with self._lock.reading():
            most = min(k, len(self))
            if most and len(queries):
                row, found = self._search(queries, most)
                items[:, :most] = np.where(row >= 0, self._items[row], -1)
                scores[:, :most] = np.where(row >= 0, found, -np.inf)
        return items, scores

    def check_version(self, model: SessionModel) -> None:
        """Refuses a model of another version than that of the vectors.

        Raises:
            ValueError: If it is of another width or version; both are named.
        """
        require_table(model)
        table = model.items
        width = table.channels + (table.bias is not None)
        if width != self.width:
            raise ValueError(
                f"This index holds vectors of width {self.width} and the model has vectors of "
                f"width {width}, biases included: build the index again with "
                f"{type(self).__name__}.of(model)."
            )
        found = model_version(model)
        if found != self.model_version:
            raise ValueError(
                f"This index holds vectors of model version {self.model_version}, and the model is "
                f"version {found}: build the index again with {type(self).__name__}.of(model)."
            )

    @property
    def items(self) -> Codes:
        """Codes of the items that it finds, int64 [num_items], in the order of their rows."""
        return self._items[self._alive]

    def holds(self, num_items: int) -> NDArray[np.bool_] | None:
        """Which of ``num_items`` items it finds, bool [num_items]; ``None``: all of them."""
        kept = self._held
        if kept is None or kept[:2] != (self.revision, num_items):
            with self._lock.reading():
                items, revision = self.items, self.revision
            mask = np.zeros(num_items, dtype=bool)
            mask[items[items < num_items]] = True
            self._held = kept = (revision, num_items, None if mask.all() else mask)
        return kept[2]

    def lowest_equal(self, model: SessionModel) -> Tensor | None:
        """The first item with the same vector, for each item of its model, int64 [num_items].

        Returns:
            ``None``: all vectors differ.
        """
        kept = self._lowest_equal
        if kept is None or kept[0] != self.model_version:
            with inference(model):
                first = first_equal(model.items.rows(), model.items.bias).cpu()
            distinct = torch.equal(first, torch.arange(len(first)))
            self._lowest_equal = kept = (self.model_version, None if distinct else first)
        return kept[1]

    def __len__(self) -> int:
        return int(np.count_nonzero(self._alive))

    # -- changing ------------------------------------------------------------------------------

    def add(self, items: ArrayLike, vectors: ArrayLike) -> None:
        """Adds items, with vectors of the same model version.

        Args:
            items: Codes of new items, [n].
            vectors: float32 [n, width]; the last column is the bias, if there is one.

        Raises:
            ValueError: If an item is here already, or the vectors do not fit.
        """
        codes, rows = _codes(items), float_rows(vectors, "vectors to add")
        self._check_width(rows, "vectors to add")
        if codes.shape != rows.shape[:1]:
            raise ValueError(
                f"add takes one code per vector, got {codes.size} codes and {len(rows)} vectors."
            )
        with self._lock.writing():
            again = np.isin(codes, self._items[self._alive])
            unique, counts = np.unique(codes, return_counts=True)
            if again.any() or (counts > 1).any():
                first = codes[again][0] if again.any() else unique[counts > 1][0]
                raise ValueError(
                    f"Item {first} is in this index already or given twice: remove it first."
                )
            self._append(rows)
            self._items = np.concatenate([self._items, codes])
            self._alive = np.concatenate([self._alive, np.ones(len(codes), dtype=bool)])
            self.revision += 1

    def remove(self, items: ArrayLike) -> None:
        """Removes items, which no later search finds.

        Raises:
            ValueError: If one is not here.
        """
        codes = np.unique(_codes(items))
        with self._lock.writing():
            absent = codes[~np.isin(codes, self._items[self._alive])]
            if len(absent):
                raise ValueError(f"Item {absent[0]} is not in this index ({len(absent)} such).")
            rows = np.flatnonzero(self._alive & np.isin(self._items, codes))
            self._drop(rows)
            self._alive[rows] = False
            self.revision += 1

    # -- files ---------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """The options this index was built with."""
        names = list(inspect.signature(type(self).__init__).parameters)[2:]
        return {name: getattr(self, name) for name in names}

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes the index to a folder with checksums, whole or not at all.

        Args:
            folder: The folder to make, or one that holds a saved index and nothing else.

        Raises:
            ValueError: If the folder holds anything else.
        """
        with write_folder(folder, INDEX) as out, self._lock.reading():
            out.content = {
                "kind": self.kind,
                "settings": self.settings,
                "width": self.width,
                "has_bias": self.has_bias,
                "model_version": self.model_version,
            }
            out.write_array("items", self._items)
            out.write_array("alive", self._alive)
            self._write(out)

    @classmethod
    def _of_folder(cls, opened: Folder) -> Self:
        """The index in an open folder of this kind."""
        index = cls.__new__(cls)
        header = opened.header
        shown = f"the settings of {opened.path / INDEX.header}"
        check_arguments(cls, {"vectors": None, **header["settings"]}, shown)
        for name, value in header["settings"].items():
            setattr(index, name, value)
        index.width, index.has_bias = header["width"], header["has_bias"]
        index.model_version, index.revision = header["model_version"], 0
        index._items = np.array(opened.array("items", np.int64))
        index._alive = np.array(opened.array("alive", np.bool_))
        if index._items.shape != index._alive.shape:
            raise ValueError(f"{opened.path} is broken: items and alive differ in length.")
        index._lock = SharedLock()
        index._read(opened)
        return index

    def _check_width(self, rows: Floats, what: str) -> None:
        if rows.shape[1] != self.width:
            raise ValueError(
                f"This index holds vectors of width {self.width}"
                f"{', the last one a bias,' if self.has_bias else ''} and the {what} have width "
                f"{rows.shape[1]}: they are of another model."
            )

    # -- what a kind of index implements -------------------------------------------------------

    @abstractmethod
    def _build(self, rows: Floats) -> None:
        """Stores the first rows."""

    @abstractmethod
    def _append(self, rows: Floats) -> None:
        """Stores further rows after those that are here."""

    def _drop(self, rows: Codes) -> None:  # noqa: B027  # most kinds look at _alive instead
        """Takes rows out of searches; ``_alive`` is changed after it."""

    @abstractmethod
    def _search(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        """Row numbers (-1: none) and scores, [n, k] each, of rows that are alive."""

    @abstractmethod
    def _write(self, out: FolderWriter) -> None:
        """Writes what is stored."""

    @abstractmethod
    def _read(self, opened: Folder) -> None:
        """Reads what :meth:`_write` wrote."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} items, width={self.width})"


def refuse_foreign(items: Codes, num_items: int) -> None:
    """Refuses codes of an index that a model of ``num_items`` items lacks.

    Raises:
        ValueError: If there is one.
    """
    foreign = items[items >= num_items]
    if len(foreign):
        raise ValueError(
            f"Item {foreign[0]} was added to this index, and the model has no vector of it: "
            "build the index of a model that knows it."
        )


def _codes(items: ArrayLike) -> Codes:
    """Codes of items, int64.

    Raises:
        ValueError: If they are not whole numbers of at least 0; -1 stands for no item.
    """
    codes = np.asarray(items)
    if codes.size == 0:
        return codes.astype(np.int64)
    if codes.dtype.kind not in "iu" or codes.min() < 0:
        wrong = codes.ravel()[:1] if codes.dtype.kind not in "iu" else codes[codes < 0]
        raise ValueError(
            f"Items of an index are codes, whole numbers of at least 0, got {wrong.tolist()[0]!r}."
        )
    return codes.astype(np.int64)


def open_index(folder: str | PathLike[str], *, expected: str | None = None) -> Folder:
    """Opens the folder of a saved index."""
    return open_folder(folder, INDEX, expected=expected)
