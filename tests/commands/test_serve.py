"""``graphseq serve`` as a process: it answers requests, survives a kill under load, and exits
cleanly."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

import graphseq as gs
from graphseq.commands import main
from graphseq.serving import LMDBStore
from graphseq.serving.live import Record

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def process(
    folder: Path, store: Path, *more: str
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "graphseq", "serve", str(folder), "--store", str(store), *more]
    run = subprocess.Popen(
        [*command, "--port", str(port)],
        env=os.environ | {"PYTHONPATH": path, "GRAPHSEQ_API_KEY": "key"},
        stderr=subprocess.PIPE,
    )
    headers = {"X-API-Key": "key"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            for _ in range(3_000):
                assert run.poll() is None, run.stderr.read() if run.stderr else b""
                try:
                    client.get("/ready")
                    break
                except httpx.TransportError:
                    time.sleep(0.02)
            yield run, client
    finally:
        run.terminate()  # with what it started
        run.communicate()


def test_no_answered_click_is_lost_when_the_service_is_killed(tmp_path: Path) -> None:
    sessions = gs.Sessions.from_lists([["a", "b"], ["b", "c"]])
    torch.manual_seed(0)
    model = gs.models.GRU4Rec(3, 4).eval()
    model.attach(sessions.catalog())
    model.save(tmp_path / "model")
    answered = 0
    with process(tmp_path / "model", tmp_path / "store") as (run, client):
        assert client.get("/metrics", headers={"X-API-Key": "no"}).status_code == 401
        for number in range(30):
            response = client.post("/sessions/s/clicks", json={"item": "abc"[number % 3]})
            assert response.status_code == 200
            answered += 1
        run.send_signal(signal.SIGKILL)
        run.wait()
    store = LMDBStore(tmp_path / "store")
    record = Record.decode(store.get(["s"])[0][0])
    store.close()
    assert record.items == ["abc"[number % 3] for number in range(answered)]


def test_two_processes_share_sessions_and_end_together(tmp_path: Path) -> None:
    model = gs.models.GRU4Rec(3, 4).eval()
    model.attach(gs.Sessions.from_lists([["a", "b"], ["b", "c"]]).catalog())
    model.save(tmp_path / "model")
    with process(tmp_path / "model", tmp_path / "store", "--processes", "2") as (run, client):
        for number in range(1, 21):
            headers = {"Connection": "close"}  # whoever is free takes the next one
            body = {"item": "abc"[number % 3]}
            answer = client.post("/sessions/s/clicks", json=body, headers=headers)
            assert answer.json()["num_clicks"] == number
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}"], "graphseq: There is no folder"),
        (["{folder}", "--processes", "2"], "need a store that they share: pass --store"),
    ],
)
def test_wrong_argument_of_serve_is_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each.format(folder=tmp_path / "none") for each in arguments]
    assert main(["serve", *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_service_says_its_address_and_ends_in_peace(tmp_path: Path) -> None:
    gs.models.GRU4Rec(3, 4).save(tmp_path / "model")
    command = [sys.executable, "-m", "graphseq", "serve", str(tmp_path / "model"), "--port", "0"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        said = run.stderr.readline()
        (address,) = re.findall(r"answers at (http://127\.0\.0\.1:\d+/) \(page\)", said)
        assert httpx.get(address).status_code == 200
        line = json.loads(run.stderr.readline())
        assert (line["route"], line["status"]) == ("page", 200)
        run.send_signal(signal.SIGINT)
        assert run.wait(30) == 130
        assert run.stderr.read() == "Stopped.\n"
