"""Time and memory of the exact cross-entropy in blocks, against two ways of torch.

``plain`` is ``linear`` and ``cross_entropy``; ``chunked`` is ``torch.nn.functional``'s
``linear_cross_entropy`` with chunks of 128 rows, by default its own choice is far slower on a CPU.

One step is loss and gradients. Time is measured by turns in this process, in seconds of the
processor, which other programs do not change; memory as the growth of the peak of a fresh process
that takes one step (Linux; in bytes of resident memory).
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import cross_entropy, linear

from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from graphseq.training.losses import full_cross_entropy

WAYS = ("blocks", "chunked", "plain")

CHUNKS = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=128)
"""The fastest of 64 to 512 rows on the machine of the results."""

Inputs = tuple[Tensor, Tensor, Tensor]


def make_inputs(num_items: int, channels: int, batch_size: int) -> Inputs:
    """Vectors and item table as after a first epoch, and targets."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(batch_size, channels, generator=generator) * 0.3
    weight = torch.randn(num_items, channels, generator=generator) * 0.3
    targets = torch.randint(num_items, (batch_size,), generator=generator)
    return vectors.requires_grad_(), weight.requires_grad_(), targets


def step(name: str, inputs: Inputs) -> Tensor:
    vectors, weight, targets = inputs
    vectors.grad = weight.grad = None
    if name == "blocks":
        loss = full_cross_entropy(vectors, weight, targets)
    elif name == "chunked":
        loss = functional.linear_cross_entropy(vectors, weight, targets, options=CHUNKS)
    else:
        loss = cross_entropy(linear(vectors, weight), targets)
    loss.backward()
    return loss.detach()


def seconds(name: str, inputs: Inputs) -> float:
    start = time.process_time()
    step(name, inputs)
    return time.process_time() - start


def peak_bytes(name: str, num_items: int, channels: int, batch_size: int) -> int:
    """What one step adds to the peak of resident memory; to be called in a fresh process."""
    step(name, make_inputs(64, channels, 8))  # libraries load their own memory at first use
    inputs = make_inputs(num_items, channels, batch_size)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = peak_resident_bytes()
    step(name, inputs)
    return peak_resident_bytes() - before


def peak_resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[17_376, 43_097])
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[256, 512, 2048])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    benchmark = Benchmark.start("experiments.benchmarks.losses", argv)
    processes = multiprocessing.get_context("spawn")
    for num_items in options.items:
        for batch_size in options.batch_sizes:
            shape = (num_items, options.channels, batch_size)
            peaks = {}
            for name in WAYS:
                with processes.Pool(1) as pool:
                    peaks[name] = pool.apply(peak_bytes, (name, *shape))
            inputs = make_inputs(*shape)
            for name in WAYS[1:]:
                torch.testing.assert_close(step("blocks", inputs), step(name, inputs))
            turns = [{n: seconds(n, inputs) for n in WAYS} for _ in range(options.repeats)]
            row: dict[str, object] = {"num_items": num_items, "channels": options.channels}
            row["batch_size"] = batch_size
            for name in WAYS:
                label = "" if name == "blocks" else f"{name}_"
                row[f"{label}seconds"] = round(statistics.median(t[name] for t in turns), 4)
                row[f"{label}peak_mb"] = round(peaks[name] / 1e6, 1)
            for name in WAYS[1:]:
                ratios = [turn[name] / turn["blocks"] for turn in turns]
                row[f"faster_than_{name}"] = round(statistics.median(ratios), 2)
            benchmark.add(**row)
    benchmark.finish(options.out / "losses.json")


if __name__ == "__main__":
    main()
