"""SASRec's keys and values of a live session: a click looks back without computing again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models.sequence.sasrec import SASRec
from graphseq.models.use.inference import inference
from graphseq.nn.ragged import DenseView
from graphseq.serving.item_vectors import Codes, Floats


class CachedView(DenseView):
    """The view of rows whose last click is new: the others are in a cache of keys and values.

    Attention asks it for dense keys, then values, layer by layer; each time the cached ones come
    before those of the new click, which stay.

    Args:
        cache: Keys and values of each layer in turn, of each row, [num_parts, clicks, heads,
            d/heads].
    """

    def __init__(self, cache: Sequence[Tensor]) -> None:
        self.lengths = torch.tensor([rows.size(1) for rows in cache])
        self.num_rows = len(cache)
        self.width = int(self.lengths.max()) + 1
        self.batch = torch.arange(self.num_rows)
        self.position = self.lengths
        self._place = self.batch
        self.parts = torch.stack(
            [
                torch.nn.functional.pad(rows, (0, 0, 0, 0, 0, self.width - rows.size(1)))
                for rows in cache
            ],
            dim=1,
        )  # [num_parts, num_rows, width, heads, d/heads]
        self._turn = 0

    def dense(self, values: Tensor) -> Tensor:
        """Keys or values [num_rows, heads, d/heads] after the cached: [num_rows, width, ...]."""
        part = self.parts[self._turn]
        part[self.batch, self.lengths] = values
        self._turn += 1
        return part

    def select(self, clicks: Tensor) -> DenseView:
        """The view of the new clicks alone, one per row."""
        return DenseView(torch.arange(self.num_rows + 1))

    def cache(self) -> list[Tensor]:
        """Keys and values with those of the new clicks, of each row."""
        return [
            self.parts[:, row, : length + 1] for row, length in enumerate(self.lengths.tolist())
        ]


@dataclass(frozen=True)
class AttentionStream:
    """Keys and values of all clicks of a session, as long as it fits ``max_length``.

    A longer session has a window that moves, in which every click has another place: it is
    computed again, and keeps no state. A state takes ``8 * num_layers * d`` bytes per click, and
    the session vector.

    Args:
        model: A causal model.
    """

    model: SASRec

    def advance(
        self, states: Sequence[bytes | None], clicks: Sequence[Codes], whole: Sequence[Codes]
    ) -> tuple[Floats, list[bytes | None]]:
        """See :meth:`graphseq.serving.live.streams.Stream.advance`."""
        model = self.model
        vectors = np.zeros((len(states), model.hidden_channels), dtype=np.float32)
        caches: list[Tensor | None] = [None] * len(states)
        left: dict[int, Codes] = {}  # clicks that each cache does not hold yet
        long: list[int] = []
        with inference(model):
            for row, kept in enumerate(states):
                vectors[row], cache = self._read(kept)
                new = whole[row] if kept is None else clicks[row]
                if cache.size(1) + len(new) > model.max_length:
                    long.append(row)
                elif cache.size(1) + len(new):
                    caches[row], left[row] = cache, new
            if long:
                vectors[long] = self._again([whole[row] for row in long])
            while rows := [row for row in left if len(left[row])]:
                items = torch.from_numpy(np.array([left[row][0] for row in rows]))
                found, after = self._step([caches[row] for row in rows], items)  # type: ignore[misc]
                for place, row in enumerate(rows):
                    caches[row], left[row] = after[place], left[row][1:]
                    vectors[row] = found[place].numpy()
        return vectors, [
            None if cache is None else vector.tobytes() + cache.contiguous().numpy().tobytes()
            for vector, cache in zip(vectors, caches, strict=True)
        ]

    def _step(self, cache: list[Tensor], items: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One click further: session vectors [n, d], and the caches."""
        model, view = self.model, CachedView(cache)
        x, rotation = model.positions(model.items(items), view)
        for block in model.blocks:
            x = block(x, view, rotation, view.batch)
        return model.items.vectors(model.norm(x)), view.cache()

    def _again(self, whole: list[Codes]) -> Floats:
        ptr = np.concatenate(([0], np.cumsum([len(known) for known in whole])))
        batch = build_session_graphs(torch.from_numpy(np.concatenate(whole)), torch.from_numpy(ptr))
        vectors: Floats = self.model(batch).numpy()
        return vectors

    @property
    def _shape(self) -> tuple[int, int, int]:
        model = self.model
        heads = model.heads
        return 2 * len(model.blocks), heads, model.hidden_channels // heads

    def _read(self, kept: bytes | None) -> tuple[Floats, Tensor]:
        """The session vector [d], and the cache; zeros and nothing before the first click."""
        parts, heads, width = self._shape
        if kept is None:
            return np.zeros(heads * width, dtype=np.float32), torch.zeros(parts, 0, heads, width)
        flat = np.frombuffer(kept, dtype=np.float32).copy()
        vector, cache = flat[: heads * width], flat[heads * width :]
        return vector, torch.from_numpy(cache).view(parts, -1, heads, width)
