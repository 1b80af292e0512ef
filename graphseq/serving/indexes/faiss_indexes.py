"""Indexes of FAISS (Douze et al., 2024): flat, a graph, inverted lists, eight bits per number."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from graphseq.arguments import whole
from graphseq.data.storage import Folder, FolderWriter
from graphseq.serving.extras import need
from graphseq.serving.indexes.base import Index
from graphseq.serving.indexes.exhaustive import ExhaustiveIndex
from graphseq.serving.item_vectors import Codes, Floats, ItemVectors

FILE = "index.faiss"

POINTS_PER_CENTRE = 39
"""Vectors that k-means wants per centre: with fewer FAISS warns, and takes minutes over it."""

MOST_PER_CENTRE = 64
"""Vectors per list from which its centre is learned: more take longer and find hardly more."""

FEWEST_BITS, MOST_BITS = 4, 8
"""Bits of a code, of which FAISS learns two to that power."""


class FaissIndex(Index):
    """What all indexes of FAISS share: files, and removed rows hidden by a bitmap.

    Args:
        vectors: The items to find.
    """

    package: ClassVar[str | None] = "faiss"

    def _build(self, rows: Floats) -> None:
        self._faiss = need("faiss", f"The index {self.kind!r}")
        self._index = self._empty(rows)
        self._mapped = False
        if not self._index.is_trained:
            self._index.train(self._padded(rows))
        self._index.add(self._padded(rows))

    def _empty(self, rows: Floats) -> Any:
        """The index of FAISS for these rows, before training."""
        raise NotImplementedError

    def _parameters(self, selector: Any, k: int) -> Any:
        """How FAISS is to search."""
        return self._faiss.SearchParameters(sel=selector)

    def _padded(self, rows: Floats) -> Floats:
        """Rows as wide as FAISS holds them: zeros change no inner product."""
        extra = self._index.d - rows.shape[1]
        return np.pad(rows, ((0, 0), (0, extra))) if extra else rows

    def _append(self, rows: Floats) -> None:
        if self._mapped:  # memory of a file cannot grow
            self._index = self._faiss.deserialize_index(self._faiss.serialize_index(self._index))
            self._mapped = False
        self._index.add(self._padded(rows))

    def _search(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        selector = None
        if not self._alive.all():
            bits = np.packbits(self._alive, bitorder="little")
            selector = self._faiss.IDSelectorBitmap(bits)
        scores, rows = self._index.search(
            self._padded(queries), k, params=self._parameters(selector, k)
        )
        return rows, scores

    def _write(self, out: FolderWriter) -> None:
        self._faiss.write_index(self._index, str(out.path / FILE))
        out.add_file(FILE)

    def _read(self, opened: Folder) -> None:
        self._faiss = need("faiss", f"The index {self.kind!r}")
        try:
            self._index = self._faiss.read_index(opened.file(FILE), self._faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise ValueError(f"{opened.path / FILE} is broken: FAISS cannot read it.") from error
        self._mapped = True
        if self._index.ntotal != len(self._items) or self._index.d < self.width:
            raise ValueError(
                f"{opened.path / FILE} is broken: it holds {self._index.ntotal} vectors of width "
                f"{self._index.d}, not {len(self._items)} of {self.width}."
            )


class FaissFlat(ExhaustiveIndex, FaissIndex):
    """All inner products, by FAISS."""

    kind: ClassVar[str] = "faiss_flat"

    def _highest(self, queries: Floats, k: int) -> tuple[Codes, Floats]:
        return FaissIndex._search(self, queries, k)

    def _vectors(self) -> Tensor:
        size = self._index.ntotal * self.width
        flat: Floats = self._faiss.rev_swig_ptr(self._index.get_xb(), size)
        with warnings.catch_warnings():  # a mapped file is read-only, and nothing here writes to it
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(flat.reshape(-1, self.width))

    def _empty(self, rows: Floats) -> Any:
        return self._faiss.IndexFlatIP(self.width)


class FaissScalar(FaissIndex):
    """All inner products with numbers of eight bits, scaled per column: a quarter of the memory."""

    kind: ClassVar[str] = "faiss_sq8"
    rounds: ClassVar[bool] = True

    def _empty(self, rows: Floats) -> Any:
        return self._faiss.IndexScalarQuantizer(
            self.width, self._faiss.ScalarQuantizer.QT_8bit, self._faiss.METRIC_INNER_PRODUCT
        )


class FaissHNSW(FaissIndex):
    """A navigable graph (Malkov & Yashunin, TPAMI 2020) under inner products.

    Args:
        vectors: The items to find.
        neighbors: Links per item; more cost memory and find more.
        ef_build: Candidates looked at per item when it is linked.
        ef_search: Candidates looked at per query, at least ``k``.
    """

    kind: ClassVar[str] = "faiss_hnsw"

    def __init__(
        self,
        vectors: ItemVectors,
        *,
        neighbors: int = 32,
        ef_build: int = 100,
        ef_search: int = 128,
    ) -> None:
        self.neighbors = whole("neighbors", neighbors, at_least=2)
        self.ef_build = whole("ef_build", ef_build)
        self.ef_search = whole("ef_search", ef_search)
        super().__init__(vectors)

    def _empty(self, rows: Floats) -> Any:
        index = self._faiss.IndexHNSWFlat(
            self.width, self.neighbors, self._faiss.METRIC_INNER_PRODUCT
        )
        index.hnsw.efConstruction = self.ef_build
        return index

    def _parameters(self, selector: Any, k: int) -> Any:
        return self._faiss.SearchParametersHNSW(sel=selector, efSearch=max(self.ef_search, k))


class FaissInverted(FaissIndex):
    """What indexes of inverted lists share: a query looks at the nearest lists only.

    Args:
        vectors: The items to find, at least 624.
        lists: Inverted lists; ``None``: about four times the root of the number of items.
        probes: Lists looked at per query; ``None``: a share of them, at least 8.
        **sizes: Further sizes by name; ``None``: chosen by the number of items.
    """

    rounds: ClassVar[bool] = True
    most_lists: ClassVar[float] = float("inf")
    share_probed: ClassVar[int] = 8

    def __init__(
        self,
        vectors: ItemVectors,
        *,
        lists: int | None,
        probes: int | None,
        **sizes: int | None,
    ) -> None:
        for name, value in {"lists": lists, "probes": probes, **sizes}.items():
            if value is not None:
                whole(name, value)
        fewest = POINTS_PER_CENTRE * 2**FEWEST_BITS
        if len(vectors.rows) < fewest:
            raise ValueError(
                f"The index {self.kind!r} learns from at least {fewest} items, got "
                f"{len(vectors.rows)}: so few are searched exactly at once, take 'exact'."
            )
        self.lists, self.probes = lists, probes
        super().__init__(vectors)

    def _num_lists(self, rows: Floats) -> int:
        if self.lists is not None:
            return self.lists
        return max(
            1, int(min(4 * len(rows) ** 0.5, len(rows) / POINTS_PER_CENTRE, self.most_lists))
        )

    def _made(self, width: int, factory: str) -> Any:
        """The index of FAISS of this description."""
        index = self._faiss.index_factory(width, factory, self._faiss.METRIC_INNER_PRODUCT)
        self._faiss.extract_index_ivf(index).cp.max_points_per_centroid = MOST_PER_CENTRE
        return index

    def _num_probes(self, lists: int) -> int:
        return min(self.probes or max(8, lists // self.share_probed), lists)


class FaissIVFPQ(FaissInverted):
    """Inverted lists of product-quantized vectors (Jégou et al., TPAMI 2011): least memory.

    Codes have eight bits from 9,984 items on, fewer below.

    Args:
        vectors: The items to find, at least 624.
        lists: Inverted lists; ``None``: about four times the root of the number of items.
        probes: Lists looked at per query; ``None``: an eighth of them, at least 8.
        code_bytes: Codes per vector, of a byte each; ``None``: one for every four numbers.
    """

    kind: ClassVar[str] = "faiss_ivfpq"

    def __init__(
        self,
        vectors: ItemVectors,
        *,
        lists: int | None = None,
        probes: int | None = None,
        code_bytes: int | None = None,
    ) -> None:
        self.code_bytes = code_bytes
        super().__init__(vectors, lists=lists, probes=probes, code_bytes=code_bytes)

    def _empty(self, rows: Floats) -> Any:
        code_bytes = self.code_bytes or max(1, self.width // 4)
        width = -(-self.width // code_bytes) * code_bytes  # a multiple, the rest is zeros
        bits = min(MOST_BITS, int(np.log2(len(rows) / POINTS_PER_CENTRE)))
        return self._made(width, f"IVF{self._num_lists(rows)},PQ{code_bytes}x{bits}")

    def _parameters(self, selector: Any, k: int) -> Any:
        probes = self._num_probes(self._index.nlist)
        return self._faiss.SearchParametersIVF(sel=selector, nprobe=probes)


class FaissRefined(FaissInverted):
    """Inverted lists of four-bit codes, and a short list scored again with eight bits.

    The codes stay in registers of the processor while a list is scanned (André et al., VLDB
    2015), which is fast. They are coarse: the best ``shortlist`` items per query are therefore
    scored again by vectors with eight bits per number. An item takes about one and a half bytes
    per number in all.

    Args:
        vectors: The items to find, at least 624.
        lists: Inverted lists; ``None``: about four times the root of the number of items, at
            most 4,096.
        probes: Lists looked at per query; ``None``: one in 32, at least 8.
        shortlist: Items per query that are scored again, at least twice ``k``.
    """

    kind: ClassVar[str] = "faiss_refined"
    most_lists: ClassVar[float] = 2_048.0
    share_probed: ClassVar[int] = 32

    def __init__(
        self,
        vectors: ItemVectors,
        *,
        lists: int | None = None,
        probes: int | None = None,
        shortlist: int = 300,
    ) -> None:
        self.shortlist = whole("shortlist", shortlist)
        super().__init__(vectors, lists=lists, probes=probes)

    def _empty(self, rows: Floats) -> Any:
        codes = -(-self.width // 2)  # one for every two numbers
        factory = f"IVF{self._num_lists(rows)},PQ{codes}x{FEWEST_BITS}fs,Refine(SQ8)"
        return self._made(2 * codes, factory)

    def _parameters(self, selector: Any, k: int) -> Any:
        lists = self._faiss.extract_index_ivf(self._index).nlist
        inner = self._faiss.SearchParametersIVF(sel=selector, nprobe=self._num_probes(lists))
        return self._faiss.IndexRefineSearchParameters(
            k_factor=max(2.0, self.shortlist / k), base_index_params=inner
        )
