"""The demonstration: three models of the embedded e-shop, served with titles on one page."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from graphseq.commands import main
from graphseq.models import MODELS
from graphseq.serving.service import demo, run
from graphseq.serving.service.demo import FAMILIES, make_demo
from graphseq.serving.service.run import Settings, app_of, listening, on_loopback

ROOT = Path(__file__).resolve().parents[2]
QUICK: dict[str, Any] = {name: ({}, {}) for name in ("vsknn", "markov", "popularity")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "models"


def test_three_models_are_trained_once_and_served_with_titles(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "FAMILIES", QUICK)
    first, *beside = map(str, make_demo(folder))
    with (
        on_loopback(app_of(Settings(first, beside=beside))) as address,
        httpx.Client(base_url=address) as client,
    ):
        assert client.get("/models").json()["models"] == ["vsknn", "markov", "popularity"]
        found = client.get("/items", params={"q": "black skirt"}).json()["items"]
        assert len(found) == 9
        assert all(re.fullmatch(r"B\d+ black skirt", each["title"]) for each in found)
        body = {"sessions": [[found[0]["item"]]], "k": 3, "model": "markov"}
        assert len(client.post("/batch", json=body).json()["answers"][0]) == 3
    monkeypatch.setattr(demo, "fit", None)  # nothing is trained again
    assert [path.name for path in make_demo(folder)] == list(QUICK)


def test_families_are_a_graph_a_recurrence_and_neighbors() -> None:
    assert len(FAMILIES) == 3
    assert MODELS[next(iter(FAMILIES))] is MODELS["srgnn"]  # the page draws what it reads


def test_command_listens_before_it_trains_and_serves_what_was_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "FAMILIES", QUICK)
    served: list[tuple[Settings, int]] = []
    monkeypatch.setattr(run, "serve", lambda s, sock: served.append((s, sock.getsockname()[1])))
    assert main(["demo", "--port", "0", "--folder", str(folder)]) == 0
    ((settings, port),) = served
    assert (settings.folder, len(settings.beside)) == (str(folder / "vsknn"), 2)
    assert port > 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_port = str(taken.getsockname()[1])
        assert main(["demo", "--port", taken_port]) == 2
    error = capsys.readouterr().err
    assert f"Port {taken_port} of 127.0.0.1 cannot be opened" in error
    assert "pass another --port or --host" in error


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("192.0.2.1", 0)])
def test_port_or_address_that_cannot_be_had_is_named(host: str, port: int) -> None:
    with (
        pytest.raises(ValueError, match=f"Port {port} of {host} cannot be opened"),
        listening(host, port),
    ):
        pass


def test_make_demo_runs_the_command() -> None:
    lines = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo: .*## .*\n\t\$\(BIN\)/graphseq demo --folder", lines, re.MULTILINE)
    assert re.search(r"^\.PHONY:.* demo\b", lines, re.MULTILINE)
