"""Live sessions: equal to the whole session at every click, in any order of arrival."""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models import MODELS
from graphseq.models.counting.counting import CountingModel
from graphseq.serving import (
    AnswerCache,
    Click,
    LiveSessions,
    LMDBStore,
    MemoryStore,
    Recommender,
    Request,
)
from graphseq.serving.live.graph_stream import GraphStream, GrowingGraph, batch_of_graphs
from graphseq.serving.live.record import Record
from graphseq.training import fit


def agree(found: list[tuple[Any, float]], wanted: list[tuple[Any, float]]) -> None:
    """The same scores, item by item; equal scores may change places."""
    assert np.allclose([s for _, s in found], [s for _, s in wanted], atol=1e-5)
    scores = dict(wanted)
    for item, score in found:
        assert scores.get(item, score) == pytest.approx(score, abs=1e-5)


# -- records -----------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_clicks_with_times_and_events_make_one_record_in_any_order(
    timed: list[tuple[int, int]], random: Any
) -> None:
    clicks = [Click(item, float(time), f"e{n}") for n, (time, item) in enumerate(timed)]
    expected = sorted(clicks, key=lambda click: (click.time, click.event))
    for _ in range(3):
        arriving = clicks + random.sample(clicks, k=random.randint(0, len(clicks)))
        random.shuffle(arriving)
        record = Record()
        outcomes = [record.add(click, 0.0, 100) for click in arriving]
        assert record.events == [click.event for click in expected]
        assert record.items == [click.item for click in expected]
        assert outcomes.count("repeated") == len(arriving) - len(clicks)
        decoded = Record.decode(record.encode())
        assert decoded == record


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"item": None}, "A click needs an item, got None"),
        ({"item": float("nan")}, "A click needs an item, got nan"),
        ({"item": ["a"]}, r"text or numbers, got \['a'\]"),
        ({"item": "a", "time": float("nan")}, "seconds since 1970, or None for now, got nan"),
        ({"item": "a", "time": float("inf")}, "or None for now, got inf"),
        ({"item": "a", "time": "now"}, "or None for now, got 'now'"),
        ({"item": "a", "time": True}, "or None for now, got True"),
        ({"item": "a", "event": 5}, "The event of a click is text, got 5"),
        ({"item": "a", "event": None}, "The event of a click is text, got None"),
    ],
)
def test_click_that_no_order_has_a_place_for_is_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Click(**fields)
    with pytest.raises(ValueError, match="exclude is a list of item ids, got 'a'"):
        Request("s", exclude="a")


def test_clicks_without_times_stay_in_the_order_of_arrival() -> None:
    record = Record()
    for item, now in (("a", 5.0), ("b", 4.0), ("c", 6.0)):
        assert record.add(Click(item), now, 100) == "new"
    assert record.items == ["a", "b", "c"]
    assert record.times == [5.0, 5.0, 6.0]  # a clock that goes back changes no order


def test_record_keeps_the_newest_clicks_and_refuses_older_ones() -> None:
    record = Record()
    for number in range(5):
        record.add(Click(number, 10.0 + number, f"e{number}"), 0.0, 3)
    assert (record.items, record.dropped, record.total) == ([2, 3, 4], 2, 5)
    assert record.add(Click(9, 1.0, "old"), 0.0, 3) == "too_old"
    assert record.add(Click(0, 10.0, "e0"), 0.0, 3) == "too_old"  # a repeat of what was dropped
    assert record.add(Click(8, 13.5, "between"), 0.0, 3) == "late"
    assert record.items == [3, 8, 4]
    with pytest.raises(ValueError, match="A session in the store is broken: b'no json'"):
        Record.decode(b"no json")


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
)
def test_record_is_the_newest_of_the_clicks_that_it_took(times: list[int], most: list[int]) -> None:
    record, taken = Record(), 0
    kept: list[tuple[float, str]] = []
    for n, time in enumerate(times):
        room = most[n % len(most)]  # it may be fewer than before
        new = (float(time), f"e{n:02}")
        newest = sorted([*kept, new])[-room:]
        unknowable = record.dropped > 0 and new < kept[0]  # what was dropped may lie between
        outcome = record.add(Click(n, *new), 0.0, room)
        if new not in newest or unknowable:
            assert outcome == "too_old"
        else:
            assert outcome == ("new" if new == newest[-1] else "late")
            kept, taken = newest, taken + 1
        assert list(zip(record.times, record.events, strict=True)) == kept
        assert record.items == [int(event[1:]) for _, event in kept]
        assert (record.total, record.dropped) == (taken, taken - len(kept))


