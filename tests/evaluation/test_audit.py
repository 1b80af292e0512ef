"""The audit of a split: every planted fault is found, correct splits pass."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphseq as gs
from graphseq.data.sessions.catalog import Catalog
from graphseq.evaluation import Audit, audit, session_hashes

GENERATOR = np.random.default_rng(5)
LISTS = [
    [f"i{item}" for item in GENERATOR.integers(0, 60, GENERATOR.integers(3, 8))] for _ in range(300)
]
CHECKS = [
    "copies",
    "prefixes",
    "shared sessions",
    "cut sessions",
    "future",
    "ties of time",
    "catalog",
    "popularity",
    "negatives",
    "core",
    "targets in input",
    "duplicates",
]


def timed(lists, start=0.0):
    sessions = gs.Sessions.from_lists(lists)
    time = start + 1000.0 * np.repeat(np.arange(len(lists)), sessions.lengths)
    place = np.arange(sessions.num_clicks) - np.repeat(sessions.ptr[:-1], sessions.lengths)
    return replace(sessions, time=time + 10.0 * place)


def parts(train, test, **fields):
    return gs.fixed_split(gs.Sessions.from_lists(train), gs.Sessions.from_lists(test), **fields)


TRAIN, TEST = LISTS[:240], LISTS[240:]


def test_audit_of_an_honest_split_passes():
    split = gs.fixed_split(timed(TRAIN), timed(TEST, 1e6))
    found = audit(split)
    assert found.passed
    assert [finding.check for finding in found.findings] == CHECKS
    assert found.faults == ()
    assert repr(found) == "Audit(passed, checks=12)"
    assert audit(parts(TRAIN, TEST)).passed


@pytest.mark.parametrize("kind", ["temporal", "session", "leave_last"])
def test_audit_of_our_own_splits_passes(kind):
    log = gs.generate_sessions(num_sessions=800, num_items=60, seed=3)
    split = {
        "temporal": lambda: gs.temporal_split(log, test_days=2),
        "session": lambda: gs.session_split(log),
        "leave_last": lambda: gs.leave_last_split(log),
    }[kind]()
    assert audit(split).passed, audit(split).to_frame()


@pytest.mark.parametrize("times", [True, False])
def test_audit_finds_a_test_session_in_training(times):
    make = timed if times else gs.Sessions.from_lists
    test = make(TEST) if not times else timed(TEST, 1e6)
    train = gs.Sessions.from_lists([*TRAIN, TEST[7], TEST[9]])
    if times:
        train = timed([*TRAIN, TEST[7], TEST[9]])
        copied = train.time.copy()
        for place, number in ((240, 7), (241, 9)):
            begin, end = test.ptr[number : number + 2]
            copied[train.ptr[place] : train.ptr[place + 1]] = test.time[begin:end]
        train = replace(train, time=copied)
    finding = audit(gs.fixed_split(train, test))["copies"]
    assert finding.verdict == "fault"
    assert (finding.count, finding.total) == (2, 60)
    assert [example.split(":")[0] for example in finding.examples] == [
        "test session 7",
        "test session 9",
    ]


def test_audit_finds_a_copy_at_another_time():
    split = gs.fixed_split(timed([*TRAIN, TEST[7]]), timed(TEST, 1e6))
    assert audit(split)["copies"].verdict == "fault"


def test_audit_finds_the_beginning_of_a_test_session_with_a_target_in_training():
    long = [f"i{item}" for item in np.random.default_rng(8).integers(0, 60, 15)]
    beginning = audit(parts([*TRAIN, long[:9]], [*TEST, long]))["prefixes"]
    assert (beginning.verdict, beginning.count) == ("fault", 1)
    assert beginning.examples[0].startswith("test session 60: ['")
    longer = audit(parts([*TRAIN, long], [*TEST, long[:9]]))["prefixes"]
    assert (longer.verdict, longer.count) == ("fault", 1)


def test_audit_takes_the_beginning_of_a_history_for_what_it_is():
    split = gs.leave_last_split(gs.Sessions.from_lists(LISTS), 2)
    found = audit(split)
    assert found["prefixes"].verdict != "fault"  # two of two clicks are those of another
    moved = replace(split.test, first_target=split.test.targets_from - 1)
    assert audit(replace(split, test=moved))["prefixes"].verdict == "fault"


def test_audit_of_repeated_short_sessions_takes_them_for_chance():
    short = [["a", "b"], ["b", "a"], ["a", "a"]] * 50
    found = audit(parts(short, short[:20]))
    assert found["copies"].count == 20
    assert found["copies"].verdict == "note"


def rare(number: int, seed: int = 0) -> list[list[int]]:
    """Sessions of which no two are alike by chance."""
    return np.random.default_rng(seed).integers(0, 500, (number, 8)).tolist()


@pytest.mark.parametrize(("copied", "verdict"), [(150, "note"), (260, "fault")])
def test_audit_allows_twice_as_many_copies_as_training_holds_of_itself(
    copied: int, verdict: str
) -> None:
    # A fifth of 1,000 training sessions occur twice: 80 of 400 expected, and 4 * sqrt(80) is 36.
    known = rare(900)
    split = parts([*known, *known[:100]], [*known[-copied:], *rare(400 - copied, 1)])
    assert audit(split)["copies"].verdict == verdict


def days(number: int, seed: int) -> gs.Sessions:
    """Independent short sessions of popular items in a log of whole days."""
    generator = np.random.default_rng(seed)
    chance = 1 / np.arange(1, 21)
    lengths = generator.integers(2, 4, number)
    items = [generator.choice(20, n, p=chance / chance.sum()).tolist() for n in lengths]
    sessions = gs.Sessions.from_lists(items, vocabulary=gs.data.Vocabulary(range(20)))
    time = np.repeat(86_400.0 * generator.integers(0, 30, number), lengths)
    return replace(sessions, time=time)


def test_audit_takes_equal_sessions_of_one_day_for_chance_where_training_has_as_many() -> None:
    found = audit(gs.session_split(days(2_000, 0), 0.2))
    for check in ("copies", "prefixes"):
        assert re.search(r" [1-9]\d* at the same times, where [1-9]\d* would", found[check].says)
        assert found[check].verdict == "note", found[check].says


def test_audit_finds_copies_in_a_log_of_days_beyond_what_training_repeats() -> None:
    split = gs.session_split(days(2_000, 0), 0.2)
    copied = split.test.select(np.arange(250))
    lists = [*map(list, split.train), *map(list, copied)]
    train = gs.Sessions.from_lists(lists, vocabulary=split.train.vocabulary)
    train = replace(train, time=np.concatenate([split.train.time, copied.time]))
    assert audit(replace(split, train=train))["copies"].verdict == "fault"


def test_audit_takes_repeats_by_chance_in_training_for_no_excuse_of_a_copy() -> None:
    split = parts([*rare(100), *[[1, 2]] * 200], [*rare(3), *rare(97, 1)])
    assert audit(split)["copies"].verdict == "fault"


@pytest.mark.parametrize(("length", "verdict"), [(5, "note"), (7, "fault")])
def test_audit_takes_a_copy_for_one_that_is_unlikely_among_all_pairs(
    length: int, verdict: str
) -> None:
    # Of 10 equally popular items, two sessions of 5 are the same with a chance of 1e-5, and of 7
    # with 1e-7. There are 100 * 100 pairs of sessions: one in a hundred of them is 1e-6.
    cycles = [np.roll(np.arange(10), -shift)[:length].tolist() for shift in range(9)]
    copy = (7 * np.arange(length) % 10).tolist()
    random = np.random.default_rng(0)
    train = [*cycles, copy, *(random.permutation(10).tolist() for _ in range(90))]
    test = [copy, *(random.permutation(10).tolist() for _ in range(99))]
    assert audit(parts(train, test))["copies"].verdict == verdict


@settings(max_examples=60)
@given(
    train=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1),
    test=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1),
    first=st.integers(1, 3),
)
def test_hashes_of_any_sessions_match_as_a_naive_loop_does(train, test, first):
    vocabulary = gs.data.Vocabulary(list("abc"))
    learned = gs.Sessions.from_lists(train, vocabulary=vocabulary)
    asked = gs.Sessions.from_lists(test, vocabulary=vocabulary)
    asked = replace(asked, first_target=np.full(len(test), first))
    whole, begun = session_hashes.matches(
        session_hashes.of(asked, timed=False), session_hashes.of(learned, timed=False), same=False
    )
    assert whole.tolist() == [clicks in train for clicks in test]
    assert begun.tolist() == [
        any(
            (len(other) < len(clicks) and len(other) > first and clicks[: len(other)] == other)
            or (len(clicks) < len(other) and other[: len(clicks)] == clicks)
            for other in train
        )
        for clicks in test
    ]
    own, _ = session_hashes.matches(
        session_hashes.of(learned, timed=False), session_hashes.of(learned, timed=False), same=True
    )
    assert own.tolist() == [train.count(clicks) > 1 for clicks in train]


def test_audit_finds_session_ids_of_both_parts():
    train = replace(gs.Sessions.from_lists(TRAIN), session_ids=np.arange(240))
    test = replace(gs.Sessions.from_lists(TEST), session_ids=np.arange(238, 298))
    finding = audit(gs.fixed_split(train, test, shared_ids=True))["shared sessions"]
    assert (finding.verdict, finding.count) == ("fault", 2)
    assert finding.examples == ("session id 238", "session id 239")
    other = replace(test, session_ids=np.arange(240, 300))
    assert audit(gs.fixed_split(train, other))["shared sessions"].verdict == "ok"
    whole = replace(gs.Sessions.from_lists(LISTS), session_ids=np.arange(300))
    assert audit(gs.leave_last_split(whole))["shared sessions"].verdict == "ok"


def test_audit_takes_a_session_with_its_targets_in_training_for_no_history() -> None:
    train = replace(gs.Sessions.from_lists(TRAIN), session_ids=np.arange(240))
    test = replace(gs.Sessions.from_lists(TRAIN[:1]), session_ids=np.arange(1))
    finding = audit(gs.fixed_split(train, test, shared_ids=True))["shared sessions"]
    assert (finding.verdict, finding.count) == ("fault", 1)


def test_audit_notes_a_visit_that_the_split_has_cut():
    train, test = timed([["a", "b"], ["b", "a"]]), timed([["a", "b"], ["a", "b"]], 1500.0)
    train = replace(train, users=np.array([0, 1], dtype=np.int32))
    test = replace(test, users=np.array([1, 0], dtype=np.int32))
    vocabulary = gs.data.Vocabulary(["u", "v"])
    train, test = (replace(part, user_vocabulary=vocabulary) for part in (train, test))
    # u's last training click is at 10 s and its test session begins at 2500 s; v's at 1010, 1500.
    finding = audit(gs.fixed_split(train, test))["cut sessions"]
    assert (finding.verdict, finding.count) == ("note", 1)
    assert finding.examples[0].startswith("test session 0")


def visits(train_user: int, test_user: int, begins: float) -> int:
    """The cut visits of one test session after one training session, whose last click is at 10."""
    train, test = (
        replace(
            timed([["a", "b"]], start),
            users=np.array([user], dtype=np.int32),
            user_vocabulary=gs.data.Vocabulary(["u", "v"]),
        )
        for user, start in ((train_user, 0.0), (test_user, begins))
    )
    return audit(gs.fixed_split(train, test))["cut sessions"].count


@pytest.mark.parametrize(("pause", "expected"), [(1799, 1), (1800, 0)])
def test_audit_takes_a_visit_for_ended_after_half_an_hour(pause: int, expected: int) -> None:
    assert visits(0, 0, 10 + pause) == expected


@pytest.mark.parametrize(("train_user", "test_user"), [(0, 1), (-1, -1)])
def test_audit_takes_no_two_or_unknown_users_for_one(train_user: int, test_user: int) -> None:
    assert visits(train_user, test_user, 100) == 0


def test_audit_takes_a_history_of_which_the_end_is_tested_for_no_cut_visit() -> None:
    log = timed([["a", "b", "c", "d"], ["b", "a", "d", "c"]])
    users = gs.data.Vocabulary(["u"])
    log = replace(log, users=np.zeros(2, dtype=np.int32), user_vocabulary=users)
    assert audit(gs.leave_last_split(log))["cut sessions"].count == 0


def test_audit_finds_training_clicks_of_after_the_test():
    late = timed(TRAIN)
    time = late.time.copy()
    time[-3:] += 1e9
    finding = audit(gs.fixed_split(replace(late, time=time), timed(TEST, 1e6)))["future"]
    assert (finding.verdict, finding.count, finding.total) == ("fault", 3, late.num_clicks)
    assert len(finding.examples) == 3
    assert finding.examples[0].startswith("training session 239, click ")
    by_session = gs.session_split(timed(LISTS))
    assert audit(by_session)["future"].verdict == "note"
    assert audit(by_session).passed


@pytest.mark.parametrize(
    ("seconds", "verdict", "count"), [(0.0, "ok", 0), (1.0, "note", 1), (1e4, "fault", 1)]
)
def test_audit_allows_training_clicks_until_the_first_test_session_ends(
    seconds: float, verdict: str, count: int
) -> None:
    # The first test session ends within 100 s of its start, the last begins 59,000 s after it.
    train = timed(TRAIN)
    time = train.time.copy()
    time[-1] = 1e6 + seconds
    finding = audit(gs.fixed_split(replace(train, time=time), timed(TEST, 1e6)))["future"]
    assert (finding.verdict, finding.count) == (verdict, count)


def test_audit_of_histories_has_the_future_begin_with_their_first_target() -> None:
    log = timed(LISTS)
    log = replace(log, time=log.time / 1000)  # sessions overlap
    split = gs.leave_last_split(log)
    first = log.time[log.ptr[1:] - 1].min()
    assert audit(split)["future"].count == int((split.train.time > first).sum())


def test_audit_notes_clicks_at_one_time_and_twice():
    train, test = timed(TRAIN), timed(TEST, 1e6)
    time, items = train.time.copy(), train.items.copy()
    time[1], items[1] = time[0], items[0]
    time[2], items[2] = time[0], 1 - min(1, items[0])
    time[-1] = test.time[0]
    found = audit(gs.fixed_split(replace(train, time=time, items=items), test))
    assert (found["ties of time"].verdict, found["ties of time"].count) == ("note", 3)
    assert found["duplicates"].count == 1
    assert audit(parts([*TRAIN, TRAIN[4]], TEST))["duplicates"].count == 1


def test_audit_takes_clicks_of_two_sessions_at_one_time_for_no_tie() -> None:
    train, test = timed([["a", "b"], ["b", "a"]]), timed([["a", "b"]], 1e6)
    train = replace(train, time=np.array([0.0, 1.0, 1.0, 2.0]))
    assert audit(gs.fixed_split(train, test))["ties of time"].count == 0


def test_audit_takes_unknown_clicks_at_one_time_for_ties_but_no_duplicates() -> None:
    train, test = timed([["a", "b"], ["b", "a"]]), timed([["a", "x", "y"]], 1e6)
    test = replace(test, time=np.full(3, 1e6))
    found = audit(gs.fixed_split(train, test))
    assert (found["duplicates"].count, found["ties of time"].count) == (0, 2)


def test_audit_finds_items_that_training_never_clicks():
    both = gs.data.Vocabulary([*(f"i{item}" for item in range(60)), "new"])
    train = gs.Sessions.from_lists(TRAIN, vocabulary=both)
    test = gs.Sessions.from_lists([*TEST, ["i1", "new"]], vocabulary=both)
    found = audit(gs.Split(train, test))
    for check in ("catalog", "negatives"):
        assert (found[check].verdict, found[check].count) == ("fault", 1)
        assert found[check].examples == ("item 'new': 0 for 0",)
    assert found["popularity"].verdict == "ok"


def test_audit_finds_counts_that_are_not_those_of_training():
    split = parts(TRAIN, TEST)
    model = gs.models.Popularity(split.num_items)
    gs.fit(model, split)
    assert audit(split, model).passed
    counts = split.catalog.counts.copy()
    counts[4] += 2
    model.catalog = Catalog(split.train.vocabulary, counts)
    found = audit(split, model)
    assert [fault.check for fault in found.faults] == ["popularity"]
    assert found["popularity"].count == 1
    assert repr(found) == "Audit(refuted: popularity, checks=12)"
    model.catalog = None
    assert audit(split, model)["catalog"].verdict == "unknown"


def test_audit_takes_an_item_of_the_catalog_that_training_lacks_for_one_without_clicks() -> None:
    split = parts(TRAIN, TEST)
    model = gs.models.Popularity(split.num_items + 1)
    ids = [*split.train.vocabulary.ids.tolist(), "new"]
    model.catalog = Catalog(gs.data.Vocabulary(ids), np.append(split.catalog.counts, 0))
    found = audit(split, model)
    assert (found["catalog"].count, found["popularity"].count) == (1, 0)
    assert found["catalog"].examples == ("item 'new': 0 for 0",)


def test_audit_finds_a_log_filtered_before_it_was_split():
    generator = np.random.default_rng(0)
    chance = 1 / np.arange(1, 400) ** 0.9
    lists = [generator.choice(399, 5, p=chance / chance.sum()).tolist() for _ in range(500)]
    log = gs.Sessions.from_lists(lists)
    raw = audit(gs.session_split(log, 0.2))
    assert raw["core"].verdict == "ok"
    counts = np.bincount(log.items)
    filtered = log.keep_clicks(counts[log.items] >= 5).drop_unused_items()
    finding = audit(gs.session_split(filtered, 0.2))["core"]
    assert finding.verdict == "fault"
    assert finding.count > 10


@pytest.mark.parametrize("kind", ["leave_last", "session"])
def test_audit_counts_every_click_of_the_log_once_for_a_core(kind: str) -> None:
    log = gs.Sessions.from_lists([[n % 7, n % 5, n % 3, 8, 9] for n in range(210)])
    if kind == "leave_last":
        split = gs.leave_last_split(log, validation=1)
    else:
        split = gs.session_split(log, 0.2, validation=0.2)
    assert split.validation is not None
    least = np.bincount(log.items).min()
    assert f"any has in all parts together ({least})" in audit(split)["core"].says


@pytest.mark.parametrize("validation", [None, 1])
def test_audit_counts_a_history_of_two_clicks_once_for_a_core(validation: int | None) -> None:
    pairs = [[n % 10, (n + 1 + n // 10) % 10] for n in range(20)]  # each item has four clicks
    log = gs.Sessions.from_lists([*pairs, *([10, 11, 12],) * 5])
    split = gs.leave_last_split(log, validation=validation)
    assert "any has in all parts together (4)" in audit(split)["core"].says


def test_audit_of_histories_of_two_clicks_has_the_test_begin_with_their_second() -> None:
    log = timed([["a", "b"], ["b", "a"], ["a", "b"]])
    log = replace(log, time=np.array([0.0, 50.0, 10.0, 60.0, 20.0, 70.0]))
    split = gs.leave_last_split(log, validation=None)
    assert audit(split)["future"].count == 0  # training ends at 20, the first target is at 50


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ([3, 3, 3, 4, 5], "fault"),  # the rarest count is the most common one
        ([3, 3, 4, 5, 6], "ok"),  # of too few items
        ([3, 3, 3, 4, 4, 4, 4, 4], "ok"),  # another count is more common
        ([1, 1, 1, 1, 2, 3], "ok"),  # a long tail: nothing was filtered
    ],
)
def test_audit_takes_for_a_core_where_the_rarest_count_is_the_most_common(
    counts: list[int], verdict: str
) -> None:
    # The last item is also in every session, which only makes it more popular.
    both = gs.data.Vocabulary(range(len(counts)))
    clicks = np.repeat(np.arange(len(counts)), counts).tolist()
    train = [[item, len(counts) - 1] for item in clicks[1:]]
    test = gs.Sessions.from_lists([[len(counts) - 1, clicks[0]]], vocabulary=both)
    split = gs.Split(gs.Sessions.from_lists(train, vocabulary=both), test)
    assert audit(split)["core"].verdict == verdict


def test_audit_finds_inputs_that_hold_what_is_asked_for():
    leaky = [[*clicks, clicks[-1]] for clicks in TEST]
    split = parts(TRAIN, leaky)
    test = replace(split.test, first_target=split.test.lengths - 1)
    finding = audit(replace(split, test=test))["targets in input"]
    assert (finding.verdict, finding.count, finding.total) == ("fault", 60, 60)


def test_audit_of_repeated_targets_compares_them_with_training_by_hand():
    # 1 of 2 training targets after one click, and 1 of 4 after two or three, are a repeat.
    train = [["a", "a", "b", "b", "c"], ["a", "b", "c", "a", "d"]] * 30
    test = [["b", "b"], ["c", "a", "b", "a"], ["a", "c"], ["b", "c", "d"], ["d", "b", "c"]]
    finding = audit(parts(train, test))["targets in input"]
    # Of the test's targets, 5 have one click before them, 4 have two or three.
    assert finding.verdict == "note"
    assert (finding.count, finding.total) == (2, 9)
    assert finding.says.startswith(
        "Of 9 test targets, 2 are in their own input (22.2 %; 50.0 % in training), "
        "1 are the click right before (11.1 %; 38.9 % in training), "
        "1 are its first click (11.1 %; 38.9 % in training)"
    )


def repeating(number, share, seed):
    """Sessions in which this share of the clicks repeat an earlier one."""
    generator = np.random.default_rng(seed)
    lists = []
    for _ in range(number):
        clicks = [int(generator.integers(100))]
        for _ in range(generator.integers(2, 9)):
            again = generator.random() < share
            clicks.append(int(generator.choice(clicks) if again else generator.integers(100)))
        lists.append(clicks)
    return lists


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_audit_lets_people_return_as_often_as_in_training(share):
    split = parts(repeating(400, share, 1), repeating(100, share, 2))
    assert audit(split)["targets in input"].verdict in ("ok", "note")


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda clicks: [clicks[-1], *clicks], "100 last targets 100 are its first click (100.0 %"),
        (lambda clicks: [*clicks[::-1], *clicks], "100 last targets 100 are its first click"),
        (
            lambda clicks: [clicks[0], clicks[-1], *clicks[1:]],
            "100 last targets 100 are in their own input",
        ),
        (lambda clicks: [*clicks, clicks[-1]], "100 last targets 100 are the click right before"),
    ],
)
def test_audit_finds_targets_planted_in_their_input_where_people_return(share, plant, said):
    test = repeating(100, share, 2)
    split = parts(repeating(400, share, 1), [plant(clicks) for clicks in test])
    finding = audit(split)["targets in input"]
    assert finding.verdict == "fault"
    assert said in finding.says.partition("the input holds what is asked for, of ")[2]
    assert len(finding.examples) == 3
    assert "is click" in finding.examples[0]
    # A few such sessions, and a test too small to tell, are no fault.
    few = [plant(clicks) if number < 2 else clicks for number, clicks in enumerate(test)]
    assert audit(parts(repeating(400, share, 1), few))["targets in input"].verdict == "note"


def test_audit_of_few_more_repeats_than_in_training_or_few_targets_is_no_fault():
    train = [["a", "b", "c"], ["c", "b", "a"]] * 50
    # 1 of 6 targets: far above none in training, but one case.
    finding = audit(parts(train, [["a", "c", "a"], ["b", "a", "c"], ["a", "c", "b"]]))
    assert (finding["targets in input"].verdict, finding["targets in input"].count) == ("note", 1)
    # 40 of 800 targets: more than chance, but a twentieth.
    test = [["a", "c", "a"]] * 40 + [["b", "a", "c"]] * 360
    finding = audit(parts(train, test))["targets in input"]
    assert (finding.verdict, finding.count, finding.total) == ("note", 40, 800)
    # 60 of 800, of which each is the last of 400 sessions: 15 % of those.
    test = [["a", "c", "a"]] * 60 + [["b", "a", "c"]] * 340
    finding = audit(parts(train, test))["targets in input"]
    assert (finding.verdict, finding.count, finding.total) == ("fault", 60, 400)


def test_audit_of_few_repeats_takes_them_for_chance_though_they_do_not_spread() -> None:
    train = [[1, 1], [2, 2], [3, 3], [4, 5]] * 25
    finding = audit(parts(train, [[1, 1], [2, 2], [3, 3], [4, 4], [5, 5]]))["targets in input"]
    assert finding.verdict == "note"


def climb(number: int, length: int) -> list[list[int]]:
    """Sessions that repeat nothing."""
    return [list(range(n, n + length)) for n in range(number)]


@pytest.mark.parametrize(("targets", "told"), [(19, False), (20, True)])
def test_audit_tells_a_share_in_training_from_twenty_targets_on(targets: int, told: bool) -> None:
    says = audit(parts(climb(targets, 2), [[1, 2]] * 5))["targets in input"].says
    assert ("in training" in says) == told


def test_audit_takes_one_long_session_of_repeats_for_one_case() -> None:
    test = [[3] * 61, *climb(60, 2)]
    assert audit(parts(climb(30, 64), test))["targets in input"].verdict == "note"


def test_audit_example_names_the_click_that_a_target_repeats():
    test = [["i4", "i5", "i4", "i6", "i4"], *([f"i{n}", f"i{n + 1}", f"i{n}"] for n in range(30))]
    split = parts(TRAIN, test)
    finding = audit(split)["targets in input"]
    assert (
        finding.examples[0]
        == "test session 0: ['i4', 'i5', 'i4', 'i6', 'i4']: its click 4 is click 2 again"
    )


def test_audit_as_a_frame_and_as_plain_values():
    found = audit(parts([*TRAIN, TEST[7], TEST[9]], TEST))
    frame = found.to_frame()
    assert frame.index.tolist() == CHECKS
    assert frame.loc["copies", ["verdict", "count", "total"]].tolist() == ["fault", 2, 60]
    assert frame.loc["copies", "examples"].count("test session") == 2
    plain = found.to_dict()
    assert plain["passed"] is False
    assert plain["findings"][0]["check"] == "copies"
    assert isinstance(found + found, Audit)
    assert len((found + found).findings) == 24
    with pytest.raises(KeyError, match="There is no check 'x'"):
        found["x"]


def test_audit_of_what_is_no_split_says_so():
    with pytest.raises(ValueError, match="split"):
        audit(gs.Sessions.from_lists(TEST))


def test_audit_says_that_clicks_have_no_time_where_some_lack_it():
    users = gs.data.Vocabulary(["u"])
    train, test = (
        replace(part, users=np.zeros(part.num_sessions, np.int32), user_vocabulary=users)
        for part in (timed(TRAIN), timed(TEST, 1e6))
    )
    test.time[[0, 3]] = np.nan
    found = audit(gs.fixed_split(train, test))
    for check in ("future", "ties of time", "cut sessions"):
        assert (found[check].verdict, found[check].says) == (
            "unknown",
            "2 clicks have no time (NaN).",
        )


def test_one_session_is_too_few_to_say_that_targets_are_in_the_input():
    climb = [list(range(n, n + 64)) for n in range(30)]
    finding = audit(parts(climb, [[3] * 61]))["targets in input"]
    assert finding.verdict == "note"
    assert "in one session, too few to compare" in finding.says
