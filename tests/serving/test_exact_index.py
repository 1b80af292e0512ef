"""Exact search through a short list of bfloat16 products: as exact as without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphseq.serving import ExactIndex, ItemVectors
from graphseq.serving.indexes import exact


@pytest.fixture(autouse=True)
def _short_list_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short list is used on processors without bfloat16 too, where it is slow and as exact."""
    monkeypatch.setattr(exact, "multiplies_bfloat16", lambda: True)


def index_of(rows: np.ndarray) -> ExactIndex:
    return ExactIndex(ItemVectors(rows.astype(np.float32), np.arange(len(rows))))


def check(index: ExactIndex, rows: np.ndarray, queries: np.ndarray, k: int = 20) -> None:
    """The search against float64 products of all rows."""
    items, scores = index.search(queries, k)
    every = queries.astype(np.float64) @ rows.astype(np.float32).astype(np.float64).T
    best = -np.sort(-every, axis=1)[:, :k]
    np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(every, items, 1), best, rtol=1e-4, atol=1e-5)
    assert all(len(set(row)) == k for row in items.tolist())


def test_short_list_finds_what_all_products_find_and_is_certain() -> None:
    rng = np.random.default_rng(0)
    rows, queries = rng.normal(size=(5_000, 32)), rng.normal(size=(7, 32)).astype(np.float32)
    index = index_of(rows)
    check(index, rows, queries)
    _, _, certain = index._through_shortlist(torch.from_numpy(queries), 20)
    assert certain.mean() > 0.5  # else nothing is gained


def test_rows_that_bfloat16_cannot_tell_apart_are_compared_in_full() -> None:
    rng = np.random.default_rng(1)
    rows = np.ones((3_000, 32)) + 1e-4 * rng.normal(size=(3_000, 32))
    check(index_of(rows), rows, rng.uniform(0.5, 1.5, size=(5, 32)).astype(np.float32))


def test_one_long_row_and_queries_of_any_length_do_no_harm() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(2_000, 16))
    rows[7] *= 1e4
    queries = rng.normal(size=(6, 16)).astype(np.float32)
    queries[0], queries[1] = 0, queries[1] * 1e6
    check(index_of(rows), rows, queries)


def test_removed_items_stay_out_and_added_ones_are_found() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(500, 16)).astype(np.float32)
    index, queries = index_of(rows), rows[:4]
    first = index.search(queries, 5)[0][:, 0].tolist()
    index.remove(first)
    assert not set(first) & set(index.search(queries, 400)[0].ravel().tolist())
    index.remove([item for item in index.items.tolist() if item >= 30])
    left = index.items
    found = index.search(queries, 40)[0]  # fewer are alive than asked for
    assert (np.sort(found[:, : len(left)], axis=1) == np.sort(left)).all()
    assert (found[:, len(left) :] == -1).all()
    index.add([900], 10 * queries[:1])
    assert index.search(queries[:1], 1)[0].tolist() == [[900]]


def test_blocks_of_items_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MOST_SCORES", 900)
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(1_000, 16))
    check(index_of(rows), rows, rng.normal(size=(3, 16)).astype(np.float32), k=10)
