"""``make test-fast`` leaves out slow tests, and nothing else."""

from __future__ import annotations

from pathlib import Path

from hypothesis import settings

from tests.conftest import SLOW

HERE = Path(__file__).resolve().parent


def test_listed_files_of_slow_tests_exist() -> None:
    assert [name for name in SLOW if not (HERE / name).exists()] == []


def test_quick_loop_draws_fewer_examples() -> None:
    assert settings.get_profile("fast").max_examples < settings.get_profile("graphseq").max_examples
