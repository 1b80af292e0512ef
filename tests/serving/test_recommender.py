"""The recommender: exact answers, filters, stages, cache, files, threads."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.models import Popularity
from graphseq.serving import AnswerCache, ExactIndex, ItemVectors, Recommender, build_index
from graphseq.training import fit


def ids(answer: list[tuple[Any, float]]) -> list[Any]:
    return [item for item, _ in answer]


def same(found: Any, wanted: Any) -> None:
    """The same items in the same order, scores but for rounding."""
    assert [ids(each) for each in found] == [ids(each) for each in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert np.allclose([s for _, s in one], [s for _, s in other], atol=1e-5)


@pytest.fixture(scope="module", params=["scores", "index"])
def recommender(request: pytest.FixtureRequest, world: Any) -> Recommender:
    return Recommender(world.neural, index="exact" if request.param == "index" else None)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"exclude_seen": True},
        {"exclude": ["i3", "i4", "i5"]},
        {"allow": ["i3", "i4", "i5", "i6", "i7"]},
        {"allow": [f"i{n}" for n in range(400)]},
        {"allow": [f"i{n}" for n in range(300)], "exclude": ["i7"], "exclude_seen": True},
        {"exclude": [f"i{n}" for n in range(600)]},
    ],
)
def test_recommend_with_exact_candidates_equals_that_of_the_model(
    recommender: Recommender, world: Any, options: dict[str, Any]
) -> None:
    sessions = [*world.lists[:30], ["nothing known"], []]
    same(
        recommender.recommend(sessions, 5, **options),
        world.neural.recommend(sessions, 5, **options),
    )
    each = [[f"i{n}", f"i{n + 1}"] for n in range(len(sessions))]
    same(
        recommender.recommend(sessions, 2, exclude=each),
        world.neural.recommend(sessions, 2, exclude=each),
    )


def test_counting_model_without_a_table_recommends_too(world: Any) -> None:
    found = Recommender(world.counting).recommend(world.lists[:20], 10)
    assert found == world.counting.recommend(world.lists[:20], 10)
    with pytest.raises(ValueError, match="SequentialRules does not score by inner products"):
        Recommender(world.counting, index="exact")


def test_one_session_gets_one_list(recommender: Recommender, world: Any) -> None:
    session = world.lists[3]
    same([recommender.recommend(session, 4)], recommender.recommend([session], 4))


def test_frame_in_gives_a_frame_out_with_own_ids(recommender: Recommender, world: Any) -> None:
    log = pd.DataFrame(
        {"session_id": ["b", "b", "a"], "item_id": ["i5", "i9", "i5"]}, index=[7, 8, 9]
    )
    frame = recommender.recommend(log, 3)
    wanted = world.neural.recommend(log, 3, as_frame=True)
    pd.testing.assert_frame_equal(frame, wanted, check_exact=False, atol=1e-5)
    assert frame["session_id"].tolist() == ["b"] * 3 + ["a"] * 3
    assert frame["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    assert isinstance(recommender.recommend(log, 3, as_frame=False), list)


def test_frame_of_sessions_without_names_tells_whose_they_are(
    recommender: Recommender, world: Any
) -> None:
    clicks = pd.DataFrame({"u": list("aabb"), "item": ["i1", "i2"] * 2, "t": [0, 9, 5, 99]})
    log = gs.Sessions.from_events(clicks, user="u", item="item", time="t", gap=50)
    found = recommender.recommend(log, 2, as_frame=True)
    wanted = world.neural.recommend(log, 2, as_frame=True)
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-5)
    assert found["user_id"].tolist() == list("aabbbb")


def test_filter_that_leaves_fewer_gives_fewer_and_says_so(
    recommender: Recommender, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = recommender.recommend(world.lists[:3], 10, allow=["i1", "i2"])
    assert [len(each) for each in found] == [2, 2, 2]
    assert "Filters left fewer than k=10 items for 3 sessions." in caplog.text


def test_filter_that_leaves_nothing_gives_popular_items_and_says_so(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    popular = ids(world.neural.recommend([[]], 10)[0])
    log = pd.DataFrame({"session_id": [0, 0], "item_id": popular[:2]})
    recommender = Recommender(world.only_seen)
    with caplog.at_level(logging.WARNING):
        frame = recommender.recommend(log, 3, exclude_seen=True)
    assert "Filters left no item for 1 sessions: popular items answer." in caplog.text
    assert frame["fallback"].all()
    assert frame["item_id"].tolist() == popular[2:5]  # what is seen stays out
    found = recommender.recommend(
        popular[:2], 3, exclude_seen=True, allow=popular[:7], exclude=popular[3:4]
    )
    assert ids(found) == [popular[2], popular[4], popular[5]]
    live = gs.serving.LiveSessions(recommender)
    assert ids(live.click("s", popular[0], k=3, exclude_seen=True).items) == popular[1:4]
    assert live.recommend("s", 3).items[0][0] == popular[0]


def test_filter_that_leaves_nothing_at_all_gives_nothing(
    recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    assert recommender.recommend(["i1", "i2"], 3, allow=["i1", "i2"], exclude_seen=True) == []
    assert recommender.recommend([["i1"], []], 3, allow=["i5"], exclude=["i5"]) == [[], []]
    assert "Every item is excluded for 2 sessions: nothing is recommended." in caplog.text


def test_rules_have_the_last_word_on_popular_items_too(world: Any) -> None:
    popular = ids(world.neural.recommend([[]], 3)[0])
    ruled = Recommender(world.neural, rules=lambda frame: frame[frame["item"] == popular[1]])
    found = ruled.recommend(["i1"], 640, allow=[popular[0], "i1"])
    assert found == []
    ruled = Recommender(world.only_seen, rules=lambda frame: frame[frame["item"] == popular[1]])
    assert ids(ruled.recommend(["i1"], 3, exclude_seen=True)) == [popular[1]]


def test_standing_filters_hold_for_every_call(world: Any) -> None:
    filtered = Recommender(
        world.neural,
        index="exact",
        filters={"exclude": ["i1", "i2"], "allow": [f"i{n}" for n in range(50)]},
    )
    allow = [f"i{n}" for n in range(50) if n not in (1, 2)]
    sessions = [*world.lists[:10], []]
    same(filtered.recommend(sessions, 6), world.neural.recommend(sessions, 6, allow=allow))
    inner = ["i1", "i40", "i41", "i500"]
    same(
        filtered.recommend(sessions, 6, allow=inner),
        world.neural.recommend(sessions, 6, allow=["i40", "i41"]),
    )
    with pytest.raises(ValueError, match="filters has 'allow' and 'exclude', got 'deny'"):
        Recommender(world.neural, filters={"deny": ["i1"]})


# -- two stages --------------------------------------------------------------------------------


def test_candidates_of_two_retrievers_are_merged_by_reciprocal_ranks(world: Any) -> None:
    both = Recommender(world.neural, retrievers=[world.counting], weights=[1.0, 2.0], candidates=50)
    session = [world.lists[0]]
    expected: dict[str, float] = {}
    for weight, model in ((1.0, world.neural), (2.0, world.counting)):
        for rank, (item, _) in enumerate(model.recommend(session, 50)[0], start=1):
            expected[item] = expected.get(item, 0.0) + weight / (60 + rank)
    wanted = sorted(expected.items(), key=lambda pair: (-pair[1], int(pair[0][1:])))[:20]
    found = both.recommend(session, 20)[0]
    assert found == [(item, pytest.approx(score)) for item, score in wanted]
    assert set(both.seconds) == {"retrieval"}


def test_reranker_orders_the_candidates_of_the_retriever(world: Any) -> None:
    staged = Recommender(world.counting, reranker=world.neural, candidates=12)
    sessions = world.lists[:8]
    candidates = [ids(each) for each in world.counting.recommend(sessions, 12)]
    same(staged.recommend(sessions, 5), world.neural.recommend(sessions, 5, allow=candidates))


def test_diversity_keeps_apart_what_is_alike(world: Any) -> None:
    model = deepcopy(world.neural)
    session = world.lists[0]
    first, second = ids(model.recommend([session], 2)[0])
    codes = model.catalog.items.encode([first, second])
    with torch.no_grad():  # the second becomes a copy of the first, with a little less bias
        model.items.weight[codes[1]] = model.items.weight[codes[0]]
        model.items.bias[codes[1]] = model.items.bias[codes[0]] - 1e-3
    plain = ids(Recommender(model).recommend(session, 10))
    assert plain[:2] == [first, second]
    diverse = ids(Recommender(model, diversity=0.5, candidates=30).recommend(session, 10))
    assert diverse[0] == first
    assert second not in diverse[:3]
    unchanged = Recommender(model, diversity=1e-9, candidates=30).recommend(session, 10)
    assert ids(unchanged) == plain
    with pytest.raises(ValueError, match=r"diversity must lie in 0\.\.1, got 2"):
        Recommender(model, diversity=2)


def test_rules_have_the_last_word(world: Any) -> None:
    def odd_last(frame: pd.DataFrame) -> pd.DataFrame:
        odd = frame["item"].str[1:].astype(int) % 2
        return frame.assign(odd=odd).sort_values("odd", kind="stable")

    ruled = Recommender(world.neural, rules=odd_last, candidates=20)
    sessions = world.lists[:4]
    for found, plain in zip(
        ruled.recommend(sessions, 20), world.neural.recommend(sessions, 20), strict=True
    ):
        wanted = sorted(ids(plain), key=lambda item: int(item[1:]) % 2)
        assert ids(found) == wanted


def test_rules_that_return_something_else_are_refused(world: Any) -> None:
    session = world.lists[0]
    for rules, message in (
        (lambda frame: frame[["item"]], r"lacks \['session', 'score'\]"),
        (lambda frame: frame.assign(item="i9999"), "an item or a session that was not"),
        (lambda frame: frame.assign(session=5), "an item or a session that was not"),
        (lambda frame: frame.iloc[[0, 1, 0]], "an item of a session twice"),
    ):
        with pytest.raises(ValueError, match=message):
            Recommender(world.neural, rules=rules).recommend(session, 3)
    with pytest.raises(ValueError, match="SequentialRules has none: leave it at 0"):
        Recommender(world.counting, diversity=0.5).recommend(session, 3)


def test_parts_of_other_items_are_refused_when_they_are_put_in_place(world: Any) -> None:
    other = Popularity(3)
    two = Recommender(world.neural, retrievers=[world.counting])
    three = Recommender(world.neural, reranker=world.counting)
    for recommender, name, value, message in (
        (two, "model", other, "The model and retriever 0 need the same items, got 3 and 640"),
        (three, "model", other, "The model and the reranker need the same items, got 3 and 640"),
        (two, "retrievers", [world.counting, other], "retriever 1 need the same items"),
        (two, "reranker", other, "the reranker need the same items, got 640 and 3"),
        (two, "retrievers", ["vsknn"], "retriever 0 "),
        (two, "index", "exact", "an index or None, got 'exact'"),
        (two, "diversity", "x", "diversity must lie in 0..1, got 'x'"),
        (two, "weights", [1.0, -1.0], "weights are numbers of at least 0, got -1.0"),
        (two, "candidates", 0, "candidates must be at least 1, got 0"),
    ):
        before = getattr(recommender, name)
        with pytest.raises((ValueError, TypeError), match=message):
            setattr(recommender, name, value)
        assert getattr(recommender, name) is before


def test_retrievers_and_their_weights_are_replaced_one_after_the_other(world: Any) -> None:
    recommender = Recommender(world.neural)
    recommender.retrievers = [world.counting]
    with pytest.raises(ValueError, match="one per retriever, 2 in all, got 1"):
        recommender.recommend(["i1"], 3)
    recommender.weights = [1.0, 2.0]
    wanted = Recommender(world.neural, retrievers=[world.counting], weights=[1.0, 2.0])
    assert recommender.recommend(["i1"], 3) == wanted.recommend(["i1"], 3)


def test_models_of_other_items_are_refused(world: Any) -> None:
    other = Popularity(3)
    with pytest.raises(ValueError, match="retriever 0 need the same items, got 640 and 3"):
        Recommender(world.neural, retrievers=[other])
    with pytest.raises(ValueError, match="the reranker need the same items"):
        Recommender(world.neural, reranker=other)
    with pytest.raises(ValueError, match="one per retriever, 2 in all, got 1"):
        Recommender(world.neural, retrievers=[world.counting], weights=[1.0])


# -- cache -------------------------------------------------------------------------------------


def test_cache_answers_again_and_never_after_a_change(world: Any) -> None:
    model = deepcopy(world.neural)
    cache = AnswerCache(1_000)
    cached = Recommender(model, cache=cache)
    sessions = world.lists[:6]
    first = cached.recommend(sessions, 5)
    assert (cache.hits, cache.misses) == (0, 6)
    assert cached.recommend(sessions, 5) == first
    assert (cache.hits, cache.misses) == (6, 6)
    assert cached.recommend(sessions[::-1], 5) == first[::-1]
    same(cached.recommend(sessions, 3), [each[:3] for each in first])

    best = first[0][0][0]
    code = int(model.catalog.items.encode([best])[0])
    with torch.no_grad():
        model.items.bias[code] -= 1_000
    same(cached.recommend(sessions, 5), model.recommend(sessions, 5))
    assert best not in ids(cached.recommend(sessions, 5)[0])
    now = ids(cached.recommend(sessions, 5)[0])
    cached.set_filters({"exclude": [now[0]]})
    assert ids(cached.recommend(sessions, 5)[0])[:4] == now[1:]
    assert ids(cached.recommend(sessions, 5, exclude=[now[1]])[0])[0] == now[2]


def test_cache_forgets_when_an_item_leaves_the_index(world: Any) -> None:
    index = ExactIndex(ItemVectors.of(world.neural))
    cached = Recommender(world.neural, index=index, cache=AnswerCache())
    session = world.lists[0]
    before = ids(cached.recommend(session, 5))
    index.remove(world.neural.catalog.items.encode(before[:1]))
    assert ids(cached.recommend(session, 4)) == before[1:]
    assert ids(cached.recommend(session, 5))[:4] == before[1:]


def test_item_removed_from_the_index_is_served_in_no_way(world: Any) -> None:
    found = Recommender(
        world.neural, index="exact", retrievers=[world.counting], cache=AnswerCache()
    )
    assert found.index is not None
    session, unknown = world.lists[0], ["never seen"]
    gone = ids(found.recommend(session, 3)) + ids(found.recommend([unknown], 3)[0])
    found.index.remove(np.unique(world.neural.catalog.items.encode(gone)))
    for k, asked, options in [
        (3, session, {}),
        (3, session, {"allow": [*gone, "i5"]}),
        (700, session, {"exclude_seen": True}),
        (700, session, {"exclude": [f"i{n}" for n in range(600)]}),
        (3, unknown, {}),
        (3, session, {"exclude": [f"i{n}" for n in range(640) if f"i{n}" not in gone]}),
    ]:
        assert not set(ids(found.recommend([asked], k, **options)[0])) & set(gone), options


def test_item_removed_from_the_index_stays_out_when_it_is_refreshed(world: Any) -> None:
    model = deepcopy(world.neural)
    found = Recommender(model, index="exact")
    assert found.index is not None
    best = ids(found.recommend(world.lists[0], 3))
    found.index.remove(model.catalog.items.encode(best[:1]))
    with torch.no_grad():
        model.items.weight.mul_(1.001)
    found.refresh()
    assert ids(found.recommend(world.lists[0], 2)) == best[1:]
    assert len(found.index) == model.num_items - 1


def test_item_that_only_the_index_has_is_named(world: Any) -> None:
    index = ExactIndex(ItemVectors.of(world.neural))
    found = Recommender(world.neural, index=index)
    best = world.neural.catalog.items.encode(ids(found.recommend(world.lists[0], 1)))
    index.add([world.neural.num_items + 3], 3 * ItemVectors.of(world.neural).rows[best])
    with pytest.raises(ValueError, match="Item 643 was added to this index"):
        found.recommend(world.lists[0], 3)


def test_cache_forgets_when_a_part_is_replaced(world: Any) -> None:
    other = deepcopy(world.neural)
    with torch.no_grad():
        other.items.weight.mul_(-1)
    session = world.lists[0][:3]

    def made(**arguments: Any) -> Recommender:
        return Recommender(world.neural, candidates=60, **arguments)

    cached = made(retrievers=[world.counting], cache=AnswerCache())
    changes: list[tuple[str, Any]] = [
        ("weights", [1.0, 5.0]),
        ("diversity", 0.7),
        ("reranker", other),
        ("rules", lambda frame: frame[::-1]),
        ("retrievers", [other]),
    ]
    parts: dict[str, Any] = {"retrievers": [world.counting]}
    before = cached.recommend(session, 5)
    for name, value in changes:
        setattr(cached, name, value)
        parts[name] = value
        found = cached.recommend(session, 5)
        assert found == made(**parts).recommend(session, 5)
        assert found != before
        before = found
    with torch.no_grad():
        other.items.weight.mul_(-1)  # a part that came later is watched as well
    assert cached.recommend(session, 5) == made(**parts).recommend(session, 5)


def test_one_cache_serves_several_recommenders(world: Any) -> None:
    cache, session = AnswerCache(), world.lists[0][:3]
    best = ids(Recommender(world.neural, cache=cache).recommend(session, 5))
    without = Recommender(world.neural, cache=cache, filters={"exclude": best[:1]})
    assert ids(without.recommend(session, 5))[:4] == best[1:]


def test_a_model_put_in_place_of_another_needs_an_index_of_its_own(world: Any) -> None:
    recommender = Recommender(world.neural, index="exact")
    recommender.model = deepcopy(world.neural)
    with torch.no_grad():
        recommender.model.items.weight.mul_(-1)
    with pytest.raises(ValueError, match=r"call refresh\(\) after its weights changed"):
        recommender.recommend(["i1"], 5)
    recommender.refresh()
    same([recommender.recommend(["i1"], 5)], recommender.model.recommend([["i1"]], 5))


def test_model_of_other_items_needs_filters_of_its_own(world: Any) -> None:
    found = Recommender(world.neural, filters={"exclude": ["i1"]})
    found.model = deepcopy(world.neural)  # of the same items: filters stay
    log = gs.Sessions.from_lists([["i1", "brand new"]])
    grown = gs.grow(world.neural, log)
    with torch.no_grad():
        grown.items.bias[-1] = 1e3
    with pytest.raises(ValueError, match=r"call set_filters\(None\), put the model in its place"):
        found.model = grown
    assert found.model.num_items == world.neural.num_items
    found.set_filters(None)
    found.model = grown
    found.set_filters({"exclude": ["i1"]})
    assert ids(found.recommend(["i2"], 1)) == ["brand new"]


def test_cache_is_bounded_and_checked() -> None:
    cache = AnswerCache(max_answers=2)
    for key in range(5):
        cache.put(key, (key,))
    assert len(cache) == 2
    assert cache.get(4) == (4,)
    assert cache.get(0) is None
    assert cache.hit_rate == 0.5
    for wrong in (0, "x"):
        with pytest.raises(ValueError, match=f"seconds must be positive, got {wrong!r}"):
            AnswerCache(seconds=wrong)


def test_index_of_weights_that_changed_is_refused_until_refreshed(world: Any) -> None:
    model = deepcopy(world.neural)
    live = Recommender(model, index="exact")
    before = live.version
    with torch.no_grad():
        model.items.bias[3] += 100
    with pytest.raises(ValueError, match=f"version {before}, and the model is now .*refresh"):
        live.recommend(world.lists[0], 3)
    live.refresh()
    assert ids(live.recommend(world.lists[0], 3))[0] == "i3"
    assert live.version != before


# -- files -------------------------------------------------------------------------------------


def test_folder_moved_elsewhere_gives_the_same_answers(world: Any, tmp_path: Path) -> None:
    made = Recommender(
        world.neural,
        index=build_index(world.neural, "exact"),
        retrievers=[world.counting],
        weights=[1.0, 0.5],
        reranker=world.neural,
        filters={"exclude": ["i4"]},
        diversity=0.1,
        cache=AnswerCache(50, 60),
        candidates=40,
    )
    made.save(tmp_path / "a")
    made.save(tmp_path / "a")  # over itself
    (tmp_path / "a").rename(tmp_path / "b")
    loaded = gs.load(tmp_path / "b")
    assert isinstance(loaded, Recommender)
    sessions = [*world.lists[:12], []]
    assert loaded.recommend(sessions, 7) == made.recommend(sessions, 7)
    assert loaded.version == made.version
    assert loaded.cache is not None
    assert (loaded.cache.max_answers, loaded.cache.seconds) == (50, 60)


def test_damaged_part_of_a_folder_is_named(world: Any, tmp_path: Path) -> None:
    Recommender(world.neural, index="exact").save(tmp_path / "r")
    for path in sorted((tmp_path / "r").rglob("*.*")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-4] + bytes(4 * [whole[-4] ^ 1]))
        with pytest.raises(ValueError, match=path.name):
            gs.load(tmp_path / "r")
        path.write_bytes(whole)
    other = deepcopy(world.neural)
    with torch.no_grad():
        other.items.bias += 1
    other.save(tmp_path / "r" / "model")  # a whole folder of another build
    with pytest.raises(ValueError, match="model belongs to another build than its folder"):
        gs.load(tmp_path / "r")


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_recommender_with_fewer_bits_answers_as_its_rounded_model(
    world: Any, precision: Any, tmp_path: Path
) -> None:
    made = Recommender(world.neural, index="exact", reranker=world.counting)
    made.index.remove([3])  # type: ignore[union-attr]
    made.save(tmp_path / "r", precision=precision)
    loaded = gs.load(tmp_path / "r")
    assert loaded.version != made.version
    assert loaded.version == loaded.index.model_version
    assert 3 not in loaded.index.items
    assert len(loaded.index) == 639
    loaded.index.add([3], np.zeros((1, 17)))
    world.neural.save(tmp_path / "m", precision=precision)
    rounded = Recommender(gs.load(tmp_path / "m"), index="exact", reranker=world.counting)
    rounded.index.remove([3])  # type: ignore[union-attr]
    rounded.index.add([3], np.zeros((1, 17)))  # type: ignore[union-attr]
    same(loaded.recommend(world.lists[:9], 8), rounded.recommend(world.lists[:9], 8))
    assert made.index is not None
    made.index.check_version(world.neural)  # what was saved stays as it was


def test_rounded_scores_of_an_index_lose_hardly_an_item_of_the_model(world: Any) -> None:
    exact = Recommender(world.neural).recommend(world.lists, 10)
    index = build_index(world.neural, "faiss_sq8")
    bare = [index.search(np.zeros((1, 17)), 10)[0].shape, (1, 10)]
    assert bare[0] == bare[1]  # whoever searches the index gets what was asked for
    found = Recommender(world.neural, index=index).recommend(world.lists, 10)
    pairs = [zip(ids(a), ids(b), strict=True) for a, b in zip(found, exact, strict=True)]
    assert np.mean([one == other for pair in pairs for one, other in pair]) > 0.999


def test_index_with_foreign_items_is_not_built_again(world: Any, tmp_path: Path) -> None:
    made = Recommender(world.neural, index="exact")
    assert made.index is not None
    made.index.add([900], np.zeros((1, 17)))
    with pytest.raises(ValueError, match="Item 900 was added to this index, and the model has no"):
        made.save(tmp_path / "r", precision="int8")


def test_rules_are_given_again_to_what_is_loaded(world: Any, tmp_path: Path) -> None:
    Recommender(world.neural, rules=lambda frame: frame.iloc[::-1]).save(tmp_path / "r")
    with pytest.raises(ValueError, match=r"load_recommender\(folder, rules=\.\.\.\)"):
        gs.load(tmp_path / "r")
    loaded = gs.load(tmp_path / "r", rules=lambda frame: frame.iloc[::-1])
    assert len(loaded.recommend(world.lists[0], 5)) == 5


def test_model_loads_as_before(world: Any, tmp_path: Path) -> None:
    world.neural.save(tmp_path / "model")
    loaded = gs.load(tmp_path / "model")
    assert type(loaded) is type(world.neural)
    with pytest.raises(ValueError, match="holds something other than saved recommender"):
        Recommender(world.neural).save(tmp_path / "model")


def test_many_threads_get_the_answers_of_one(world: Any) -> None:
    shared = Recommender(
        world.neural, index="exact", retrievers=[world.counting], cache=AnswerCache(20)
    )
    calls = [world.lists[start : start + 3] for start in range(0, 60, 3)]
    wanted = [shared.recommend(call, 5) for call in calls]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda call: shared.recommend(call, 5), calls * 3))
    for one, other in zip(found, wanted * 3, strict=True):
        same(one, other)


def test_users_are_passed_to_the_model() -> None:
    sessions = gs.Sessions.from_lists([["a", "b"], ["b", "c"]] * 4, users=["u", "v"] * 4)
    model = gs.models.Caser(3, 4, num_users=2)
    fit(model, sessions, max_epochs=1)
    shared = Recommender(model, cache=AnswerCache())
    for users in (["u", "v"], ["v", "v"]):
        same(
            shared.recommend([["a"], ["a"]], 2, users=users),
            model.recommend([["a"], ["a"]], 2, users=users),
        )


@pytest.mark.parametrize("index", [None, "exact"])
def test_delisted_items_leave_every_answer_at_once_also_cached_and_popular_ones(
    world: Any, index: str | None
) -> None:
    model = deepcopy(world.neural)
    cached = Recommender(model, index=index, cache=AnswerCache(1_000))
    sessions = [*world.lists[:6], []]
    before = cached.recommend(sessions, 5)
    gone = [before[0][0][0], before[-1][0][0]]  # the best of a session, and of popularity
    model.delist(gone)
    after = cached.recommend(sessions, 5)
    same(after, model.recommend(sessions, 5))
    assert not set(gone) & {item for answer in after for item in ids(answer)}
    cached.set_filters({"exclude": [after[0][0][0]]})
    same(cached.recommend(sessions, 4), model.recommend(sessions, 4, exclude=[after[0][0][0]]))
    model.relist()
    cached.set_filters(None)
    assert cached.recommend(sessions, 5) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"index": 5}, "index is a name in gs.serving.INDEXES, an index or None, got 5"),
        ({"cache": True}, "cache is an AnswerCache or None, got True"),
        ({"rules": "top"}, "rules is a function of a frame, got 'top'"),
        ({"filters": ["i1"]}, "filters is a dict of 'allow' and 'exclude', got list"),
        ({"filters": {"allow": []}}, "filters leave no item to serve"),
        ({"weights": [float("nan")]}, "weights are numbers of at least 0, got nan"),
        ({"weights": [-1]}, "weights are numbers of at least 0, got -1"),
        ({"weights": ["1"]}, "weights are numbers of at least 0, got '1'"),
        ({"weights": [0.0]}, "weights has nothing but zeros"),
        ({"weights": []}, "one per retriever, 1 in all, got 0"),
        ({"weights": 1.0}, "weights is a list of numbers, got 1.0"),
        ({"place_weight": None}, "place_weight must be a finite number of at least 0, got None"),
        ({"place_weight": "1"}, "place_weight must be a finite number of at least 0, got '1'"),
        ({"diversity": "x"}, r"diversity must lie in 0\.\.1, got 'x'"),
        ({"diversity": None}, r"diversity must lie in 0\.\.1, got None"),
        ({"diversity": float("nan")}, r"diversity must lie in 0\.\.1, got nan"),
    ],
)
def test_arguments_of_another_kind_are_named(world: Any, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recommender(world.neural, **arguments)


def test_one_model_in_place_of_a_list_of_retrievers_is_named(world: Any) -> None:
    with pytest.raises(ValueError, match="retrievers is a list of models"):
        Recommender(world.neural, retrievers=world.counting)


def test_index_of_another_width_names_both(world: Any) -> None:
    torch.manual_seed(0)
    other = gs.models.GRU4Rec(640, 8)
    other.attach(world.sessions.catalog())
    index = gs.serving.build_index(world.neural, "exact")
    with pytest.raises(ValueError, match="width 17 and the model has vectors of width 9"):
        Recommender(other, index=index)


def test_scores_that_are_no_numbers_are_refused_everywhere(world: Any) -> None:
    broken = deepcopy(world.neural)
    with torch.no_grad():
        broken.items.weight[3, 1] = float("nan")
    recommender = Recommender(broken)
    for ask in (
        lambda: recommender.recommend(["i1"], 5),
        lambda: gs.serving.LiveSessions(recommender).click("s", "i1"),
        lambda: Recommender(world.counting, reranker=broken, candidates=640).recommend(["i1"], 5),
    ):
        with pytest.raises(ValueError, match="GRU4Rec gave a score that is not a number"):
            ask()


def test_more_items_than_there_are_and_none_left_are_said(world: Any, caplog: Any) -> None:
    recommender = Recommender(world.neural)
    assert len(recommender.recommend(["i1"], 700)) == 640
    assert "k=700 is more than all 640 items: fewer come." in caplog.text
    caplog.clear()
    every = [f"i{code}" for code in range(640)]
    assert recommender.recommend(["i1"], 5, exclude=every) == []
    assert caplog.messages == ["Every item is excluded for 1 sessions: nothing is recommended."]


def test_folder_without_its_header_names_it(world: Any, tmp_path: Any) -> None:
    Recommender(world.neural).save(tmp_path / "r")
    (tmp_path / "r" / "recommender.json").unlink()
    with pytest.raises(ValueError, match=r"r.recommender\.json is missing"):
        gs.load(tmp_path / "r")
