"""Augmentations: what each may change, and that changes of a session are independent of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch_geometric.transforms import Compose

from graphseq.data.graphs.augment import (
    Augmentation,
    ClickDropout,
    ClickReorder,
    CropToPrefix,
    ItemMask,
    OneOf,
    RaggedClicks,
    RandomCrop,
    SegmentReorder,
    Substitute,
)
from graphseq.data.sessions.sessions import Sessions
from graphseq.random import substreams, words_of

NUM_ITEMS = 7
TRAIN = Sessions.from_lists([[0, 1, 2, 0], [3, 1, 4], [5, 2, 1], [6, 6]])

AUGMENTATIONS: dict[str, Augmentation] = {
    "prefix": CropToPrefix(),
    "crop": RandomCrop(0.6),
    "dropout": ClickDropout(0.5),
    "all dropped": ClickDropout(1.0),
    "mask": ItemMask(0.5),
    "segment": SegmentReorder(0.7),
    "reorder": ClickReorder(0.8),
    "substitute": Substitute(TRAIN, 0.5),
    "one of": OneOf([RandomCrop(0.5), ItemMask(0.4), SegmentReorder(0.5)]),
    "chain": Compose([SegmentReorder(0.5), ClickDropout(0.3), ClickDropout(0.3)]),
}
every = pytest.mark.parametrize("name", AUGMENTATIONS)
CROPS = ("prefix", "crop", "one of")

lists = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=9), max_size=5)


def ragged(sessions: list[list[int]], tail: int = 0, seed: int = 0) -> RaggedClicks:
    items = np.array([item for session in sessions for item in session], dtype=np.int64)
    ptr = np.cumsum([0, *map(len, sessions)])
    streams = substreams(words_of("augmentation", seed), np.arange(len(sessions)))
    return RaggedClicks(items, ptr, np.arange(len(items)), streams, tail)


def as_lists(clicks: RaggedClicks) -> list[list[int]]:
    return [part.tolist() for part in np.split(clicks.items, clicks.ptr[1:-1])][
        : len(clicks.ptr) - 1
    ]


@every
@given(sessions=lists, tail=st.integers(0, 1), seed=st.integers(0, 50))
def test_augmentation_keeps_sessions_clicks_where_they_belong(
    name: str, sessions: list[list[int]], tail: int, seed: int
) -> None:
    before = ragged(sessions, tail, seed)
    after = AUGMENTATIONS[name](before)
    assert len(after.ptr) == len(before.ptr)
    assert (after.lengths >= np.minimum(before.lengths, 1 + tail)).all()
    assert (after.lengths <= before.lengths).all()
    assert len(after.items) == len(after.origin) == after.ptr[-1]
    assert (before.session[after.origin] == after.session).all()
    assert len(set(after.origin.tolist())) == len(after.origin)
    if name != "substitute":
        assert (before.items[after.origin] == after.items).all()
    if tail and name not in CROPS:
        some = after.lengths > 0
        assert (after.origin[after.ptr[1:][some] - 1] == before.ptr[1:][some] - 1).all()
        assert (
            after.items[after.ptr[1:][some] - 1] == before.items[before.ptr[1:][some] - 1]
        ).all()


@every
@given(sessions=lists.filter(bool), data=st.data())
def test_augmentation_of_a_session_does_not_depend_on_its_neighbors(
    name: str, sessions: list[list[int]], data: st.DataObject
) -> None:
    number = data.draw(st.permutations(range(len(sessions))))
    number = np.array(number[: data.draw(st.integers(0, len(number)))], dtype=np.int64)
    together = AUGMENTATIONS[name](ragged(sessions, 1))
    alone = AUGMENTATIONS[name](ragged(sessions, 1).sessions(number))
    assert as_lists(alone) == [as_lists(together)[i] for i in number]


@every
def test_augmentation_is_a_function_of_the_streams(name: str) -> None:
    sessions = [np.random.default_rng(0).integers(0, NUM_ITEMS, 30).tolist()] * 20
    once = as_lists(AUGMENTATIONS[name](ragged(sessions)))
    assert as_lists(AUGMENTATIONS[name](ragged(sessions))) == once
    if name != "all dropped":
        assert as_lists(AUGMENTATIONS[name](ragged(sessions, seed=1))) != once
        assert len({tuple(session) for session in once}) > 10  # equal sessions, other streams


@every
def test_augmentation_of_one_click_and_of_none_changes_nothing_but_the_item(name: str) -> None:
    for tail in (0, 1):
        after = AUGMENTATIONS[name](ragged([[], [3], []], tail))
        assert after.lengths.tolist() == [0, 1, 0]
    assert as_lists(AUGMENTATIONS[name](ragged([]))) == []


@every
def test_augmentation_of_two_thousand_clicks_leaves_some(name: str) -> None:
    after = AUGMENTATIONS[name](ragged([list(range(NUM_ITEMS)) * 286, [1, 2]], 1))
    assert 2 <= after.lengths[0] <= 2002


@given(sessions=lists, seed=st.integers(0, 50))
def test_crops_are_parts_without_gaps(sessions: list[list[int]], seed: int) -> None:
    for crop, at_start in ((CropToPrefix(), True), (RandomCrop(0.4), False)):
        after = crop(ragged(sessions, 1, seed))
        place = after.origin - np.arange(len(after.origin))
        for start, end in zip(after.ptr[:-1], after.ptr[1:], strict=True):
            assert len(set(place[start:end].tolist())) <= 1
        if at_start:
            some = after.lengths > 0
            assert (after.origin[after.ptr[:-1][some]] == ragged(sessions).ptr[:-1][some]).all()


def test_random_crop_has_its_share_and_every_start_alike() -> None:
    after = RandomCrop(0.6)(ragged([list(range(6))] * 6000))
    assert set(after.lengths.tolist()) == {4}  # 0.6 * 6, rounded up
    start = after.items[after.ptr[:-1]]
    assert chisquare(np.bincount(start, minlength=3)).pvalue > 0.01


def test_shares_that_are_whole_are_not_rounded() -> None:
    clicks = ragged([list(range(100))])
    for percent in range(1, 101):
        assert RandomCrop(percent / 100)(clicks).lengths.tolist() == [percent]
    moved = [SegmentReorder(percent / 100)(clicks).items for percent in (29, 57, 58)]
    for percent, items in zip((29, 57, 58), moved, strict=True):
        place = np.flatnonzero(items != np.arange(100))
        assert place[-1] - place[0] + 1 == percent  # both ends are moved with these streams


def test_prefix_has_every_length_alike() -> None:
    lengths = CropToPrefix()(ragged([[1, 2, 3, 4, 5]] * 6000, tail=1)).lengths
    assert chisquare(np.bincount(lengths, minlength=6)[2:]).pvalue > 0.01


@pytest.mark.parametrize("augmentation", [SegmentReorder(0.7), ClickReorder(0.8)])
@given(sessions=lists, tail=st.integers(0, 1), seed=st.integers(0, 50))
def test_reorder_keeps_the_multiset(
    augmentation: Augmentation, sessions: list[list[int]], tail: int, seed: int
) -> None:
    after = as_lists(augmentation(ragged(sessions, tail, seed)))
    assert [Counter(s) for s in after] == [Counter(s) for s in sessions]


def test_segment_reorder_leaves_all_but_one_segment_in_place() -> None:
    sessions = [list(range(10))] * 300
    places = set()
    for after in as_lists(SegmentReorder(0.5)(ragged(sessions))):
        moved = [place for place, item in enumerate(after) if place != item]
        assert not moved or max(moved) - min(moved) < 5
        places |= set(moved)
    assert places == set(range(10))


def test_segment_reorder_has_every_order_alike() -> None:
    after = as_lists(SegmentReorder(1.0)(ragged([[0, 1, 2]] * 6000)))
    counts = Counter(map(tuple, after))
    assert len(counts) == 6
    assert chisquare(list(counts.values())).pvalue > 0.01


def test_click_reorder_swaps_pairs_that_are_no_neighbors() -> None:
    sessions = [list(range(10))] * 300
    changed = 0
    for after in as_lists(ClickReorder(0.4)(ragged(sessions))):
        moved = {place: item for place, item in enumerate(after) if place != item}
        assert len(moved) <= 4
        assert all(moved[item] == place and abs(item - place) > 1 for place, item in moved.items())
        changed += len(moved)
    # Two pairs a session, of which 36 of 45 are apart.
    assert changed / len(sessions) == pytest.approx(4 * 36 / 45, rel=0.05)


@pytest.mark.parametrize("tail", [0, 1])
def test_click_dropout_leaves_out_its_share(tail: int) -> None:
    after = ClickDropout(0.3)(ragged([[1] * 100] * 200, tail))
    assert after.lengths.mean() == pytest.approx(tail + 0.7 * (100 - tail), rel=0.01)


def test_click_dropout_of_all_leaves_the_newest_and_the_target() -> None:
    assert as_lists(ClickDropout(1.0)(ragged([[1, 2, 3]]))) == [[3]]
    assert as_lists(ClickDropout(1.0)(ragged([[1, 2, 3], [4]], tail=1))) == [[2, 3], [4]]


def test_item_mask_takes_all_clicks_of_an_item_or_none() -> None:
    sessions = [[0, 1, 2, 0, 1, 2, 0]] * 1000
    after = as_lists(ItemMask(0.3)(ragged(sessions)))
    assert {Counter(s)[0] for s in after} == {0, 1, 3}  # 1: the newest click, where all would go
    assert {Counter(s)[1] for s in after} == {0, 2}
    assert np.mean([1 not in s for s in after]) == pytest.approx(0.3, abs=0.05)


def test_substitute_draws_by_how_often_items_stand_near_in_training() -> None:
    train = Sessions.from_lists([[0, 1]] * 3 + [[2, 0]] + [[3], [4, 4]])
    after = Substitute(train, 1.0)(ragged([[0] * 4000]))
    counts = np.bincount(after.items, minlength=5)
    assert counts[[0, 3, 4]].tolist() == [0, 0, 0]
    assert chisquare(counts[[1, 2]], [3000, 1000]).pvalue > 0.01
    # Neither an item that stands alone nor one only beside itself has another to go to.
    assert as_lists(Substitute(train, 1.0)(ragged([[3, 4]]))) == [[3, 4]]


def test_substitute_of_further_steps_reaches_further() -> None:
    train = Sessions.from_lists([[0, 1, 2]])
    near = {1: set(), 2: set()}
    for steps, found in near.items():
        found |= set(Substitute(train, 1.0, steps=steps)(ragged([[0] * 50])).items.tolist())
    assert near == {1: {1}, 2: {1, 2}}


def test_one_of_takes_each_alike() -> None:
    either = OneOf([ClickDropout(1.0), ClickDropout(0.0)])
    lengths = either(ragged([[1, 2, 3]] * 4000)).lengths
    assert chisquare(np.bincount(lengths, minlength=4)[[1, 3]]).pvalue > 0.01


@pytest.mark.parametrize("nested", [False, True])
def test_one_of_changes_by_other_numbers_than_it_chooses(nested: bool) -> None:
    crop: Augmentation = OneOf([RandomCrop(0.5)] * 2) if nested else RandomCrop(0.5)
    either = OneOf([crop, ItemMask(0.0), ItemMask(0.0)])
    before = ragged([list(range(10))] * 12_000, seed=1)
    after = either(before)
    cropped = after.lengths == 5
    start = after.items[after.ptr[:-1][cropped]]
    assert chisquare(np.bincount(start, minlength=6)).pvalue > 0.01
    assert (after.streams == before.streams).all()


def test_augmentation_after_a_chain_within_one_of_draws_numbers_of_its_own() -> None:
    chain = Compose([ItemMask(0.0), ItemMask(0.5)])
    after = Compose([OneOf([chain]), ItemMask(0.5)])(ragged([list(range(4000))]))
    assert after.lengths[0] / 4000 == pytest.approx(0.25, abs=0.03)


def test_chained_augmentations_draw_numbers_of_their_own() -> None:
    twice = Compose([ClickDropout(0.5), ClickDropout(0.5)])(ragged([[1] * 4000]))
    assert twice.lengths[0] / 4000 == pytest.approx(0.25, abs=0.03)
    assert twice.step == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomCrop(0.0), r"share must lie in \(0, 1\], got 0"),
        (lambda: ClickDropout(1.5), r"share must lie in \[0, 1\], got 1\.5"),
        (lambda: ItemMask(-0.1), "share must lie in"),
        (lambda: SegmentReorder(2), "share must lie in"),
        (lambda: ClickReorder(2), "share must lie in"),
        (lambda: Substitute(TRAIN, 2), "share must lie in"),
        (lambda: Substitute(TRAIN, steps=0), "steps must be at least 1"),
        (lambda: OneOf([]), "at least one augmentation"),
    ],
)
def test_wrong_augmentation_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_augmentations_show_their_settings() -> None:
    assert repr(RandomCrop(0.5)) == "RandomCrop(share=0.5)"
    assert repr(Substitute(TRAIN)) == "Substitute(share=0.2, steps=1)"
    expected = "OneOf(augmentations=[CropToPrefix(), ClickDropout(share=0.1)])"
    assert repr(OneOf([CropToPrefix(), ClickDropout()])) == expected
