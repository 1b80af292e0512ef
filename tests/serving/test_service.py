"""The service over HTTP: answers, refusals, overload, another model, a store that is gone."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.serving import LiveSessions, MemoryStore, Recommender, StoreUnavailable
from graphseq.serving.service.app import Service, build_app, warm_up
from graphseq.serving.service.gate import log_requests
from graphseq.serving.service.reasons import reasons_of
from graphseq.serving.service.run import KEY, Settings, app_of, key_of_service, on_loopback, serve
from graphseq.serving.service.titles import Titles
from graphseq.training import fit


@contextmanager
def serving(app: Any) -> Iterator[httpx.Client]:
    """A server on loopback, and a client of it."""
    with on_loopback(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


Started = tuple[httpx.Client, Service]


@pytest.fixture(scope="module")
def started(world: Any) -> Iterator[Started]:
    service = Service(LiveSessions(Recommender(world.neural, index="exact")), max_k=50)
    with serving(build_app(service)) as client:
        yield client, service


def pairs(answer: Any) -> list[tuple[Any, float]]:
    return [(each["item"], each["score"]) for each in answer["items"]]


def test_click_answers_with_recommendations_of_the_session_so_far(
    started: Started, world: Any
) -> None:
    client, _ = started
    session = world.lists[0]
    for length, item in enumerate(session, start=1):
        answer = client.post("/sessions/a/clicks", json={"item": item, "k": 5}).json()
        wanted = world.neural.recommend([session[:length]], 5)[0]
        assert [item for item, _ in pairs(answer)] == [item for item, _ in wanted]
        assert np.allclose([s for _, s in pairs(answer)], [s for _, s in wanted], atol=1e-5)
        assert answer["num_clicks"] == length
    again = client.get("/sessions/a/recommendations", params={"k": 5}).json()
    assert pairs(again) == pairs(answer)
    assert again["outcomes"] == []
    assert client.delete("/sessions/a").status_code == 204
    assert client.get("/sessions/a/recommendations").json()["fallback"]


def test_several_clicks_at_once_and_repeated_events(started: Started, world: Any) -> None:
    client, _ = started
    clicks = [{"item": f"i{n}", "time": 10.0 - n, "event": f"e{n}"} for n in range(3)]
    answer = client.post("/sessions/b/clicks", json={"clicks": clicks, "k": 3}).json()
    assert answer["outcomes"] == ["new", "late", "late"]
    assert pairs(answer)[0][0] == world.neural.recommend([["i2", "i1", "i0"]], 1)[0][0][0]
    answer = client.post("/sessions/b/clicks", json=clicks[0]).json()
    assert (answer["outcomes"], answer["num_clicks"]) == (["repeated"], 3)


def test_session_ids_may_hold_any_text(started: Started) -> None:
    client, _ = started
    path = "/sessions/caf%C3%A9%20%3F/clicks"
    assert client.post(path, json={"item": "i1"}).json()["num_clicks"] == 1
    assert client.post(path, json={"item": "i1"}).json()["num_clicks"] == 2


def test_ids_with_nul_and_slashes_of_other_alphabets_are_ids_like_others(
    started: Started,
) -> None:
    client, _ = started
    for session in ("a%00b", "%F0%9F%91%9F", "a%20b"):
        for number in (1, 2):
            body = {"item": "nul\0 item"}
            answer = client.post(f"/sessions/{session}/clicks", json=body).json()
            assert (answer["num_clicks"], answer["unknown"]) == (number, number)
            assert answer["fallback"]
        assert client.delete(f"/sessions/{session}").status_code == 204
        again = client.get(f"/sessions/{session}/recommendations").json()
        assert again["num_clicks"] == 0


def test_batch_answers_sessions_that_are_not_kept(started: Started, world: Any) -> None:
    client, service = started
    before = len(service.live.store)
    body = {"sessions": [world.lists[0], ["unknown"], []], "k": 4, "exclude_seen": True}
    answer = client.post("/batch", json=body).json()
    wanted = world.neural.recommend(body["sessions"], 4, exclude_seen=True)
    found = [[each["item"] for each in one] for one in answer["answers"]]
    assert found == [[item for item, _ in one] for one in wanted]
    assert answer["model_version"] == service.live.recommender.version
    assert answer["milliseconds"] > 0
    assert answer["unknown"] == [0, 1, 0]
    assert len(service.live.store) == before


def test_model_that_reads_times_is_served_on_every_path() -> None:
    log = gs.generate_sessions(30, 20, seed=1)
    log = replace(log, time=1e9 + 60.0 * np.arange(log.num_clicks))
    torch.manual_seed(0)
    model = gs.models.HSTU(20, 8).eval()
    model.attach(log.catalog(), log)
    for weight in model.parameters():  # biases of time begin at zero
        torch.nn.init.normal_(weight, std=0.5)
    recommender = Recommender(model)
    warm_up(recommender)
    items, times = log.to_lists()[0][:3], [1e9, 1e9 + 5, 1e9 + 9_000]
    prefix = gs.Sessions.from_lists([items], vocabulary=log.vocabulary)
    wanted = model.recommend(replace(prefix, time=np.array(times)), 5)[0]
    now = model.recommend(replace(prefix, time=np.array([1e9] * 3)), 5)[0]
    assert wanted != now
    with serving(build_app(Service(LiveSessions(recommender)))) as client:
        clicks = [{"item": i, "time": t} for i, t in zip(items, times, strict=True)]
        found = client.post("/sessions/s/clicks", json={"clicks": clicks, "k": 5}).json()
        assert pairs(found) == [(item, pytest.approx(score, abs=1e-4)) for item, score in wanted]
        assert (
            client.get("/sessions/s/recommendations?k=5&at=2e9").json()["items"] == found["items"]
        )
        for told, answer in ((times, wanted), (None, now)):
            body = {"sessions": [items, []], "k": 5, "times": None if told is None else [told, []]}
            got = client.post("/batch", json=body).json()["answers"][0]
            assert [(each["item"], each["score"]) for each in got] == [
                (item, pytest.approx(score, abs=1e-4)) for item, score in answer
            ]
        why = client.post("/why", json={"session": items, "item": items[0], "times": times}).json()
        asked = reasons_of(model, items, items[0], times)
        assert [each["loss"] for each in why["clicks"]] == [
            pytest.approx(loss, abs=1e-4) for _, loss in asked.clicks
        ]
        assert client.post("/why", json={"session": items, "item": items[0]}).status_code == 200
        for path, body, message in (
            ("/why", {"session": items, "item": items[0], "times": [1.0]}, "one number per click"),
            ("/batch", {"sessions": [items], "times": [[1.0]]}, "one number per click"),
            ("/batch", {"sessions": [items], "times": [[3.0, 2.0, 1.0]]}, "oldest click first"),
        ):
            response = client.post(path, json=body)
            assert response.status_code == 400
            assert message in response.json()["error"]


def test_reasons_with_times_leave_out_a_click_and_its_time() -> None:
    log = gs.generate_sessions(30, 20, seed=1)
    log = replace(log, time=1e9 + 60.0 * np.arange(log.num_clicks))
    torch.manual_seed(0)
    model = gs.models.HSTU(20, 8).eval()
    model.attach(log.catalog(), log)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    items, times = log.to_lists()[0][:3], [1e9, 1e9 + 5, 1e9 + 9_000]

    def lead(places: list[int]) -> float:
        prefix = gs.Sessions.from_lists([[items[n] for n in places]], vocabulary=log.vocabulary)
        prefix = replace(prefix, time=np.array([times[n] for n in places]))
        scores = dict(model.recommend(prefix, 20)[0])
        return scores[items[0]] - sum(scores.values()) / 20

    for place, loss in reasons_of(model, items, items[0], times).clicks:
        rest = [n for n in range(3) if n != place]
        assert loss == pytest.approx(lead([0, 1, 2]) - lead(rest), abs=1e-4)


def test_why_says_what_an_item_loses_without_each_click_and_transition(
    started: Started, world: Any
) -> None:
    client, _ = started
    session, item = world.lists[0][:4], "i3"
    answer = client.post("/why", json={"session": session, "item": item}).json()
    wanted = reasons_of(world.neural, session, item)
    found = [(each["position"], each["loss"]) for each in answer["clicks"]]
    assert found == [pytest.approx(each, abs=1e-5) for each in wanted.clicks]
    edges = [(each["source"], each["target"]) for each in answer["edges"]]
    assert edges == [(source, target) for source, target, _ in wanted.edges]
    response = client.post("/why", json={"session": session, "item": "none"})
    assert response.status_code == 400
    assert "item 'none' is none that the model knows" in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "message"),
    [
        ("POST", "/sessions/s/clicks", {"content": b"{"}, 400, "body"),
        ("POST", "/sessions/s/clicks", {"content": b""}, 400, "body"),
        ("POST", "/sessions/s/clicks", {"content": b"\xff\xfe"}, 400, "body"),
        ("POST", "/sessions/s/clicks", {"json": [1]}, 400, "object"),
        ("POST", "/sessions/s/clicks", {"json": {}}, 400, "either item or clicks"),
        ("POST", "/sessions/s/clicks", {"json": {"item": "a", "clicks": []}}, 400, "either"),
        ("POST", "/sessions/s/clicks", {"json": {"item": 1.5}}, 400, "item"),
        ("POST", "/sessions/s/clicks", {"json": {"item": "x" * 401}}, 400, "length <= 400"),
        ("POST", "/sessions/s/clicks", {"json": {"item": "a", "colour": 1}}, 400, "colour"),
        ("POST", "/sessions/s/clicks", {"json": {"item": "a", "k": 51}}, 400, "at most 50, got 51"),
        ("POST", "/sessions/s/clicks", {"json": {"item": "a", "k": -1}}, 400, ">= 0"),
        ("POST", "/sessions/s/clicks", {"json": {"item": "a", "k": "x"}}, 400, "int"),
        ("POST", "/sessions/s/clicks", {"json": {"item": "a", "time": -1}}, 400, ">= 0"),
        ("POST", "/sessions/s/clicks", {"content": b'{"item":"a","time":1e999}'}, 400, ""),
        ("POST", "/sessions/s/clicks", {"json": {"clicks": [{"item": "a"}] * 101}}, 400, "100"),
        ("POST", "/sessions/s/clicks", {"json": {"item": "a" * 70_000}}, 413, ""),
        ("POST", f"/sessions/{'x' * 401}/clicks", {"json": {"item": "a"}}, 400, "1 to 400 bytes"),
        ("POST", "/sessions/s/clicks", {"content": b"[" * 30_000}, 400, "nested too deep"),
        ("POST", "/sessions/s/clicks", {"content": b'{"item":' + b"[" * 20_000}, 400, "too deep"),
        ("POST", "/sessions/s/clicks", {"content": b'{"item":"\\ud800"}'}, 400, "cannot be read"),
        ("POST", "/sessions/s/clicks", {"content": b'{"item":"a"}}'}, 400, "trailing"),
        ("POST", "/sessions/s/clicks", {"data": {"item": "a"}}, 415, "application/json"),
        ("POST", "/sessions/s/clicks", {"files": {"item": b"a"}}, 415, "application/json"),
        ("POST", "/batch", {"headers": {"content-type": "text/xml"}}, 415, "must be JSON"),
        ("POST", "/batch", {"headers": {"content-encoding": "gzip"}}, 415, "without Content-En"),
        (
            "POST",
            "/sessions/s/clicks",
            {"json": {"item": "a", "time": 1e308}},
            400,
            "in the future",
        ),
        (
            "POST",
            "/sessions/s/clicks",
            {"json": {"clicks": [{"item": "a", "time": 1.7e12}]}},
            400,
            "got 1.7e+12: are these milliseconds?",
        ),
        ("POST", "/sessions/%ff%fe/clicks", {"json": {"item": "a"}}, 400, "must be UTF-8"),
        ("GET", "/sessions/%ff/recommendations", {}, 400, "must be UTF-8"),
        ("DELETE", f"/sessions/{'x' * 401}", {}, 400, "1 to 400 bytes"),
        ("GET", f"/sessions/{'x' * 4_000}/recommendations", {}, 414, "more than 4000 characters"),
        ("GET", "/models", {"headers": {"x": "y" * 20_000}}, 431, "more than 16384 bytes"),
        ("GET", "/sessions/s/recommendations?k=many", {}, 400, "k"),
        ("GET", "/sessions/s/recommendations?k=-2", {}, 400, "at least 0, got -2"),
        ("POST", "/batch", {"json": {"sessions": []}}, 400, "sessions"),
        ("POST", "/batch", {"json": {"sessions": [["a"] * 1_001]}}, 400, "1000"),
        ("GET", "/nowhere", {}, 404, "There is no path '/nowhere': /docs lists"),
        ("PUT", "/batch", {}, 405, "'/batch' takes no PUT: /docs lists"),
        ("POST", "/batch", {"content": b"x" * 70_000}, 413, "more than 65536 bytes: send less"),
        ("POST", "/reload", {}, 404, "no folder"),
    ],
)
def test_wrong_request_gets_a_sentence_and_never_a_traceback(
    started: Started, method: str, path: str, options: Any, status: int, message: str
) -> None:
    client, service = started
    before = len(service.live.store)
    response = client.request(method, path, **options)
    assert response.status_code == status
    answer = response.json()
    assert set(answer) == {"error"}
    assert message in answer["error"]
    assert "Traceback" not in response.text
    assert ".py" not in response.text
    assert len(service.live.store) == before


def test_pages_that_watch_and_describe_the_service(started: Started) -> None:
    client, service = started
    client.post("/sessions/m/clicks", json={"item": "i1"})
    assert client.get("/health").json() == {"status": "ok"}
    version = service.live.recommender.version
    assert client.get("/ready").json() == {"status": "ready", "model_version": version}
    lines = client.get("/metrics").text.splitlines()
    assert 'graphseq_requests_total{route="sessions",status="200"}' in "\n".join(lines)
    assert any(line.startswith('graphseq_clicks_total{outcome="new"}') for line in lines)
    assert any(line.startswith("graphseq_batch_size_count") for line in lines)
    described = client.get("/docs/openapi.json").json()
    assert "/sessions/{session}/clicks" in described["paths"]


def test_page_comes_whole_and_asks_nothing_of_others(started: Started) -> None:
    client, _ = started
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in response.headers["content-security-policy"]
    text = response.text.replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text.replace("http-equiv", "")
    assert re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"([^\"]*)", text) == ["data:,"]
    asked = set(re.findall(r'ask\("(/\w+)', text))
    assert asked == {"/items", "/batch", "/models", "/why"}


def test_page_of_paths_asks_nothing_of_others_and_tells_what_each_path_takes(
    started: Started,
) -> None:
    client, _ = started
    response = client.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    text = response.text
    assert "http" not in text
    assert "<script" not in text
    assert re.findall(r"<link[^>]*href=\"([^\"]*)", text) == ["data:,"]
    anchors = re.findall(r"<a href=\"([^\"]*)", text)
    assert anchors[0] == "/docs/openapi.json"
    assert {each[1:] for each in anchors[1:]} <= set(re.findall(r"section id=\"(\w+)", text))
    described = client.get("/docs/openapi.json").json()
    for path in described["paths"]:
        assert f"<code>{path}</code>" in text
    click = text.partition("clicks</code>")[2].partition("</section>")[0]
    assert "Takes clicks of a session and recommends, in one round." in click
    assert "<code>session</code></td><td>string, in the path</td><td>required" in click
    assert '<code>body</code></td><td><a href="#ClickBody">ClickBody</a></td><td>required' in click
    assert '<code>400</code>: <a href="#ErrorAnswer">ErrorAnswer</a>' in click
    body = text.partition('id="ClickBody"')[2].partition("</section>")[0]
    assert "<code>k</code></td><td>integer (at least 0)</td><td>default 10" in body
    assert "list of string or integer (up to 1000 entries)" in body
    assert '<td>list of <a href="#OneClick">OneClick</a> (up to 100 entries)</td>' in body
    assert "event: Id of the click; a repeated id counts once." in body


def test_items_are_found_by_title_or_id_the_most_clicked_first(world: Any) -> None:
    sessions = gs.Sessions.from_lists([["a", "b"], ["b", "c"], ["b", "a"]])
    table = pd.DataFrame({"title": ["Red shoe", "Blue SHOE", "Hat"]}, index=["a", "b", "c"])
    model = gs.models.MODELS["markov"](3)
    fit(model, sessions.with_item_features(table))
    beside = {"other": Recommender(model)}
    service = Service(LiveSessions(Recommender(model)), beside=beside)
    with serving(build_app(service)) as client:
        found = client.get("/items", params={"q": "shoe"}).json()["items"]
        assert found == [
            {"item": "b", "title": "Blue SHOE"},
            {"item": "a", "title": "Red shoe"},
        ]
        assert client.get("/items", params={"q": "C"}).json()["items"][0]["item"] == "c"
        assert len(client.get("/items").json()["items"]) == 3
        assert client.get("/items", params={"q": "x" * 101}).status_code == 400
        (name, other) = client.get("/models").json()["models"]
        assert other == "other"
        for model_name in (name, "other"):
            body = {"sessions": [["a"]], "k": 3, "model": model_name}
            answer = client.post("/batch", json=body).json()
            assert answer["answers"][0][0]["item"] == "b"
            assert {"item": "b", "title": "Blue SHOE"} in answer["titles"]
        response = client.post("/batch", json={**body, "model": "none"})
        assert response.status_code == 400
        assert "other, got 'none'" in response.json()["error"]


def test_item_that_is_the_query_comes_before_those_that_hold_it() -> None:
    clicks = [[item] * 3 for item in (13, 30, 33)]
    sessions = gs.Sessions.from_lists([[n] for n in range(40)] + clicks)
    model = gs.models.MODELS["markov"](40)
    fit(model, sessions)
    found = [each["item"] for each in Titles(Recommender(model)).find(" 3 ")]
    assert found[:4] == [3, 13, 30, 33]
    assert len(found) == 10


def test_log_names_neither_sessions_nor_items(
    started: Started, caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = started
    with caplog.at_level(logging.INFO, "graphseq.serving.access"):
        client.post("/sessions/secret-name/clicks", json={"item": "i77"})
    (line,) = [json.loads(each.message) for each in caplog.records if "route" in each.message]
    assert (line["route"], line["method"], line["status"]) == ("sessions", "POST", 200)
    assert set(line) == {"time", "route", "method", "status", "ms"}
    assert "secret-name" not in caplog.text


def test_a_service_leaves_the_loggers_of_its_process_as_they_were() -> None:
    access, models = (
        logging.getLogger(f"graphseq.{name}") for name in ("serving.access", "models")
    )

    def state() -> list[Any]:
        return [(each.level, each.propagate, list(each.handlers)) for each in (access, models)]

    before = state()
    with log_requests():
        assert (access.level, access.propagate) == (logging.INFO, False)
        assert len(access.handlers) == len(before[0][2]) + 1
        assert not models.isEnabledFor(logging.WARNING)  # they name items
    assert state() == before


def test_key_is_asked_of_everything_but_health(world: Any) -> None:
    service = Service(LiveSessions(Recommender(world.neural)))
    with serving(build_app(service, key="s3cret")) as client:
        for headers in (
            {},
            {"X-API-Key": "s3cre"},
            {"Authorization": "Bearer other"},
            {"Authorization": "s3cret"},
            {"X-API-Key": ""},
        ):
            response = client.get("/sessions/a/recommendations", headers=headers)
            assert response.status_code == 401
            assert "key is missing or wrong" in response.json()["error"]
            assert response.headers["www-authenticate"] == "Bearer"
        for headers in (
            {"X-API-Key": "s3cret"},
            {"Authorization": "Bearer s3cret"},
            {"Authorization": "bearer s3cret"},
        ):
            assert client.get("/sessions/a/recommendations", headers=headers).status_code == 200
        assert client.get("/metrics").status_code == 401
        assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_address_that_asks_too_fast_is_told_so(world: Any) -> None:
    service = Service(LiveSessions(Recommender(world.neural)))
    with serving(build_app(service, rate=0.5)) as client:
        first = client.get("/sessions/a/recommendations")
        second = client.get("/sessions/a/recommendations")
        assert first.status_code == 200
        assert second.status_code == 429
        assert second.headers["retry-after"] == "1"
        assert client.get("/health").status_code == 200


class Slow(MemoryStore):
    """A store that waits to be told to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.gone = False

    def get(self, sessions: Any) -> Any:
        self.go.wait(20)
        return super().get(sessions)

    def update(self, changes: Any) -> Any:
        self.check()
        return super().update(changes)

    def check(self) -> None:
        if self.gone:
            raise StoreUnavailable("The store does not answer.")


