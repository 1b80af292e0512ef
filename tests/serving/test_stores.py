"""All stores by the same tests: one step, bounded, for a while, and beyond the process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from graphseq.serving.stores import LMDBStore, MemoryStore, RedisStore, Store, StoreUnavailable
from graphseq.serving.stores import open_store as open_named


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 1e-3
        return self.now


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A Redis server of this test run alone, on loopback, in memory."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("no redis-server here: apt-get install redis-server brings one")
        self.program, self.port = program, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", "/"]
        self.process = subprocess.Popen([self.program, *options], stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("redis-server does not start")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


Opened = Callable[..., Store]


@pytest.fixture(params=["memory", "lmdb", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Opens a new store of each kind."""
    stores: list[Store] = []

    def open_new(**options: Any) -> Store:
        number = len(stores)
        if request.param == "memory":
            store: Store = MemoryStore(**options)
        elif request.param == "lmdb":
            store = LMDBStore(tmp_path / f"store_{number}", max_bytes=64 << 20, **options)
        else:
            server = request.getfixturevalue("redis_server")
            name = f"{tmp_path.name}_{number}"
            store = RedisStore(server.url, prefix=name, timeout=5, **options)
        stores.append(store)
        return store

    yield open_new
    for store in stores:
        store.close()


def appended(text: bytes) -> Callable[[bytes | None], bytes]:
    return lambda value: (value or b"") + text


def test_value_is_what_changes_made_of_it_in_their_order(opened: Opened) -> None:
    store = opened()
    made = store.update([("a", appended(b"1")), ("b", appended(b"x")), ("a", appended(b"2"))])
    assert made == [b"1", b"x", b"12"]
    assert store.update([("a", appended(b"3"))]) == [b"123"]
    assert store.get(["b", "a", "none"]) == [(b"x", None), (b"123", None), (None, None)]
    assert len(store) == 2
    assert store.update([]) == []
    assert store.get([]) == []


def test_state_stays_with_its_session_and_leaves_with_it(opened: Opened) -> None:
    store = opened()
    store.update([("a", appended(b"1"))])
    store.put_states([("a", b"state"), ("gone", b"lost")])
    store.update([("a", appended(b"2"))])
    assert store.get(["a", "gone"]) == [(b"12", b"state"), (None, None)]
    store.delete("a")
    store.delete("never there")
    assert store.get(["a"]) == [(None, None)]
    assert store.update([("a", appended(b"9"))]) == [b"9"]
    assert store.get(["a"]) == [(b"9", None)]


def test_sessions_beyond_the_bound_leave_oldest_first_and_are_counted(opened: Opened) -> None:
    store = opened(max_sessions=3, clock=Clock())
    for name in "abc":
        store.update([(name, appended(b"1"))])
    store.update([("a", appended(b"2"))])  # now b is the oldest
    store.update([("d", appended(b"1"))])
    assert [value for value, _ in store.get(list("abcd"))] == [b"12", None, b"1", b"1"]
    assert (len(store), store.evicted) == (3, 1)
    store.update([(f"n{n}", appended(b"1")) for n in range(10)])
    assert (len(store), store.evicted) == (3, 11)


def test_session_is_over_after_its_time(opened: Opened) -> None:
    clock = Clock()
    store = opened(seconds=0.5, clock=clock)
    store.update([("a", appended(b"1")), ("b", appended(b"1"))])
    clock.now += 0.3
    time.sleep(0.3 if isinstance(store, RedisStore) else 0)
    store.update([("a", appended(b"2"))])
    clock.now += 0.3
    time.sleep(0.3 if isinstance(store, RedisStore) else 0)
    assert [value for value, _ in store.get(["a", "b"])] == [b"12", None]
    assert len(store) == 1
    assert store.update([("b", appended(b"new"))]) == [b"new"]
    assert store.evicted == 0


def test_no_change_of_many_threads_is_lost(opened: Opened) -> None:
    store = opened()

    def add(number: int) -> None:
        store.update([(f"s{number % 3}", appended(bytes([number]))), ("all", appended(b"."))])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(60)))
    (everything, _), *each = store.get(["all", "s0", "s1", "s2"])
    assert everything == b"." * 60
    assert sorted(b"".join(value for value, _ in each if value)) == list(range(60))


