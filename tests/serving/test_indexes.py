"""Every index against exact inner products: with biases, after changes, and out of its folder."""

from __future__ import annotations

import sys
import threading
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from graphseq.models import MODELS, SessionModel
from graphseq.models.use.inference import inference
from graphseq.serving import (
    INDEXES,
    Index,
    ItemVectors,
    Recommender,
    build_index,
    load_index,
    query_vectors,
)
from graphseq.serving.indexes import exact, exhaustive

NUM_ITEMS = 640

LEAST_FOUND = {
    "exact": 1.0,
    "faiss_flat": 1.0,
    "faiss_sq8": 0.93,
    "faiss_hnsw": 0.97,
    "faiss_ivfpq": 0.25,
    "faiss_refined": 0.9,
    "usearch": 0.97,
    "usearch_i8": 0.9,
    "voyager": 0.97,
}
"""Share of the exact top 10 that an index finds at least, among 640 random items."""

SETTINGS: dict[str, dict[str, Any]] = {
    "faiss_ivfpq": {"lists": 4, "probes": 4, "code_bytes": 8},
    "faiss_refined": {"lists": 4, "probes": 4, "shortlist": 100},
}

kinds = pytest.mark.parametrize("kind", sorted(INDEXES))


def overlap(found: NDArray[np.int64], wanted: NDArray[np.int64]) -> float:
    rows = zip(found.tolist(), wanted.tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in rows]))


def top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.fixture(scope="module")
def asked(world: Any) -> tuple[torch.Tensor, NDArray[np.float32]]:
    """Session vectors of 60 sessions, and the model's own scores of all items."""
    torch.manual_seed(1)
    vectors = torch.randn(60, world.neural.hidden_channels)
    with inference(world.neural):
        return vectors, world.neural.items.scores(vectors).numpy()


@pytest.fixture(scope="module", params=sorted(INDEXES))
def index(request: pytest.FixtureRequest, world: Any) -> Index:
    return build_index(world.neural, request.param, **SETTINGS.get(request.param, {}))


def test_index_finds_what_the_scores_of_the_model_with_its_biases_rank_first(
    index: Index, asked: Any
) -> None:
    vectors, scores = asked
    items, found = index.search(query_vectors(vectors, index.has_bias), 10)
    assert items.dtype == np.int64
    assert found.dtype == np.float32
    assert overlap(items, top(scores, 10)) >= LEAST_FOUND[index.kind]
    own = np.take_along_axis(scores, items, axis=1)
    loose = {"faiss_ivfpq": 20.0, "usearch_i8": 0.4, "faiss_sq8": 0.2, "faiss_refined": 0.2}
    assert np.abs(found - own).max() < loose.get(index.kind, 1e-4)
    assert (np.diff(found, axis=1) <= 0).all()