# -- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [None, "exact"])
@pytest.mark.parametrize("kind", ["memory", "lmdb"])
def test_state_of_gru4rec_equals_the_whole_session_at_every_click(
    world: Any, index: str | None, kind: str, tmp_path: Path
) -> None:
    store = MemoryStore() if kind == "memory" else LMDBStore(tmp_path / "s")
    live = LiveSessions(Recommender(world.neural, index=index), store)
    for number, session in enumerate(world.lists[:6]):
        for length, item in enumerate(session, start=1):
            reply = live.click(f"s{number}", item, k=8)
            agree(reply.items, world.neural.recommend([session[:length]], 8)[0])
            assert reply.num_clicks == length
            assert reply.outcomes == ["new"]
            assert not reply.fallback
    store.close()


def test_state_of_gru4rec_follows_real_sessions() -> None:
    log = gs.load_dataset("uci-eshop")
    torch.manual_seed(0)
    model = gs.models.GRU4Rec(log.num_items, 12, 2).eval()
    model.attach(log.catalog())
    live = LiveSessions(Recommender(model, index="exact"))
    for number, session in enumerate(log.select(np.arange(0, log.num_sessions, 3_000)).to_lists()):
        wanted = model.recommend([session[:n] for n in range(1, len(session) + 1)], 10)
        for item, expected in zip(session, wanted, strict=True):
            agree(live.click(f"s{number}", item, k=10).items, expected)


def test_states_are_kept_and_go_on_instead_of_being_computed_again(world: Any) -> None:
    store = MemoryStore()
    live = LiveSessions(Recommender(world.neural), store)
    steps: list[int] = []
    stream = live._serving[1]
    assert stream is not None

    class Counting:
        def advance(self, states: Any, clicks: Any, whole: Any) -> Any:
            steps.extend(len(each) for each in clicks)
            return stream.advance(states, clicks, whole)

    live._serving = (live._serving[0], Counting(), live._serving[2])
    for item in ("i1", "i2", "i3"):
        live.click("s", item)
    live.recommend("s")
    assert steps == [1, 1, 1, 0]
    live.answer([Request("s", [Click("i4", 1.0, "late")])])  # before all others: made again
    assert steps[-1] == 4


@pytest.mark.parametrize(
    ("positions", "block"),
    [
        ("start", "pre_norm"),
        ("sinusoidal", "post_norm"),
        ("rotary", "ligr"),
        ("none", "published"),
        ("end", "pre_norm"),
    ],
)
def test_keys_and_values_of_sasrec_equal_the_whole_session_at_every_click(
    positions: str, block: str
) -> None:
    sessions = gs.generate_sessions(40, 30, mean_length=5.0, seed=2)
    torch.manual_seed(0)
    model = gs.models.SASRec(
        30, 8, heads=2, max_length=5, positions=positions, block=block, normalize=block == "ligr"
    ).eval()
    model.attach(sessions.catalog())
    lists = sorted(sessions.to_lists(), key=len)[-24::8]
    live = LiveSessions(Recommender(model))
    for length in range(1, max(map(len, lists)) + 1):  # all of them side by side
        open_ = [n for n, session in enumerate(lists) if len(session) >= length]
        requests = [Request(f"s{n}", [Click(lists[n][length - 1])], k=6) for n in open_]
        for n, reply in zip(open_, live.answer(requests), strict=True):
            agree(reply.items, model.recommend([lists[n][:length]], 6)[0])
        again = live.answer([Request(f"s{n}", k=6) for n in range(len(lists))])
        for session, reply in zip(lists, again, strict=True):
            agree(reply.items, model.recommend([session[:length]], 6)[0])
    assert max(map(len, lists)) > 5  # beyond its window, too


def test_keys_and_values_know_clicks_that_are_no_longer_kept() -> None:
    torch.manual_seed(0)
    model = gs.models.SASRec(30, 8, max_length=9).eval()
    live = LiveSessions(Recommender(model), max_clicks=3)
    session = [int(item) for item in np.random.default_rng(0).integers(30, size=9)]
    for length, item in enumerate(session, start=1):
        agree(live.click("s", item, k=5).items, model.recommend([session[:length]], 5)[0])


