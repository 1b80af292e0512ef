"""Ends of a training of two processes that one of them brings about: all end, nobody waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from graphseq.training.lightning.checkpoints import read

SCRIPT = Path(__file__).with_name("train_ended.py")

Finished = Callable[[str], tuple[Path, int, str]]
Ended = tuple[Path, int, int, list[dict[str, Any]]]


STARTERS = ("launch-1", "torchrun-0")
"""How both processes are started, and the process that ends them."""


def programs(folder: Path) -> dict[str, list[str]]:
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port={port}"]
    return {
        starter: [
            *(torchrun if starter.startswith("torchrun") else []),
            str(SCRIPT),
            str(folder / starter),
            starter[-1],
            *(["launch"] if starter.startswith("launch") else []),
        ]
        for starter in STARTERS
    }


@pytest.fixture(scope="module", params=STARTERS)
def ended(request: pytest.FixtureRequest, finished: Finished) -> Ended:
    """The folder, the process that ended trainings, how the program ended, what each found."""
    folder, code, output = finished(request.param)
    out = folder / request.param
    paths = [out / f"{rank}.json" for rank in (0, 1)]
    assert all(path.exists() for path in paths), output
    return out, int(request.param[-1]), code, [json.loads(path.read_text()) for path in paths]


def test_interrupt_of_one_process_ends_both_after_the_same_step(ended: Ended) -> None:
    _, _, _, found = ended
    assert [each["stopped"]["interrupted"] for each in found] == [True, True]
    assert found[0]["stopped"]["weights"] == found[1]["stopped"]["weights"]
    assert found[0]["position"] == [1, 3]  # the step in work was finished


def test_interrupted_training_of_two_goes_on_bit_equal(ended: Ended) -> None:
    _, _, _, found = ended
    for each in found:
        assert each["resumed"] == each["whole"] == found[0]["whole"]
        assert each["stopped"]["weights"] != each["whole"]["weights"]


def test_loss_of_one_process_that_is_no_number_ends_both_and_keeps_its_batch(
    ended: Ended,
) -> None:
    out, ending, _, found = ended
    assert "The loss is nan in epoch 2, step 2" in found[0]["error"]
    assert f"The batch of process {ending} lies in" in found[0]["error"]
    assert found[1]["error"] == found[0]["error"]
    ((kept,), others) = found[ending]["spoilt"], found[1 - ending]["spoilt"]
    assert load_file(out / "no number" / "not_finite_batch.safetensors")["y"].tolist() == kept
    assert others == []


def test_second_interrupt_ends_the_program_and_leaves_the_last_checkpoint(ended: Ended) -> None:
    out, _, code, _ = ended
    assert code != 0
    assert not list(out.glob("*.went-on"))
    state = read(out / "twice" / "checkpoints" / "last.ckpt")
    progress = state["session_training"]
    assert (len(progress["history"]), progress["step"]) == (1, 0)