@pytest.mark.parametrize("index", ["exact", "faiss_flat"])
@pytest.mark.parametrize("alike", ["rows", "scores"])
@pytest.mark.parametrize("blocks", ["one", "many"])
def test_of_equal_items_at_the_last_place_an_exact_index_finds_the_lowest_codes(
    index: str, alike: str, blocks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks == "many":
        monkeypatch.setattr(exact, "MOST_SCORES", 100)
        monkeypatch.setattr(exhaustive, "MAX_SCORES", 700)
        monkeypatch.setattr(exhaustive, "SPARE", 1)
        monkeypatch.setattr(exact, "multiplies_bfloat16", lambda: True)
    rng = np.random.default_rng(0)
    if alike == "rows":  # twelve different ones, of no round numbers
        rows = rng.normal(size=(12, 20)).astype(np.float32)[rng.integers(0, 12, 300)]
    else:  # exact sums of small whole numbers
        rows = rng.integers(-1, 2, (300, 20)).astype(np.float32)
    codes = rng.permutation(400)[:300]
    queries = rng.integers(-2, 3, (9, 20)).astype(np.float32)
    if alike == "rows":
        queries = rng.normal(size=(9, 20)).astype(np.float32)
    found = INDEXES[index](ItemVectors(rows[:250], codes[:250]))
    found.add(codes[250:], rows[250:])
    found.remove(codes[:40])
    found.save(tmp_path / "index")
    products = (queries.astype(np.float64) @ rows[40:].astype(np.float64).T).round(9)
    for searched in (found, load_index(tmp_path / "index")):
        for k in (1, 2, 7, 30, 100, 259, 260):
            items, scores = searched.search(queries, k)
            for query, row, own in zip(products, items.tolist(), scores, strict=True):
                assert row == codes[40:][np.lexsort((codes[40:], -query))][:k].tolist()
                np.testing.assert_allclose(own, np.sort(query)[::-1][:k], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("index", ["exact", "faiss_flat"])
def test_recommender_through_an_exact_index_takes_the_equal_items_of_recommend(
    world: Any, index: str
) -> None:
    model = deepcopy(world.neural)
    with torch.no_grad():  # items that were never trained, as many new ones
        model.items.weight[100:] = model.items.weight[100 + torch.arange(540) % 3]
        model.items.bias[100:] = model.items.bias[100 + torch.arange(540) % 3]
    recommender = Recommender(model, index=index)
    for k in (1, 5, 50, 150):
        for options in ({}, {"exclude_seen": True}, {"exclude": ["i100", "i101", "i103"]}):
            found = recommender.recommend(world.lists[:20], k, **options)
            wanted = model.recommend(world.lists[:20], k, **options)
            assert [[i for i, _ in each] for each in found] == [
                [i for i, _ in each] for each in wanted
            ]


def test_index_without_the_bias_would_rank_others_first(world: Any, asked: Any) -> None:
    vectors, scores = asked
    bare = world.neural.items.rows().detach().numpy()
    assert overlap(top(vectors.numpy() @ bare.T, 10), top(scores, 10)) < 0.8


def test_biases_of_zero_do_not_hide_the_other_columns(index: Index) -> None:
    draws = np.random.default_rng(0)
    rows, queries = draws.normal(scale=0.05, size=(2, NUM_ITEMS, 17)).astype(np.float32)
    rows[:, -1], queries[:, -1] = 0, 1  # untrained biases, and what meets them
    found = type(index)(ItemVectors(rows, np.arange(NUM_ITEMS), True), **index.settings)
    wanted = top(queries[:60] @ rows.T, 10)
    items, _ = found.search(queries[:60], 10)
    assert overlap(items, wanted) >= LEAST_FOUND[index.kind] - 0.1
    if index.kind == "usearch_i8":  # what is added gives the column its scale
        found.add([NUM_ITEMS], np.eye(1, 17, 16, dtype=np.float32))
        items, scores = found.search(queries[:60], 1)
        assert (items == NUM_ITEMS).mean() > 0.9
        assert np.abs(scores[items == NUM_ITEMS] - 1).max() < 0.1


def test_scale_of_a_normalized_model_is_part_of_what_is_searched() -> None:
    model = MODELS["srgnn"](40, 8, normalize=True, scale=12.0).eval()
    batch_vectors = torch.nn.functional.normalize(torch.randn(5, 8), dim=1) * 12.0
    with inference(model):
        scores = model.items.scores(batch_vectors).numpy()
    index = build_index(model, "exact")
    assert not index.has_bias
    items, found = index.search(query_vectors(batch_vectors, False), 40)
    assert np.allclose(found, np.take_along_axis(scores, items, axis=1), atol=1e-5)


def test_removed_item_is_found_no_more_and_comes_back_with_another_vector(
    index: Index, world: Any, asked: Any, tmp_path: Path
) -> None:
    index.save(tmp_path / "index")
    own = load_index(tmp_path / "index")
    queries = query_vectors(asked[0], own.has_bias)
    before, _ = own.search(queries, 10)
    gone = np.unique(before[:, 0])
    own.remove(gone)
    assert len(own) == len(index) - len(gone)
    assert own.revision == 1
    after, _ = own.search(queries, 10)
    assert not np.isin(after, gone).any()
    scores = asked[1].copy()
    scores[:, gone] = -np.inf
    assert overlap(after, top(scores, 10)) >= LEAST_FOUND[own.kind] - 0.05
    again = gone[:1]
    own.add(again, 10 * np.sign(queries[:1]))
    assert own.search(queries[:1], 1)[0][0, 0] == again[0]
    assert sorted(own.items) == sorted(set(index.items) - set(gone[1:]))


def test_index_out_of_its_folder_finds_the_same(index: Index, asked: Any, tmp_path: Path) -> None:
    queries = query_vectors(asked[0], index.has_bias)
    own = type(index)(
        ItemVectors(
            np.random.default_rng(0).normal(size=(NUM_ITEMS, 17)).astype("f4"), np.arange(NUM_ITEMS)
        ),
        **index.settings,
    )
    own.remove([3, 7])
    own.save(tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    assert type(loaded) is type(index)
    assert loaded.settings == index.settings
    for k in (1, 10, 700):
        for found, wanted in zip(loaded.search(queries, k), own.search(queries, k), strict=True):
            assert np.array_equal(found, wanted)
    loaded.save(tmp_path / "index")  # over itself, while its files are mapped
    assert np.array_equal(
        load_index(tmp_path / "index").search(queries, 5)[0], own.search(queries, 5)[0]
    )


def test_k_beyond_the_items_fills_with_nothing(index: Index, asked: Any) -> None:
    items, scores = index.search(query_vectors(asked[0][:2], index.has_bias), 645)
    assert items.shape == (2, 645)
    assert (items[:, NUM_ITEMS:] == -1).all()
    assert (scores[items == -1] == -np.inf).all()
    for row in items:
        known = row[row >= 0]
        assert len(set(known)) == len(known)


def test_no_query_finds_nothing(index: Index) -> None:
    items, scores = index.search(np.empty((0, index.width)), 3)
    assert items.shape == scores.shape == (0, 3)


def test_query_of_another_width_is_refused_with_both_widths(index: Index) -> None:
    with pytest.raises(ValueError, match=r"width 17, the last one a bias, and the queries .* 16"):
        index.search(np.zeros((1, 16)), 3)
    with pytest.raises(ValueError, match=r"width 17, .* and the vectors to add have width 3"):
        index.add([900], np.zeros((1, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_no_numbers_are_refused_with_their_row(index: Index, bad: float) -> None:
    rows = np.zeros((3, 17), dtype=np.float32)
    rows[2, 5] = bad
    with pytest.raises(ValueError, match="Row 2 of the queries holds NaN or infinity"):
        index.search(rows, 3)
    with pytest.raises(ValueError, match="Row 2 of the vectors to add"):
        index.add([901, 902, 903], rows)
    with pytest.raises(ValueError, match="Row 2 of the item vectors"):
        type(index)(ItemVectors(rows, np.arange(3)))


def test_item_that_is_here_already_or_not_here_is_refused(index: Index) -> None:
    rows = np.zeros((2, 17))
    with pytest.raises(ValueError, match="Item 5 is in this index already"):
        index.add([905, 5], rows)
    with pytest.raises(ValueError, match="Item 905 is in this index already or given twice"):
        index.add([905, 905], rows)
    with pytest.raises(ValueError, match=r"Item 905 is not in this index \(1 such\)"):
        index.remove([4, 905])
    assert len(index) == NUM_ITEMS


@pytest.mark.parametrize(("code", "said"), [(-1, "-1"), (1.5, "1.5"), (True, "True")])
def test_item_that_is_no_code_is_refused(index: Index, code: Any, said: str) -> None:
    row = np.ones((1, index.width), dtype=np.float32)
    for change in (lambda: index.add([code], row), lambda: index.remove([code])):
        with pytest.raises(ValueError, match=f"whole numbers of at least 0, got {said}"):
            change()


def test_index_of_another_model_version_is_refused_with_both_named(
    index: Index, world: Any, tmp_path: Path
) -> None:
    from copy import deepcopy

    index.check_version(world.neural)
    other = deepcopy(world.neural)
    with torch.no_grad():
        other.items.bias[7] += 1
    index.save(tmp_path / "index")
    with pytest.raises(ValueError, match=f"version {index.model_version}, .* is version [0-9a-f]"):
        load_index(tmp_path / "index", model=other)


def test_damaged_file_of_a_folder_is_named(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index.save(folder)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[:-3] + bytes(3 * [whole[-3] ^ 1]))
        with pytest.raises(ValueError, match=path.name):
            load_index(folder)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "name", [name for name, family in MODELS.items() if not family.scores_by_table]
)
def test_family_without_one_table_is_refused_by_name(name: str) -> None:
    family = MODELS[name]
    model = SessionModel.__new__(family, 3)
    with pytest.raises(ValueError, match=f"{family.__name__} does not score by inner products"):
        ItemVectors.of(model)


@kinds
def test_missing_library_names_the_command_that_installs_it(
    kind: str, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = INDEXES[kind].package
    for module in ("faiss", "usearch.index", "voyager"):
        monkeypatch.setitem(sys.modules, module, None)
    if package is None:
        assert len(build_index(world.neural, kind)) == NUM_ITEMS
        return
    message = rf"The index '{kind}' needs {package}.*: pip install 'graphseq\[serving\]'"
    with pytest.raises(ValueError, match=message):
        build_index(world.neural, kind)


def test_recommender_in_place_of_a_model_is_named(world: Any) -> None:
    for wrong in (Recommender(world.neural), "exact"):
        name = type(wrong).__name__
        with pytest.raises(ValueError, match=f"model must be a SessionModel, got {name}"):
            build_index(wrong)  # type: ignore[arg-type]


def test_index_of_an_unknown_name_lists_the_known_ones(world: Any) -> None:
    with pytest.raises(ValueError, match=r"An index is one of exact, .*voyager, got 'annoy'\."):
        build_index(world.neural, "annoy")


def test_few_items_are_too_few_for_product_quantization() -> None:
    vectors = ItemVectors(np.ones((623, 4), dtype=np.float32), np.arange(623))
    with pytest.raises(ValueError, match=r"from at least 624 items, got 623: .* take 'exact'"):
        INDEXES["faiss_ivfpq"](vectors)


def test_exact_search_in_blocks_equals_one_product(
    world: Any, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphseq.serving.indexes.exact.MOST_SCORES", 60 * 7)
    index = build_index(world.neural, "exact")
    items, _ = index.search(query_vectors(asked[0], True), 20)
    assert np.array_equal(items, top(asked[1], 20))


def test_searches_during_changes_never_find_a_removed_item(index: Index, asked: Any) -> None:
    own = type(index)(
        ItemVectors(
            np.random.default_rng(0).normal(size=(NUM_ITEMS, 17)).astype("f4"), np.arange(NUM_ITEMS)
        ),
        **index.settings,
    )
    queries = query_vectors(asked[0], True)
    removed: set[int] = set()
    wrong: list[str] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            before = set(removed)
            try:
                if before & set(own.search(queries, 10)[0].ravel().tolist()):
                    wrong.append("a removed item was found")
            except Exception as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for item in range(0, 60, 3):
            own.remove([item])
            removed.add(item)
            own.add([1000 + item], queries[item : item + 1])
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert own.revision == 40