def test_keys_and_values_of_sasrec_go_on_by_one_click() -> None:
    torch.manual_seed(0)
    model = gs.models.SASRec(30, 8, max_length=9).eval()
    live = LiveSessions(Recommender(model))
    stream = live._serving[1]
    assert stream is not None
    steps: list[int] = []
    step = type(stream)._step

    class Counting(type(stream)):  # type: ignore[misc]
        def _step(self, cache: Any, items: Any) -> Any:
            steps.append(len(items))
            return step(self, cache, items)

    live._serving = (live._serving[0], Counting(model), live._serving[2])
    for item in (3, 4, 5):
        live.click("s", item)
    assert steps == [1, 1, 1]
    live.answer([Request("s", [Click(6, 1.0, "late")])])  # before all others: made again
    assert steps == [1] * 7


@given(st.lists(st.lists(st.integers(0, 4), max_size=7), min_size=1, max_size=5))
def test_growing_graphs_equal_graphs_built_of_all_clicks(lists: list[list[int]]) -> None:
    graphs = [GrowingGraph.of_state(None) for _ in lists]
    for length in range(max(map(len, lists))):
        for graph, session in zip(graphs, lists, strict=True):
            if len(session) > length:
                graph.click(session[length])
        states = [graph.state() for graph in graphs]
        graphs = [GrowingGraph.of_state(state) for state in states]  # through bytes and back
        begun = [torch.tensor(s[: length + 1]) for s in lists if s]
        ptr = torch.tensor([0, *np.cumsum([len(s) for s in begun])])
        found = batch_of_graphs([graph for graph in graphs if graph.clicks])
        wanted = build_session_graphs(torch.cat(begun), ptr)
        for name in ("x", "edge_index", "edge_weight", "click_index", "batch", "ptr"):
            assert torch.equal(found[name], wanted[name]), name
        assert found.num_graphs == wanted.num_graphs
        for name in wanted._slice_dict:
            assert torch.equal(found._slice_dict[name], wanted._slice_dict[name])
            assert torch.equal(found._inc_dict[name], wanted._inc_dict[name])
        for session, state in zip(lists, states, strict=True):
            seen = session[: length + 1]
            moves = len(set(itertools.pairwise(seen)))
            assert len(state) == 12 + 4 * len(set(seen)) + 4 * len(seen) + 12 * moves


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("srgnn", {}),
        ("srgnn", {"max_length": 4, "positions": "end", "normalize": True}),
        ("gcegnn", {"max_length": 5}),
        ("sgnnhn", {"max_length": 5}),
    ],
)
def test_growing_graph_equals_the_whole_session_at_every_click_of_real_sessions(
    name: str, arguments: dict[str, Any]
) -> None:
    log = gs.load_dataset("uci-eshop")
    torch.manual_seed(0)
    model = MODELS[name](log.num_items, 8, **arguments).eval()
    model.attach(log.catalog())
    lists = log.select(np.arange(0, log.num_sessions, 4_000)).to_lists()
    live = LiveSessions(Recommender(model, index="exact"))
    assert isinstance(live._serving[1], GraphStream)
    for length in range(1, max(map(len, lists)) + 1):  # all of them side by side
        requests = [
            Request(f"s{n}", [Click(session[length - 1])] if len(session) >= length else [], k=6)
            for n, session in enumerate(lists)
        ]
        wanted = model.recommend([session[:length] for session in lists], 6)
        for expected, reply in zip(wanted, live.answer(requests), strict=True):
            agree(reply.items, expected)
    assert max(map(len, lists)) > 5  # beyond the windows, too


def test_growing_graph_goes_on_by_one_click_and_is_made_again_of_what_is_kept() -> None:
    torch.manual_seed(0)
    model = gs.models.SRGNN(30, 8).eval()
    live = LiveSessions(Recommender(model), max_clicks=3)
    stream = live._serving[1]
    assert stream is not None
    held: list[int] = []

    class Counting:
        def advance(self, states: Any, clicks: Any, whole: Any) -> Any:
            held.append(0 if states[0] is None else len(GrowingGraph.of_state(states[0]).clicks))
            return stream.advance(states, clicks, whole)

    live._serving = (live._serving[0], Counting(), live._serving[2])
    session = [3, 4, 3, 5, 4]
    for length, item in enumerate(session, start=1):
        agree(live.click("s", item, k=5).items, model.recommend([session[:length][-3:]], 5)[0])
    assert held == [0, 1, 2, 3, 3]


