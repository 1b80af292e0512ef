"""What all tests share: hypothesis without chance or clocks, and the marker of shared data."""

from __future__ import annotations

import os
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
"""Files and folders of tests that start processes or train: about two thirds of the time of all."""


def pytest_configure(config: pytest.Config) -> None:
    """The quick loop of a contributor draws fewer examples as well."""
    if config.getoption("markexpr") == "not slow":
        settings.load_profile("fast")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without GRAPHSEQ_DATA, tests of shared data are not part of the suite at all."""
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
    """Tests write thousands of folders; whether those outlive a power cut is not asked here."""
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
