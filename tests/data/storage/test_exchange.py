"""Folders that are exchanged atomically: complete at any time, even if a writer dies."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphseq.data.sessions.sessions import Sessions
from graphseq.data.storage import exchange

ONE, TWO = [["a", "b", "a"]] * 7, [["c", "d"], ["d"]] * 9


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of renaming a folder."""
    if request.param == "two renames":
        monkeypatch.setattr(exchange, "_exchange", lambda one, other: False)
    return str(request.param)


def replaced_meanwhile(folder: Path, turns: Callable[[], Any], times: int) -> list[Any]:
    """Repeated results of ``turns``, while another thread alternately saves one and two."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def save() -> None:
        kinds = [Sessions.from_lists(ONE), Sessions.from_lists(TWO)]
        try:
            while not stop.is_set():
                for sessions in kinds:
                    sessions.save(folder)
        except BaseException as error:
            errors.append(error)

    Sessions.from_lists(ONE).save(folder)
    thread = threading.Thread(target=save)
    thread.start()
    try:
        return [turns() for _ in range(times)]
    finally:
        stop.set()
        thread.join()
        assert errors == []


@pytest.mark.parametrize("verify", [True, False])
def test_readers_find_the_old_or_the_new_folder_whole(
    tmp_path: Path, way: str, verify: bool
) -> None:
    folder = tmp_path / "log"

    def read() -> list[list[Any]]:
        return Sessions.open(folder, verify=verify).to_lists()

    found = replaced_meanwhile(folder, read, 150)
    assert all(each in (ONE, TWO) for each in found)
    assert {str(each) for each in found} == {str(ONE), str(TWO)}
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_exchange_is_what_this_system_does(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert exchange._exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "file").read_text() == "b"


def test_kill_between_two_renames_is_mended_when_the_folder_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    Sessions.from_lists(ONE).save(folder)
    os.rename(folder, tmp_path / ".log.0123abcd.old")
    shutil.copytree(tmp_path / ".log.0123abcd.old", tmp_path / ".log.0123abcd.part")
    assert Sessions.open(folder).to_lists() == ONE
    Sessions.from_lists(TWO).save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_kill_between_two_renames_is_mended_when_the_folder_is_saved(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    Sessions.from_lists(ONE).save(folder)
    os.rename(folder, tmp_path / ".log.0123abcd.old")
    (tmp_path / ".log.0123abcd.old" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="choose"):
        Sessions.from_lists(TWO).save(folder)
    assert (folder / "mine.txt").read_text() == "mine"


def test_leftovers_of_the_living_stay_and_those_of_the_dead_go(tmp_path: Path) -> None:
    Sessions.from_lists(TWO).save(tmp_path / "log")
    for name in ("0000aaaa.part", "0000bbbb.part", "0000cccc.old"):
        (tmp_path / f".log.{name}").mkdir()
        (tmp_path / f".log.{name}" / "items.npy").write_bytes(b"half")
    (tmp_path / ".log.notes.part").mkdir()
    (tmp_path / ".other.0000aaaa.part").mkdir()
    living = os.open(tmp_path / ".log.0000bbbb.part", os.O_RDONLY)
    try:
        fcntl.flock(living, fcntl.LOCK_EX)
        Sessions.from_lists(ONE).save(tmp_path / "log")
    finally:
        os.close(living)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".log.0000bbbb.part", ".log.notes.part", ".other.0000aaaa.part", "log"]
    Sessions.from_lists(ONE).save(tmp_path / "log")
    assert not (tmp_path / ".log.0000bbbb.part").exists()


def test_what_comes_into_the_folder_while_it_is_replaced_is_not_lost(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "log"
    Sessions.from_lists(ONE).save(folder)
    make = exchange._make_part

    def made_as_another_file_comes(target: Path) -> tuple[Path, int]:
        (folder / "mine.txt").write_text("mine")
        return make(target)

    monkeypatch.setattr(exchange, "_make_part", made_as_another_file_comes)
    with pytest.raises(ValueError, match=r"holds mine\.txt besides saved sessions"):
        Sessions.from_lists(TWO).save(folder)
    assert (folder / "mine.txt").read_text() == "mine"
    assert Sessions.open(folder).to_lists() == ONE
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_rename_that_fails_gives_the_older_folder_its_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "log"
    Sessions.from_lists(ONE).save(folder)
    rename = os.rename

    def fail_for_new(source: Path, target: Path) -> None:
        if str(source).endswith(".part"):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(exchange, "_exchange", lambda one, other: False)
    monkeypatch.setattr(exchange.os, "rename", fail_for_new)
    with pytest.raises(ValueError, match="Permission denied"):
        Sessions.from_lists(TWO).save(folder)
    assert Sessions.open(folder).to_lists() == ONE
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_files_are_on_the_disk_before_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def told(handle: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))

    put = exchange._put
    monkeypatch.setattr(os, "fsync", told)
    monkeypatch.setattr(exchange, "_put", lambda *args: (done.append("rename"), put(*args)))
    Sessions.from_lists(ONE).save(tmp_path / "log")
    before = done[: done.index("rename")]
    assert {path.name for path in (tmp_path / "log").iterdir()} <= set(before)
    assert before[-2] == "sessions.json"
    assert before[-1].endswith(".part")
    assert done[done.index("rename") + 1 :] == [tmp_path.name]


def test_link_that_leads_nowhere_becomes_a_folder_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with pytest.raises(ValueError, match="There is no folder"):
        Sessions.open(tmp_path / "link")
    Sessions.from_lists(ONE).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert Sessions.open(tmp_path / "log").to_lists() == ONE
