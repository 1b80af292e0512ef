"""The benchmark of serving: what its rows say, and that its load is what it claims to be."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from experiments.benchmarks import chaos, serving
from experiments.benchmarks.load import (
    CLICKS_PER_SESSION,
    LIVE_SESSIONS,
    Load,
    click_of,
    cpu_seconds,
    get,
    run_load,
    session_of,
)
from graphseq.serving import Click, LMDBStore
from graphseq.serving.live.record import changed


def test_load_sends_every_request_once_and_counts_answers_and_failures() -> None:
    seen: Counter[bytes] = Counter()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            seen[line.split()[1]] += 1
            while await reader.readline() != b"\r\n":
                pass
            number = int(line.split()[1][1:])
            status = b"503 busy" if number % 10 == 0 else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")

    async def run() -> Load:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        load = await run_load(port, lambda n: get(f"/{n}"), rate=500, seconds=0.2, connections=4)
        server.close()
        return load

    load = asyncio.run(run())
    assert seen == Counter({f"/{n}".encode(): 1 for n in range(100)})
    assert load.statuses == {200: 90, 503: 10}
    row = load.row()
    assert row["errors"] == 10
    assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    assert load.seconds >= 99 / 500  # sent at the rate, not at once


def test_click_is_one_whole_request() -> None:
    head, _, body = click_of(7, "i1").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /sessions/s7/clicks HTTP/1.1\r\n")
    assert json.loads(body) == {"item": "i1", "k": 20}
    assert f"Content-Length: {len(body)}".encode() in head


def test_rows_in_process_have_the_index_and_its_time(tmp_path: Path) -> None:
    argv = ["--items", "50", "--models", "gru4rec", "--indexes", "none", "exact"]
    serving.main([*argv, "--stores", "--repeats", "20", "--out", str(tmp_path)])
    content = json.loads((tmp_path / "serving.json").read_text())
    assert [row["index"] for row in content["rows"]] == ["none", "exact"]
    assert content["wanted"] == {"p90_ms": 7.0, "p99_ms": 20.0}
    for row in content["rows"]:
        assert (row["model"], row["items"], row["sessions"]) == ("gru4rec", 50, 32)
        assert 0 < row["p50_ms"] <= row["p99_ms"]


@pytest.mark.parametrize("repeats", [1, 3])
def test_quantiles_call_as_often_as_said(repeats: int) -> None:
    calls: list[int] = []
    serving.quantiles(calls.append, repeats)
    assert calls == list(range(repeats))


def test_sessions_of_the_load_end_after_a_few_clicks_and_others_begin() -> None:
    first = Counter(map(session_of, range(LIVE_SESSIONS * CLICKS_PER_SESSION)))
    assert set(first.values()) == {CLICKS_PER_SESSION}
    assert set(first) == set(range(LIVE_SESSIONS))
    assert session_of(LIVE_SESSIONS * CLICKS_PER_SESSION) == LIVE_SESSIONS


def test_time_of_a_process_grows_with_its_work() -> None:
    before = cpu_seconds(os.getpid())
    sum(n * n for n in range(2_000_000))
    assert cpu_seconds(os.getpid()) > before


def test_tally_of_chaos_tells_lost_doubled_and_misplaced_clicks(tmp_path: Path) -> None:
    store = LMDBStore(tmp_path / "store")

    def put(session: str, events: list[str]) -> None:
        for number, event in enumerate(events):
            click = Click(number, float(number), event)
            store.update([(session, lambda v, c=click: changed(v, [c], None, 0.0, 99)[0])])

    put("whole", ["a", "b", "c"])
    put("more", ["a", "b", "tried but not answered"])
    put("lost", ["a", "c"])
    put("turned", ["b", "a"])
    store.close()
    where = str(tmp_path / "store")
    nothing = {"lost": 0, "doubled": 0, "out_of_place": 0}
    assert chaos.kept(where, {"whole": ["a", "b", "c"], "more": ["a", "b"]}) == nothing
    assert chaos.kept(where, {"lost": ["a", "b", "c"]}) == nothing | {"lost": 1, "out_of_place": 1}
    assert chaos.kept(where, {"turned": ["a", "b"]}) == nothing | {"out_of_place": 1}


def test_sessions_over_the_bound_leave_oldest_first_and_are_counted() -> None:
    row = chaos.too_many(12_000, 9_000)
    assert (row["kept"], row["evicted"], row["oldest_left"]) == (9_000, 3_000, True)
    assert 700 < row["bytes_per_session"] < 1_300
