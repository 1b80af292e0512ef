"""Indexes of USearch: a navigable graph over numbers of 32 bits, or of eight."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from graphseq.arguments import whole
from graphseq.data.storage import Folder, FolderWriter
from graphseq.serving.extras import need
from graphseq.serving.indexes.base import Index
from graphseq.serving.item_vectors import Codes, Floats, ItemVectors

FILE = "index.usearch"


class USearchIndex(Index):
    """A navigable graph under inner products, in USearch, which maps its file when loaded.

    Args:
        vectors: The items to find.
        neighbors: Links per item.
        ef_build: Candidates looked at per item when it is linked.
        ef_search: Candidates looked at per query.
    """

    kind: ClassVar[str] = "usearch"
    package: ClassVar[str | None] = "usearch"
    number: ClassVar[Literal["f32", "i8"]] = "f32"

    def __init__(
        self,
        vectors: ItemVectors,
        *,
        neighbors: int = 16,
        ef_build: int = 128,
        ef_search: int = 256,
    ) -> None:
        self.neighbors = whole("neighbors", neighbors, at_least=2)
        self.ef_build = whole("ef_build", ef_build)
        self.ef_search = whole("ef_search", ef_search)
        super().__init__(vectors)

    def _library(self) -> Any:
        return need("usearch.index", f"The index {self.kind!r}")

    def _build(self, rows: Floats) -> None:
        self._index = self._library().Index(
            ndim=self.width,
            metric="ip",
            dtype=self.number,
            connectivity=self.neighbors,
            expansion_add=self.ef_build,
            expansion_search=self.ef_search,
        )
        self._mapped = False
        self._index.add(np.arange(len(rows), dtype=np.uint64), self._stored(rows))

    def _append(self, rows: Floats) -> None:
        self._own()
        start = len(self._items)
        keys = np.arange(start, start + len(rows), dtype=np.uint64)
        self._index.add(keys, self._stored(rows))

    def _drop(self, rows: Codes) -> None:
        self._own()
        self._index.remove(rows.astype(np.uint64))

    def _own(self) -> None:
        if self._mapped:  # memory of a file cannot change
            self._index = self._index.copy()
            self._mapped = False

    def _stored(self, rows: Floats) -> NDArray[Any]:
        return rows

    def _asked(self, queries: Floats) -> tuple[NDArray[Any], Floats]:
        """Queries as they are stored, and what their scores are multiplied by, [n, 1]."""
        return queries, np.ones((len(queries), 1), dtype=np.float32)

    def _search(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        asked, scale = self._asked(queries)
        found = self._index.search(asked, k)
        keys = np.atleast_2d(np.asarray(found.keys).astype(np.int64))
        distances = np.atleast_2d(np.asarray(found.distances, dtype=np.float32))
        counts = np.atleast_1d(getattr(found, "counts", np.full(len(queries), k)))
        present = np.arange(keys.shape[1]) < counts[:, None]
        scores = (1.0 - np.where(present, distances, 1.0)) * scale
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        filled = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows[:, : keys.shape[1]] = np.where(present, keys, -1)
        filled[:, : keys.shape[1]] = np.where(present, scores, -np.inf)
        return rows, filled

    def _write(self, out: FolderWriter) -> None:
        self._index.save(str(out.path / FILE))
        out.add_file(FILE)

    def _read(self, opened: Folder) -> None:
        try:
            self._index = self._library().Index.restore(opened.file(FILE), view=True)
        except RuntimeError as error:
            raise ValueError(f"{opened.path / FILE} is broken: USearch cannot read it.") from error
        if self._index is None or self._index.ndim != self.width:
            raise ValueError(f"{opened.path / FILE} is broken: it has another width.")
        self._index.expansion_search = self.ef_search
        self._mapped = True


class USearchInt8(USearchIndex):
    """The same over numbers of eight bits: every column, and every query, has a scale of its own.

    USearch's own conversion gives all vectors length one, which is another order than that of inner
    products; so vectors are converted here.
    """

    kind: ClassVar[str] = "usearch_i8"
    rounds: ClassVar[bool] = True
    number: ClassVar[Literal["f32", "i8"]] = "i8"

    def _build(self, rows: Floats) -> None:
        self._scale = _scale_of(rows)  # [width]
        super()._build(rows)

    def _append(self, rows: Floats) -> None:
        # A column of zeros has no scale, and takes that of the first rows that are no zeros.
        self._scale = np.where(self._scale > 0, self._scale, _scale_of(rows))
        super()._append(rows)

    def _stored(self, rows: Floats) -> NDArray[np.int8]:
        scale = np.where(self._scale > 0, self._scale, 1)
        return np.clip(np.rint(rows / scale), -127, 127).astype(np.int8)

    def _asked(self, queries: Floats) -> tuple[NDArray[np.int8], Floats]:
        scaled = queries * self._scale
        largest = np.abs(scaled).max(1, keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        return np.rint(scaled / scale).astype(np.int8), scale

    def _write(self, out: FolderWriter) -> None:
        super()._write(out)
        out.write_array("scale", self._scale)

    def _read(self, opened: Folder) -> None:
        self._scale = np.array(opened.array("scale", np.float32))
        super()._read(opened)


def _scale_of(rows: Floats) -> Floats:
    """What one of 127 steps of each column is, [width]; 0 for zeros, which say nothing.

    Any other scale would count in queries: the 1 that meets biases of zero hid all other columns.
    """
    scale: Floats = (np.abs(rows).max(0, initial=0) / 127).astype(np.float32)
    return scale