def test_models_whose_graphs_forget_by_time_keep_no_graph() -> None:
    model = gs.models.SRGNN(30, 8, edge_weight="decayed", half_life="1h")
    assert LiveSessions(Recommender(model))._serving[1] is None


@pytest.mark.parametrize("name", ["tagnn", "bert4rec", "markov", "vsknn", "item_knn", "popularity"])
def test_families_without_a_state_are_computed_again_and_agree(name: str) -> None:
    sessions = gs.generate_sessions(80, 40, seed=1)
    small = {} if name in ("markov", "vsknn", "item_knn", "popularity") else {"hidden_channels": 8}
    torch.manual_seed(0)
    model = MODELS[name](40, **small)
    if small:
        model.attach(sessions.catalog())
    else:
        fit(model, sessions)
    live = LiveSessions(Recommender(model))
    for number, session in enumerate(sessions.to_lists()[:3]):
        for length, item in enumerate(session, start=1):
            reply = live.click(f"s{number}", item, k=6)
            agree(reply.items, model.recommend([session[:length]], 6)[0])


def timed_model(name: str) -> tuple[gs.models.SessionModel, gs.Sessions]:
    """A model that reads the times of clicks, trained on sessions with times."""
    log = gs.generate_sessions(80, 40, seed=1)
    gaps = np.random.default_rng(0).integers(1, 4_000, log.num_clicks)
    log = replace(log, time=1e9 + np.cumsum(gaps).astype(np.float64))
    torch.manual_seed(0)
    settings: dict[str, dict[str, Any]] = {
        "hstu": {"hidden_channels": 8, "time": "request"},
        "bst": {"hidden_channels": 8, "heads": 2, "positions": "time"},
        "srgnn": {"hidden_channels": 8, "edge_weight": "decayed", "half_life": "10min"},
        "vsknn": {"half_life": "1h"},
        "trending": {"hourly": True},
        "ensemble": {
            "members": ["popularity", {"model": "trending", "arguments": {"hourly": True}}]
        },
        "with_repeats": {"base": "hstu", "arguments": {"hidden_channels": 8}},
    }
    model = MODELS[name](40, **settings[name]).eval()
    model.attach(log.catalog(), log)
    if isinstance(model, CountingModel):
        model.fit_counts(log)
    for weight in model.parameters():  # biases of time begin at zero
        torch.nn.init.normal_(weight, std=0.5)
    return model, log


@pytest.mark.parametrize(
    "name", ["hstu", "bst", "srgnn", "vsknn", "trending", "ensemble", "with_repeats"]
)
def test_models_that_read_times_are_answered_as_sessions_with_times(name: str) -> None:
    model, log = timed_model(name)
    assert model.reads_times
    live = LiveSessions(Recommender(model, cache=AnswerCache()))
    other_times = []
    for number in range(3):
        part = log[number : number + 1]
        items, times = part.to_lists()[0], np.asarray(part.time).tolist()
        for length, (item, at) in enumerate(zip(items, times, strict=True), start=1):
            prefix = gs.Sessions.from_lists([items[:length]], vocabulary=log.vocabulary)
            prefix = replace(prefix, time=np.array(times[:length]))
            reply = live.click(f"s{number}", item, time=at, k=6)
            agree(reply.items, model.recommend(prefix, 6)[0])
            found = Recommender(model).recommend(items[:length], 6, times=times[:length])
            agree(reply.items, found)
            later = 1e9 + (np.array(times[:length]) - 1e9) * 3
            moved = Recommender(model).recommend(items[:length], 6, times=later)
            other_times.append([s for _, s in found] != [s for _, s in moved])
        live.store = MemoryStore()
    assert any(other_times)  # the times count