def asked_at_once(client: httpx.Client, calls: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(calls) as pool:
        paths = [f"/sessions/s{n}/clicks" for n in range(calls)]
        return list(pool.map(lambda path: client.post(path, json={"item": "i1"}), paths))


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def test_overload_is_refused_at_once_and_passes(world: Any) -> None:
    store = Slow()
    service = Service(LiveSessions(Recommender(world.neural), store), max_batch=4, max_waiting=6)
    with serving(build_app(service)) as client:
        found: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: found.extend(asked_at_once(client, 20)))
        thread.start()
        refused = service.measures.requests.labels("sessions", "503")._value
        wait_until(lambda: refused.get() >= 10)
        store.go.set()
        thread.join()
        statuses = [response.status_code for response in found]
        assert set(statuses) == {200, 503}
        assert 7 <= statuses.count(200) <= 10  # a batch of 1 to 4, and 6 that wait
        late = next(response for response in found if response.status_code == 503)
        assert "try again in a moment" in late.json()["error"]
        assert late.headers["retry-after"] == "1"
        assert client.post("/sessions/x/clicks", json={"item": "i1"}).status_code == 200
        assert len(store) == statuses.count(200) + 1  # what was refused left no trace


def test_requests_that_come_together_share_a_batch(world: Any) -> None:
    store = Slow()
    live = LiveSessions(Recommender(world.neural), store)
    sizes: list[int] = []
    service = Service(live)
    answer = live.answer
    live.answer = lambda requests: (sizes.append(len(requests)), answer(requests))[1]  # type: ignore[method-assign]
    with serving(build_app(service)) as client:
        found: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: found.extend(asked_at_once(client, 16)))
        thread.start()
        wait_until(lambda: sum(sizes) + len(service.batcher._waiting) == 16)
        store.go.set()
        thread.join()
        assert [response.status_code for response in found] == [200] * 16
        assert sum(sizes) == 16
        assert len(sizes) <= 3


