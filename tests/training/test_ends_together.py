"""Ends of a training of two processes that one of them brings about: all end, nobody waits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from graphseq.training.lightning.checkpoints import read

SCRIPT = Path(__file__).with_name("train_ended.py")

Ended = tuple[Path, int, int, list[dict[str, Any]]]


@pytest.fixture(scope="module", params=["launch-1", "torchrun-0"])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The folder, the process that ended trainings, how the program ended, what each found."""
    starter, ending = request.param.split("-")
    out = tmp_path_factory.mktemp(starter)
    command = [str(SCRIPT), str(out), ending]
    if starter == "launch":
        command.append("launch")
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ["--nproc-per-node=2", f"--master-port={port}"]
        command = ["-m", "torch.distributed.run", *options, *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run(  # one that hangs runs into the limit
        [sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    paths = [out / f"{rank}.json" for rank in (0, 1)]
    assert all(path.exists() for path in paths), done.stderr[-4000:]
    return out, int(ending), done.returncode, [json.loads(path.read_text()) for path in paths]


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