def test_request_is_at_the_last_click_or_when_it_says() -> None:
    model, log = timed_model("hstu")
    items, times = log[:1].to_lists()[0], np.asarray(log[:1].time)
    live = LiveSessions(Recommender(model))
    live.answer([Request("s", [Click(*each) for each in zip(items, times.tolist(), strict=True)])])
    at_last = live.recommend("s", 5)
    assert live.recommend("s", 5, time=float(times[-1])).items == at_last.items
    later = float(times[-1]) + 1e5
    batch = build_session_graphs(
        torch.tensor(log.vocabulary.encode(items)),
        torch.tensor([0, len(items)]),
        click_fields={"click_time": torch.from_numpy(times)},
        session_fields={"request_time": torch.tensor([later], dtype=torch.float64)},
    )
    with torch.no_grad():
        wanted, codes = model.score(batch)[0].topk(5)
    found, plain = live.answer([Request("s", k=5, time=later), Request("s", k=5)])
    agree(
        found.items, list(zip(log.vocabulary.decode(codes.numpy()), wanted.tolist(), strict=True))
    )
    agree(plain.items, at_last.items)
    assert found.items != at_last.items
    with pytest.raises(ValueError, match=r"time of a request is seconds since 1970, .* got 'now'"):
        Request("s", time="now")  # type: ignore[arg-type]


def test_answers_of_models_that_read_no_times_are_shared_by_sessions(world: Any) -> None:
    cache = AnswerCache()
    live = LiveSessions(Recommender(world.counting, cache=cache))
    for number in range(3):
        live.click(f"s{number}", "i1", time=100.0 * number)
    assert (cache.hits, cache.misses) == (2, 1)


def test_any_order_of_arrival_gives_the_answer_of_the_order_of_time(world: Any) -> None:
    session = world.lists[0][:4]
    clicks = [Click(item, float(n), f"e{n}") for n, item in enumerate(session)]
    wanted = world.neural.recommend([session], 5)[0]
    for number, order in enumerate(itertools.permutations(clicks)):
        live = LiveSessions(Recommender(world.neural))
        for click in (*order, order[0], order[2]):
            reply = live.answer([Request(f"s{number}", [click], k=5)])[0]
        agree(reply.items, wanted)
        assert reply.outcomes == ["repeated"]
        assert live.counts["repeated"] == 2
        assert sum(live.counts.values()) == 6


def test_equal_items_stand_in_live_answers_as_in_recommend(world: Any) -> None:
    model = deepcopy(world.neural)
    with torch.no_grad():  # as `grow` leaves new items: with one row, that of the mean
        model.items.weight[100:500] = model.items.weight[100]
        model.items.bias[100:500] = 8.0
    live = LiveSessions(Recommender(model))
    for number, session in enumerate(world.lists[:6]):
        for item in session[:3]:
            reply = live.click(f"s{number}", item, k=8, exclude_seen=True)
        [wanted] = model.recommend([session[:3]], 8, exclude_seen=True)
        assert len({score for _, score in wanted}) < 8
        assert [item for item, _ in reply.items] == [item for item, _ in wanted]


def test_requests_of_one_batch_are_answered_as_one_by_one(world: Any) -> None:
    requests = [
        Request(f"s{n % 4}", [Click(item)], k=3 + n % 3, exclude_seen=n % 2 == 0)
        for n, item in enumerate(world.lists[0][:4] + world.lists[1][:4])
    ]
    together = LiveSessions(Recommender(world.neural, index="exact"))
    first, second = together.answer(requests[:4]), together.answer(requests[4:])
    alone = LiveSessions(Recommender(world.neural, index="exact"))
    for found, request in zip([*first, *second], requests, strict=True):
        wanted = alone.answer([request])[0]
        assert len(found.items) == request.k
        agree(found.items, wanted.items)
        assert (found.num_clicks, found.outcomes) == (wanted.num_clicks, wanted.outcomes)


def test_second_stage_answers_a_request_the_same_beside_one_that_asks_for_more(world: Any) -> None:
    staged = Recommender(world.neural, reranker=world.counting, candidates=5)
    live = LiveSessions(staged)
    for number, session in enumerate(world.lists[:4]):
        live.answer([Request(f"s{number}", [Click(item) for item in session[:3]])])
    requests = [Request(f"s{n}", k=k) for n, k in enumerate((2, 40, 4, 0))]
    together = live.answer(requests)
    for found, request, session in zip(together, requests, world.lists, strict=False):
        assert found.items == live.answer([request])[0].items
        if request.k:
            agree(found.items, staged.recommend(session[:3], request.k))