def test_wrong_request_in_a_batch_fails_alone(world: Any) -> None:
    store = Slow()
    service = Service(LiveSessions(Recommender(world.neural), store))
    with serving(build_app(service)) as client, ThreadPoolExecutor(8) as pool:
        paths = [f"/sessions/{'x' * 401 if n == 3 else n}/clicks" for n in range(8)]
        calls = [pool.submit(client.post, path, json={"item": "i1"}) for path in paths]
        wait_until(lambda: len(service.batcher._waiting) >= 5)
        store.go.set()
        statuses = [call.result().status_code for call in calls]
        assert statuses == [400 if n == 3 else 200 for n in range(8)]
        for n in (0, 7):  # tried again with the others, and counted once
            answer = client.get(f"/sessions/{n}/recommendations").json()
            assert answer["num_clicks"] == 1


def test_store_that_is_gone_gives_503_and_answers_again_when_it_is_back(world: Any) -> None:
    store = Slow()
    store.go.set()
    with serving(build_app(Service(LiveSessions(Recommender(world.neural), store)))) as client:
        store.gone = True
        response = client.post("/sessions/a/clicks", json={"item": "i1"})
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json() == {"error": "The store does not answer."}
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        store.gone = False
        assert client.get("/ready").status_code == 200
        assert client.post("/sessions/a/clicks", json={"item": "i1"}).json()["num_clicks"] == 1


