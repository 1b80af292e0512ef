"""The index of Voyager (Spotify): a navigable graph."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from graphseq.arguments import whole
from graphseq.data.storage import Folder, FolderWriter
from graphseq.serving.extras import need
from graphseq.serving.indexes.base import Index
from graphseq.serving.item_vectors import Codes, Floats, ItemVectors

FILE = "index.voyager"


class VoyagerIndex(Index):
    """A navigable graph in Voyager.

    Voyager turns inner products into distances by one more column, so that items far from the
    longest vector are hard to find: compare it by :func:`~graphseq.serving.serving_report` before
    use.

    Args:
        vectors: The items to find.
        neighbors: Links per item.
        ef_build: Candidates looked at per item when it is linked.
        ef_search: Candidates looked at per query, at least ``k``.
    """

    kind: ClassVar[str] = "voyager"
    package: ClassVar[str | None] = "voyager"

    def __init__(
        self,
        vectors: ItemVectors,
        *,
        neighbors: int = 16,
        ef_build: int = 200,
        ef_search: int = 256,
    ) -> None:
        self.neighbors = whole("neighbors", neighbors, at_least=2)
        self.ef_build = whole("ef_build", ef_build)
        self.ef_search = whole("ef_search", ef_search)
        super().__init__(vectors)

    def _library(self) -> Any:
        return need("voyager", f"The index {self.kind!r}")

    def _build(self, rows: Floats) -> None:
        library = self._library()
        self._index = library.Index(
            library.Space.InnerProduct,
            num_dimensions=self.width,
            M=self.neighbors,
            ef_construction=self.ef_build,
        )
        self._index.add_items(rows, ids=np.arange(len(rows)))

    def _append(self, rows: Floats) -> None:
        start = len(self._items)
        self._index.add_items(rows, ids=np.arange(start, start + len(rows)))

    def _drop(self, rows: Codes) -> None:
        for row in rows.tolist():  # Voyager marks one at a time
            self._index.mark_deleted(row)

    def _search(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        library = self._library()
        most = k
        while True:
            try:
                rows, distances = self._index.query(
                    queries, most, query_ef=max(self.ef_search, most)
                )
                break
            except library.RecallError:  # the graph reaches fewer items than asked for
                most //= 2
                if most == 0:
                    rows = distances = np.empty((len(queries), 0))
                    break
        found = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        found[:, :most] = rows.astype(np.int64)
        scores[:, :most] = 1.0 - distances
        return found, scores

    def _write(self, out: FolderWriter) -> None:
        self._index.save(str(out.path / FILE))
        out.add_file(FILE)

    def _read(self, opened: Folder) -> None:
        library = self._library()
        try:
            self._index = library.Index.load(opened.file(FILE))
        except RuntimeError as error:
            raise ValueError(f"{opened.path / FILE} is broken: Voyager cannot read it.") from error
        if self._index.num_dimensions != self.width:
            raise ValueError(f"{opened.path / FILE} is broken: it has another width.")
