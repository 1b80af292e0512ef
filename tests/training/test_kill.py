"""A training that is killed and goes on ends with the bits of one that never was."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from graphseq.training.lightning.checkpoints import read

PROGRAM = Path(__file__).with_name("killed_training.py")
Finished = Callable[[str], tuple[Path, int, str]]
WAYS = ("dropout", "row-sparse", "lanes", "foreign")


def programs(folder: Path) -> dict[str, list[str]]:
    return {"killed": [str(PROGRAM), str(folder / "killed")]}


@pytest.fixture(scope="module")
def trainings(finished: Finished) -> tuple[Path, dict[str, list[int]]]:
    folder, code, output = finished("killed")
    assert code == 0, output
    return folder / "killed", json.loads((folder / "killed" / "ends.json").read_text())


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal to the last bit, apart from times and the size of buffers."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            if not str(key).endswith("seconds"):
                assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}/{number}")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


@pytest.mark.parametrize("way", WAYS)
def test_killed_training_ends_bit_equal_to_one_that_never_was(
    way: str, trainings: tuple[Path, dict[str, list[int]]]
) -> None:
    folder, ends = trainings
    assert ends[way].count(signal.SIGKILL) >= 3
    whole, killed = folder / way / "whole", folder / way / "killed"
    for name in ("logs/metrics.csv", "history.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert_same(
        *(load_file(each / "model" / "weights.safetensors") for each in (killed, whole)), "model"
    )
    assert_same(*(read(each / "checkpoints" / "last.ckpt") for each in (killed, whole)))
    best = [json.loads((each / "best.json").read_text())[0] for each in (killed, whole)]
    assert best[0] == best[1]


@pytest.mark.parametrize("way", WAYS)
def test_killed_training_leaves_no_unfinished_file(
    way: str, trainings: tuple[Path, dict[str, list[int]]]
) -> None:
    files = [path.name for path in (trainings[0] / way / "killed" / "checkpoints").iterdir()]
    assert files == ["last.ckpt"]
