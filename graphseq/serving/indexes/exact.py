"""Exact search: every inner product, by matrix products of blocks of items."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphseq.data.storage import Folder, FolderWriter
from graphseq.data.storage.arrays import npy_start
from graphseq.serving.indexes.exhaustive import ExhaustiveIndex
from graphseq.serving.item_vectors import Codes, Floats

Coarse = tuple[Tensor, Tensor]
"""The rows in bfloat16, and the greatest length of a row and of a bias, [2]."""

MOST_SCORES = 2**22
"""Scores held at once: items are taken in blocks of this many divided by the queries."""


SHORTLIST = 3
"""Rows per query, in units of ``k`` and at least 64, whose products are computed again in full."""

ROUNDING = 2.0**-8
"""How far a bfloat16 number lies from what it stands for, at most, relative to it."""


class ExactIndex(ExhaustiveIndex):
    """All inner products, in blocks of items; nothing is approximate, no library is needed.

    Where the processor multiplies bfloat16 numbers, a first pass with these makes a short list,
    whose products are computed again in float32. If rounding may have kept a row from the list,
    all products of that query are computed in float32: the answer is exact either way.
    """

    kind: ClassVar[str] = "exact"

    def _build(self, rows: Floats) -> None:
        self._rows = torch.from_numpy(np.array(rows))
        self._coarse: Coarse | None = None

    def _append(self, rows: Floats) -> None:
        self._rows = torch.cat([self._rows, torch.from_numpy(rows)])
        self._coarse = None

    def _highest(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        vectors = torch.from_numpy(queries)
        if not multiplies_bfloat16() or max(64, SHORTLIST * k) >= len(self._rows):
            return self._in_full(vectors, k)
        rows, scores, certain = self._through_shortlist(vectors, k)
        if not certain.all():
            rows[~certain], scores[~certain] = self._in_full(vectors[torch.from_numpy(~certain)], k)
        return rows, scores

    def _through_shortlist(
        self, vectors: Tensor, k: int
    ) -> tuple[Codes, Floats, NDArray[np.bool_]]:
        """Rows and scores [n, k] of a short list, and whether no other row can be among them."""
        if self._coarse is None:  # two threads may make it: both make the same
            longest = _lengths(self._rows, self.has_bias).amax(0)
            self._coarse = self._rows.bfloat16(), longest
        coarse, longest = self._coarse
        size = max(64, SHORTLIST * k)
        about, rows = self._best(vectors.bfloat16(), coarse, size)
        scores = (self._rows[rows] @ vectors.unsqueeze(2)).squeeze(2)  # [n, size]
        scores.masked_fill_(about == -torch.inf, -torch.inf)  # removed items
        scores, place = scores.topk(k)
        # Query, row and product are rounded; a little more stands for the sums in float32.
        last = about[:, -1].float()  # no other row is above it, but for rounding
        error = 2.1 * ROUNDING * (_lengths(vectors, self.has_bias) @ longest)
        error += 1.1 * ROUNDING * last.abs()
        certain = scores[:, -1] >= last + error  # [n]; never where a score is NaN
        return rows.gather(1, place).numpy(), scores.numpy(), certain.numpy()

    def _in_full(self, vectors: Tensor, k: int) -> tuple[Codes, Floats]:
        scores, rows = self._best(vectors, self._rows, k)
        return rows.numpy(), scores.numpy()

    def _best(self, vectors: Tensor, table: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` highest products per vector and their rows, in blocks of the table."""
        gone = None if self._alive.all() else torch.from_numpy(~self._alive)
        step = max(k, MOST_SCORES // len(vectors))
        best: tuple[Tensor, Tensor] | None = None
        for start in range(0, len(table), step):
            scores = vectors @ table[start : start + step].T  # [n, step]
            if gone is not None:
                scores.masked_fill_(gone[start : start + step], -torch.inf)
            scores, rows = scores.topk(min(k, scores.size(1)))
            best = (scores, rows) if best is None else _merge(*best, scores, rows + start, k)
        assert best is not None  # an index has a row
        return best

    def _vectors(self) -> Tensor:
        return self._rows

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
        self._coarse = None


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 numbers; others are slower with them."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _lengths(rows: Tensor, has_bias: bool) -> Tensor:
    """Lengths of rows without their bias, and of the bias, [n, 2]: a product is no longer."""
    width = rows.size(1) - has_bias
    return torch.stack([rows[:, :width].norm(dim=1), rows[:, width:].norm(dim=1)], dim=1)


def _merge(
    scores: Tensor, rows: Tensor, more_scores: Tensor, more_rows: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The best ``k`` of two lists per query; of equal scores the earlier row comes first."""
    scores, rows = torch.cat([scores, more_scores], 1), torch.cat([rows, more_rows], 1)
    scores, place = scores.topk(min(k, scores.size(1)))
    return scores, rows.gather(1, place)