def test_unknown_items_and_sessions_are_answered_and_said(world: Any) -> None:
    live = LiveSessions(Recommender(world.neural, cache=AnswerCache()))
    popular = world.neural.recommend([[]], 4)[0]
    reply = live.recommend("never seen", 4)
    assert reply.fallback
    assert reply.items == [(item, pytest.approx(score)) for item, score in popular]
    assert reply.num_clicks == 0
    for item in ("no such item", 17, 1.5, -(2**70)):
        reply = live.click("s", item, k=4)
        assert reply.fallback
    assert (reply.num_clicks, reply.unknown) == (4, 4)
    reply = live.click("s", "i3", k=4)
    agree(reply.items, world.neural.recommend([["i3"]], 4)[0])
    assert (reply.fallback, reply.unknown) == (False, 4)


def test_ids_of_numpy_are_plain_ones_and_others_are_refused() -> None:
    sessions = gs.Sessions.from_lists([[10, 20, 10], [20, 30]])
    model = MODELS["markov"](3)
    fit(model, sessions)
    live = LiveSessions(Recommender(model))
    reply = live.click("s", np.int64(20), k=3)
    assert (reply.fallback, reply.unknown) == (False, 0)
    assert Record.decode(live.store.get(["s"])[0][0]).items == [20]
    with pytest.raises(ValueError, match=r"ids that are text or numbers, got \[20\]"):
        live.click("s", [20])
    assert live.recommend("s").num_clicks == 1


def test_model_in_place_of_its_recommender_is_named(world: Any) -> None:
    with pytest.raises(ValueError, match="ask a Recommender, got GRU4Rec: gs"):
        LiveSessions(world.neural)


def test_hidden_items_are_not_recommended(world: Any) -> None:
    live = LiveSessions(Recommender(world.neural))
    first = live.click("s", "i3", k=3)
    best = first.items[0][0]
    reply = live.recommend("s", 3, exclude=[best, "unknown"])
    assert [item for item, _ in reply.items][:2] == [item for item, _ in first.items][1:]
    every = live.recommend("s", 640, exclude_seen=True)
    assert len(every.items) == 639
    assert "i3" not in dict(every.items)
    assert live.recommend("s", 0).items == []


def test_delisted_items_leave_live_answers_at_once(world: Any) -> None:
    model = deepcopy(world.neural)
    live = LiveSessions(Recommender(model, index="exact"))
    best = live.click("s", "i3", k=3).items[0][0]
    model.delist([best])
    assert best not in dict(live.recommend("s", 640).items)


def test_another_model_takes_over_without_the_states_of_the_first(world: Any) -> None:
    torch.manual_seed(9)
    other = gs.models.GRU4Rec(640, 16, embedding="separate").eval()
    other.attach(world.sessions.catalog())
    live = LiveSessions(Recommender(world.neural))
    live.click("s", "i1")
    before = live.click("s", "i2").model_version
    live.recommender = Recommender(other)
    reply = live.click("s", "i3", k=5)
    agree(reply.items, other.recommend([["i1", "i2", "i3"]], 5)[0])
    assert reply.model_version != before


def test_user_of_a_session_is_remembered() -> None:
    sessions = gs.Sessions.from_lists([["a", "b"], ["b", "c"]] * 4, users=["u", "v"] * 4)
    model = gs.models.Caser(3, 4, num_users=2)
    fit(model, sessions, max_epochs=1)
    live = LiveSessions(Recommender(model))
    live.click("s", "a", user="v")
    for session, user in (("s", "v"), ("t", "u")):
        reply = live.click(session, "b", k=2, user=None if session == "s" else user)
        history = [["a", "b"]] if session == "s" else [["b"]]
        agree(reply.items, model.recommend(history, 2, users=[user])[0])


def test_long_session_keeps_its_newest_clicks_and_its_whole_state(world: Any) -> None:
    session = (world.lists[0] * 10)[:40]
    live = LiveSessions(Recommender(world.neural), max_clicks=5)
    for item in session:
        reply = live.click("s", item, k=5)
    agree(reply.items, world.neural.recommend([session], 5)[0])
    assert reply.num_clicks == 40
    record = Record.decode(live.store.get(["s"])[0][0])
    assert record.items == session[-5:]
