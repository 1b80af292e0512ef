"""The benchmark of serving: what its rows say, and that its load is what it claims to be."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from experiments.benchmarks import serving
from experiments.benchmarks.load import Load, click_of, get, run_load


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
