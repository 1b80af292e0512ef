"""What all tests share: hypothesis without chance or clocks, and the marker of shared data."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import pytest
from hypothesis import settings

matplotlib.use("Agg")
settings.register_profile("graphseq", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("graphseq")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without GRAPHSEQ_DATA, tests of shared data are not part of the suite at all."""
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
    assert root.is_dir(), f"GRAPHSEQ_DATA names {root}, which is no folder."
    return root


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent
