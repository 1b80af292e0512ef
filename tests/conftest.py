"""Shared by all tests: deterministic hypothesis, markers, and programs that run in the
background."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import pytest
from hypothesis import settings

matplotlib.use("Agg")
settings.register_profile("graphseq", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("fast", settings.get_profile("graphseq"), max_examples=10)
settings.load_profile("graphseq")

SLOW = (
    "commands/test_command_line.py",
    "comparison/test_compare.py",
    "comparison/test_tuning.py",
    "data/loading/test_shard_loader.py",
    "data/loading/test_shards.py",
    "data/logs/test_conversion.py",
    "data/logs/test_source.py",
    "experiments/",
    "serving/test_onnx.py",
    "test_readme.py",
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
    """Marks slow tests; without GRAPHSEQ_DATA, tests of shared data are deselected."""
    here = Path(__file__).resolve().parent
    for item in items:
        name = item.path.relative_to(here).as_posix() if here in item.path.parents else ""
        if name.startswith(SLOW):
            item.add_marker("slow")
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


@pytest.fixture(scope="session", autouse=True)
def programs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, subprocess.Popen[bytes]] | None]:
    """Starts the programs of later tests in the background, because importing torch is slow.

    A module lists them in ``programs(folder)``: name -> arguments of Python, in which ``{port}``
    stands for a free port. Its tests ask for them by :func:`finished`.
    """
    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    needed = {test.module for test in tests if "finished" in test.fixturenames}
    if not needed:
        yield None
        return
    folder = tmp_path_factory.mktemp("programs")
    root = Path(__file__).resolve().parent.parent
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    listed = [
        (name, arguments, environment)
        for module in sorted(needed, key=lambda module: str(module.__file__))
        for name, arguments in module.programs(folder).items()
    ]
    assert len({name for name, _, _ in listed}) == len(listed)
    (folder / "programs.json").write_text(json.dumps(listed))
    runner = subprocess.Popen(
        [sys.executable, str(root / "tests" / "programs.py"), str(folder / "programs.json")],
        start_new_session=True,
    )
    yield folder, runner
    runner.terminate()
    runner.wait()


@pytest.fixture(scope="session")
def finished(programs: tuple[Path, subprocess.Popen[bytes]]) -> Finished:
    """Waits for a program: the folder of all programs, its exit code and the end of its output."""
    folder, runner = programs

    def wait(name: str) -> tuple[Path, int, str]:
        result = folder / f"{name}.json"
        while not result.exists():
            assert runner.poll() is None or result.exists(), f"{name} has not ended in 600 s"
            time.sleep(0.05)
        code, output = json.loads(result.read_text())
        return folder, code, output

    return wait