def test_what_nobody_foresaw_gets_a_number_and_no_traceback(
    world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveSessions(Recommender(world.neural))
    service = Service(live)

    def broken(_: Any) -> Any:
        raise RuntimeError("secret detail")

    live.answer = broken  # type: ignore[method-assign]
    with serving(build_app(service)) as client:
        response = client.post("/sessions/a/clicks", json={"item": "i1"})
    assert response.status_code == 500
    number = response.json()["error"].split()[-1].rstrip(".")
    assert "secret detail" not in response.text
    assert f"Error {number}" in caplog.text


def test_another_model_takes_over_without_a_dropped_request(world: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    Recommender(world.neural, index="exact").save(folder)
    torch.manual_seed(5)
    other = gs.models.GRU4Rec(640, 16, embedding="separate").eval()
    other.attach(world.sessions.catalog())
    with serving(app_of(Settings(str(folder)))) as client:
        stop, statuses, versions = threading.Event(), [], []

        def ask(number: int) -> None:
            while not stop.is_set():
                response = client.post(f"/sessions/{number}/clicks", json={"item": "i1"})
                statuses.append(response.status_code)
                versions.append(response.json()["model_version"])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(statuses) > 20)
        Recommender(other, index="exact").save(folder)
        response = client.post("/reload")
        assert response.status_code == 200
        count = len(statuses)
        wait_until(lambda: len(statuses) > count + 20)
        stop.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}
        assert set(versions) == {
            Recommender(world.neural).version,
            response.json()["model_version"],
        }
        (folder / "recommender.json").write_text("{}")
        response = client.post("/reload")
        assert response.status_code == 400
        assert "recommender.json" in response.json()["error"]
        assert client.post("/sessions/z/clicks", json={"item": "i1"}).status_code == 200


