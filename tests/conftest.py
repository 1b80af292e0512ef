"""Shared by all tests: deterministic hypothesis, markers, and programs that tests run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import pytest
from hypothesis import settings

# A job in the background of a shell ignores Ctrl-C, and so would all programs that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before torch is imported: the tensors of tests are small, threads of OpenMP cost more than they
# gain, and one process per core runs beside this one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
ENVIRONMENT = dict(os.environ)  # later, trainings in this process leave their rank and port in it
matplotlib.use("Agg")
settings.register_profile("graphseq", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("fast", settings.get_profile("graphseq"), max_examples=10)
settings.load_profile("graphseq")

SLOW = (
    "commands/test_command_line.py",
    "commands/test_serve.py",
    "comparison/test_compare.py",
    "comparison/test_tuning.py",
    "data/loading/test_shard_loader.py",
    "data/loading/test_shards.py",
    "data/logs/test_conversion.py",
    "data/logs/test_source.py",
    "experiments/",
    "serving/test_onnx.py",
    "serving/test_page.py",
    "test_deprecation.py",
    "test_readme.py",
    "test_serving_page.py",
    "test_training_page.py",
    "training/lightning/",
    "training/test_ends_together.py",
    "training/test_fit.py",
    "training/test_fit_augmented.py",
    "training/test_fit_shards.py",
    "training/test_interruption.py",
    "training/test_kill.py",
    "training/test_optimisation.py",
)
"""Files and folders of tests that start processes or train: about two thirds of the total time."""


def pytest_configure(config: pytest.Config) -> None:
    """``make test-fast`` also uses fewer hypothesis examples."""
    if config.getoption("markexpr") == "not slow":
        settings.load_profile("fast")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks slow tests; without GRAPHSEQ_DATA, tests of shared data are deselected.

    Slow ones come first, so that no process of pytest-xdist is left alone with one at the end.
    """
    here = Path(__file__).resolve().parent
    for item in items:
        name = item.path.relative_to(here).as_posix() if here in item.path.parents else ""
        if name.startswith(SLOW):
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if os.environ.get("GRAPHSEQ_DATA"):
        return
    without = [item for item in items if item.get_closest_marker("data")]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if not item.get_closest_marker("data")]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests write thousands of folders; they do not test durability after a power cut."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the shared data sets."""
    root = Path(os.environ["GRAPHSEQ_DATA"])
    assert root.is_dir(), f"GRAPHSEQ_DATA names {root}, which is not a folder."
    return root


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


Finished = Callable[[str], tuple[Path, int, str]]


@pytest.fixture(scope="module")
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Runs a program of the module, once: its folder, its exit code and the end of its output.

    A module lists them in ``programs(folder)``: name -> arguments of Python, in which ``{port}``
    stands for a free port. The processes that a program leaves behind end with it.
    """
    folder = tmp_path_factory.mktemp("programs")
    listed: dict[str, list[str]] = request.module.programs(folder)
    root = str(Path(__file__).resolve().parent.parent)

    @cache
    def run(name: str) -> tuple[Path, int, str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        running = subprocess.Popen(
            [sys.executable, *(each.replace("{port}", port) for each in listed[name])],
            env={**ENVIRONMENT, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        )
        try:
            output, _ = running.communicate(timeout=600)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
        return folder, running.returncode, output[-20_000:]

    return run
