"""Weighted sums of lists as sparse products, for counting models, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from graphseq.models.use import inference
from graphseq.ragged import ptr_of
from graphseq.typing import Floats, Ints

ROUNDING = 1e-6
"""Bound on the rounding in a block of 2**24 rows; it lets in only a few extra entries."""


def entries_of(ptr: NDArray[Any], lists: NDArray[Any]) -> tuple[Ints, Ints]:
    """The entries of these lists, one list after another, and the pointer to each.

    Args:
        ptr: First entry of each list, and the end, int64 [num_lists + 1].
        lists: Numbers of lists, in any order, repeats allowed, integers [n].

    Returns:
        Entries, int64 [num_entries], and the pointer into them, int64 [n + 1].
    """
    start = ptr[lists]
    length = ptr[lists + 1] - start
    end = ptr_of(length)
    entry = np.repeat(start - end[:-1], length)
    entry += np.arange(len(entry))
    return entry, end


def sparse_rows(
    value: Floats, column: NDArray[Any], ptr: NDArray[Any], shape: tuple[int, int]
) -> csr_matrix:
    """A sparse matrix of arrays that fit together.

    scipy would check them, in a good part of the time that the scores of one session take.

    Args:
        value: float64 [n].
        column: Integers [n].
        ptr: First entry of each row, and the end, [num_rows + 1].
        shape: Rows and columns.

    Returns:
        The matrix, with indices of 32 bits where they suffice.
    """
    kind = np.int32 if max(*shape, len(value)) < 2**31 else np.int64
    matrix = csr_matrix(shape, dtype=value.dtype)
    matrix.data = value
    matrix.indices = column.astype(kind, copy=False)
    matrix.indptr = ptr.astype(kind, copy=False)
    return matrix


def row_sums(value: Floats, column: NDArray[Any], num_columns: int) -> csr_matrix:
    """The sum of the values of each column, added in their order, without the sums of zero.

    A product of sparse matrices would give the same numbers, for one row in several times the time.

    Args:
        value: float64 [n].
        column: Integers [n], repeats allowed.
        num_columns: Number of columns.

    Returns:
        One row, [1, num_columns], columns ascending.
    """
    if len(column) < num_columns:
        present, number = np.unique(column, return_inverse=True)
        sums = np.bincount(number, value, len(present))
        kept = np.flatnonzero(sums)
        present = present[kept]
    else:
        sums = np.bincount(column, value, num_columns)
        present = kept = np.flatnonzero(sums)
    ptr = np.array([0, len(kept)])
    # NumPy counts nothing in whole numbers, weights or not.
    return sparse_rows(sums[kept].astype(np.float64), present, ptr, (1, num_columns))


def weighted_sums(
    ptr: Ints,
    lists: Ints,
    weight: Floats,
    list_ptr: Ints,
    read: Callable[[Ints, Ints], tuple[NDArray[Any], Floats]],
    num_columns: int,
) -> Iterator[tuple[slice, csr_matrix]]:
    r"""Sums of weighted lists for each row, :math:`y_{rc} = \sum_n w_n \sum_{e \in l_n,\,
    c_e = c} v_e`.

    Rows are taken in blocks, so that lists of at most
    :data:`~graphseq.models.use.inference.MOST_ENTRIES` entries are summed at once, or the entries
    of a single row. A row's terms are added in the order of its lists, in any block, so that its
    sums do not depend on other rows.

    Args:
        ptr: First list of each row, and the end, int64 [num_rows + 1].
        lists: Numbers of lists, row after row, int64 [n].
        weight: Weight of each, float64 [n].
        list_ptr: First entry of each list, and the end, int64 [num_lists + 1].
        read: Function from entries and their lists, both int64 [num_entries], to integer columns
            and float64 values. A column occurs at most once per list.
        num_columns: Number of columns.

    Yields:
        The rows of a block, and their sums [num_rows_of_block, num_columns], columns ascending;
        sums of zero are left out.
    """
    length = list_ptr[lists + 1] - list_ptr[lists]
    work = np.diff(ptr_of(length)[ptr])  # [num_rows]
    for rows in inference.blocks(work, len(work), inference.MOST_ENTRIES):
        part = slice(ptr[rows.start], ptr[rows.stop])
        if rows.stop - rows.start == 1:
            entry, end = entries_of(list_ptr, lists[part])
            times = np.diff(end)
            column, value = read(entry, np.repeat(lists[part], times))
            yield rows, row_sums(value * np.repeat(weight[part], times), column, num_columns)
            continue
        # Rows share lists: each is read once for all rows of the block.
        distinct, number = np.unique(lists[part], return_inverse=True)
        entry, end = entries_of(list_ptr, distinct)
        column, value = read(entry, np.repeat(distinct, np.diff(end)))
        # Few entries use few columns: the product then does not need all of them.
        few = len(entry) < num_columns
        if few:
            present, column = np.unique(column, return_inverse=True)
        width = len(present) if few else num_columns
        size = (rows.stop - rows.start, len(distinct))
        weights = sparse_rows(
            weight[part], number, ptr[rows.start : rows.stop + 1] - part.start, size
        )
        sums = weights @ sparse_rows(value, column, end, (len(distinct), width))
        sums = sums.tocsc().tocsr()  # sorts columns in linear time
        if few:
            shape = (size[0], num_columns)
            sums = sparse_rows(sums.data, present[sums.indices], sums.indptr, shape)
        yield rows, sums


def highest(row: Ints, value: Floats, k: int, tie: NDArray[Any] | None = None) -> NDArray[np.bool_]:
    """Which entries are among the ``k`` highest of their row.

    Args:
        row: The row of each entry, ascending, int64 [n].
        value: At least 0 and finite, float64 [n].
        k: At least 1.
        tie: Among equal values the entry with the lower value of ``tie`` comes first, [n];
            ``None``: the earlier entry.

    Returns:
        bool [n].
    """
    start = np.flatnonzero(np.diff(row, prepend=-1))
    size = np.diff(np.append(start, len(row)))
    large = size > k
    kept = np.ones(len(row), dtype=bool)
    crowded = np.flatnonzero(np.repeat(large, size))
    if len(crowded) == 0:
        return kept
    # One sort of plain numbers gives each row's k-th highest value up to rounding; the few entries
    # that may be above it are then ordered exactly.
    group = np.repeat(np.arange(len(size)), size)[crowded]
    distance = 2.0 * group + 1 - value[crowded] / (value.max() or 1.0)
    end = np.cumsum(size[large])
    limit = np.zeros(len(size))
    limit[large] = np.sort(distance)[end - size[large] + k - 1]
    near = distance <= limit[group] + ROUNDING
    contender, group = crowded[near], group[near]
    keys = (-value[contender], group) if tie is None else (tie[contender], -value[contender], group)
    order = np.lexsort(keys)
    first = np.searchsorted(group, group)  # of each contender's row
    kept[crowded] = False
    kept[contender[order[np.arange(len(order)) - first < k]]] = True
    return kept