@pytest.mark.parametrize("session", ["", "x" * 401, None, 7])
def test_session_id_that_is_none_is_refused(opened: Opened, session: Any) -> None:
    store = opened()
    with pytest.raises(ValueError, match="A session id is text of 1 to 400 bytes"):
        store.update([(session, appended(b"1"))])
    store.update([("x" * 400, appended(b"1"))])


def test_store_of_impossible_bounds_is_refused(opened: Opened) -> None:
    for wrong in (0, float("nan"), "x", None):
        with pytest.raises(ValueError, match=f"seconds must be positive, got {wrong!r}"):
            opened(seconds=wrong)
    with pytest.raises(ValueError, match="max_sessions must be at least 1, got 0"):
        opened(max_sessions=0)


def test_memory_is_bounded_in_bytes() -> None:
    store = MemoryStore(max_bytes=10_000)
    for number in range(100):
        store.update([(f"s{number:02}", appended(b"v" * 100))])
        store.put_states([(f"s{number:02}", b"s" * 500)])
    assert store.num_bytes <= 10_000
    assert len(store) == 10_000 // (3 + 400 + 600)
    assert store.evicted == 100 - len(store)
    for number in range(100):
        store.delete(f"s{number:02}")
    assert store.num_bytes == 0


def test_full_file_of_lmdb_lets_the_oldest_go(tmp_path: Path) -> None:
    store = LMDBStore(tmp_path / "store", max_bytes=4 << 20)
    for number in range(2_000):
        store.update([(f"s{number}", appended(b"v" * 4_000))])
    assert store.get(["s1999"])[0][0] == b"v" * 4_000
    assert store.evicted > 1_000
    assert 100 < len(store) == 2_000 - store.evicted
    store.close()


def killed_while_writing(where: str) -> int:
    """Changes that a process saw answered before it was killed."""
    reads, writes = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, none of which it needs
        child = os.fork()
    if child == 0:
        store = open_named(where)
        for number in range(10_000):
            store.update([("s", appended(b"."))])
            os.write(writes, b".")
            if number == 200:
                os.kill(os.getpid(), signal.SIGKILL)
    os.close(writes)
    with os.fdopen(reads, "rb") as answered:
        count = len(answered.read())
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    return count


@pytest.mark.parametrize("kind", ["lmdb", "redis"])
def test_no_answered_change_is_lost_when_the_process_is_killed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    where = str(tmp_path / "store")
    if kind == "redis":
        where = request.getfixturevalue("redis_server").url
    assert killed_while_writing(where) == 201
    store = open_named(where)
    assert store.get(["s"])[0][0] == b"." * 201
    store.close()


def test_redis_that_is_gone_is_said_and_used_again_when_it_is_back() -> None:
    server = Server()
    store = RedisStore(server.url, timeout=0.5)
    store.update([("a", appended(b"1"))])
    server.stop()
    for call in (
        lambda: store.update([("a", appended(b"2"))]),
        lambda: store.get(["a"]),
        lambda: store.put_states([("a", b"s")]),
        store.check,
    ):
        with pytest.raises(StoreUnavailable, match=f"Redis at {server.url} does not answer"):
            call()
    server.start()
    store.check()
    assert store.update([("a", appended(b"3"))]) == [b"3"]
    server.stop()


@pytest.mark.parametrize(
    "url", ["redis://:secret@localhost:1/0", "redis://me:secret@localhost:1/0?password=secret"]
)
def test_password_of_a_store_stays_out_of_what_is_said(url: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        open_named(url).get(["a"])
    assert "Redis at redis://localhost:1/0 does not answer" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("where", ["", None, 5, "http://localhost", "Redis://localhost"])
def test_name_that_is_no_store_is_refused(where: Any) -> None:
    with pytest.raises(ValueError, match=r"redis://"):
        open_named(where)


@pytest.mark.parametrize(("kind", "module"), [("folder", "lmdb"), ("redis://h", "redis")])
def test_missing_library_of_a_store_names_the_command(
    kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"needs {module}.*pip install 'graphseq\[serving\]'"):
        open_named(str(tmp_path / kind) if kind == "folder" else kind)