def test_processes_that_take_long_to_import_are_not_started_again_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **options: asked.update(options))
    monkeypatch.setenv("GRAPHSEQ_SERVICE", "")
    model = gs.models.GRU4Rec(3, 4).eval()
    model.attach(gs.Sessions.from_lists([["a", "b"], ["b", "c"]]).catalog())
    model.save(tmp_path / "model")
    store = str(tmp_path / "store")
    serve(Settings(str(tmp_path / "model"), store=store, port=0, processes=2))
    assert asked["workers"] == 2
    assert asked["timeout_worker_healthcheck"] == 120  # uvicorn's own 5 are less than an import


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("processes", 0, "processes must be at least 1, got 0"),
        ("max_sessions", 0, "max_sessions must be at least 1, got 0"),
        ("max_k", -1, "max_k must be at least 1, got -1"),
        ("max_waiting", 0, "max_waiting must be at least 1, got 0"),
        ("rate", -1.0, "rate must be a finite number of at least 0"),
        ("rate", float("nan"), "rate must be a finite number"),
        ("seconds", 0.0, "seconds must be positive and finite, got 0.0"),
        ("seconds", float("inf"), "seconds must be positive and finite, got inf"),
    ],
)
def test_setting_out_of_range_is_refused_before_a_model_is_loaded(
    setting: str, value: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Settings("folder", **{setting: value})  # type: ignore[arg-type]


def test_model_beside_may_have_ids_of_another_type(world: Any) -> None:
    numbers = gs.models.Popularity(3)
    gs.fit(numbers, gs.Sessions.from_lists([[7, 8, 9], [8, 9], [9]]))
    live = LiveSessions(Recommender(numbers))
    service = Service(live, beside={"texts": Recommender(world.counting)})
    with serving(build_app(service)) as client:
        body = {"sessions": [["i1"]], "k": 2, "model": "texts"}
        answer = client.post("/batch", json=body).json()
        items = [item for item, _ in world.counting.recommend([["i1"]], 2)[0]]
        assert answer["titles"] == [{"item": item, "title": item} for item in items]


def test_models_beside_of_one_folder_name_have_names_of_their_own(
    world: Any, tmp_path: Path
) -> None:
    popular = gs.models.Popularity(world.neural.num_items)
    gs.fit(popular, world.sessions)
    models = {"a/model": world.counting, "b/model": popular, "b/sequentialrules": popular}
    for name, model in models.items():
        model.save(tmp_path / name)
    first, *beside = [str(tmp_path / name) for name in models]
    with serving(app_of(Settings(first, beside=beside[:1]))) as client:
        assert client.get("/models").json() == {"models": ["sequentialrules", "model"]}
    with serving(app_of(Settings(first, beside=[first, *beside]))) as client:
        names = client.get("/models").json()["models"]
        assert names == ["sequentialrules", "a/model", "b/model", "b/sequentialrules"]
        for name, model in zip(names, [world.counting, *models.values()], strict=True):
            body = {"sessions": [["i1"]], "k": 3, "model": name}
            answer = client.post("/batch", json=body).json()
            items = [each["item"] for each in answer["answers"][0]]
            assert items == [item for item, _ in model.recommend([["i1"]], 3)[0]]
    with pytest.raises(ValueError, match=r"model twice: name each once"):
        app_of(Settings(first, beside=[beside[0], f"{tmp_path}/a/../b/model"]))
    other = Recommender(popular)
    with pytest.raises(ValueError, match="beside has 'popularity', the name of the model that"):
        Service(LiveSessions(other), beside={"popularity": other})


def test_several_processes_need_a_store_that_they_share() -> None:
    with pytest.raises(ValueError, match="3 processes need a store that they share: pass --store"):
        Settings("folder", processes=3)
    Settings("folder", processes=3, store="redis://localhost")


def test_empty_key_is_refused_and_does_not_open_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    assert key_of_service() is None
    monkeypatch.setenv(KEY, "s3cret")
    assert key_of_service() == "s3cret"
    for empty in ("", " "):
        monkeypatch.setenv(KEY, empty)
        with pytest.raises(ValueError, match="GRAPHSEQ_API_KEY is empty: put a key in it, or un"):
            key_of_service()
