"""Exact search: every inner product, by matrix products of blocks of items."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from graphseq.data.storage import Folder, FolderWriter
from graphseq.data.storage.arrays import npy_start
from graphseq.serving.indexes.base import Index
from graphseq.serving.item_vectors import Codes, Floats

MOST_SCORES = 2**22
"""Scores held at once: items are taken in blocks of this many divided by the queries."""


class ExactIndex(Index):
    """All inner products, in blocks of items; nothing is approximate, no library is needed."""

    kind: ClassVar[str] = "exact"

    def _build(self, rows: Floats) -> None:
        self._rows = torch.from_numpy(np.array(rows))

    def _append(self, rows: Floats) -> None:
        self._rows = torch.cat([self._rows, torch.from_numpy(rows)])

    def _search(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        vectors, gone = torch.from_numpy(queries), torch.from_numpy(~self._alive)
        any_gone = bool(gone.any())
        step = max(k, MOST_SCORES // len(vectors))
        best_scores = torch.empty(len(vectors), 0)
        best_rows = torch.empty(len(vectors), 0, dtype=torch.long)
        for start in range(0, len(self._rows), step):
            scores = vectors @ self._rows[start : start + step].T  # [n, step]
            if any_gone:
                scores.masked_fill_(gone[start : start + step], -torch.inf)
            scores, rows = scores.topk(min(k, scores.size(1)))
            best_scores, best_rows = _merge(best_scores, best_rows, scores, rows + start, k)
        return best_rows.numpy(), best_scores.numpy()

    def _write(self, out: FolderWriter) -> None:
        out.write_array("vectors", self._rows.numpy())

    def _read(self, opened: Folder) -> None:
        shape = opened.array("vectors", np.float32, ndim=2).shape  # checked against its file
        if shape != (len(self._items), self.width):
            raise ValueError(f"{opened.path / 'vectors.npy'} is broken: its shape is {shape}.")
        # Mapped copy-on-write: torch knows no read-only memory, and nothing here writes to it.
        start = len(npy_start(np.dtype("<f4"), shape)) // 4
        size = start + shape[0] * shape[1]
        flat = torch.from_file(
            opened.file("vectors.npy"), shared=False, size=size, dtype=torch.float32
        )
        self._rows = flat[start:].view(shape)


def _merge(
    scores: Tensor, rows: Tensor, more_scores: Tensor, more_rows: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The best ``k`` of two lists per query; of equal scores the earlier row comes first."""
    if rows.size(1) == 0:
        return more_scores, more_rows
    scores, rows = torch.cat([scores, more_scores], 1), torch.cat([rows, more_rows], 1)
    scores, place = scores.topk(min(k, scores.size(1)))
    return scores, rows.gather(1, place)
