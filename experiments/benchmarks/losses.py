"""Time and memory of the exact cross-entropy in blocks, against torch's linear + cross_entropy.

One step is loss and gradients. Time is measured by turns in this process, memory as the growth of
the peak of a fresh process that takes one step (Linux; in bytes of resident memory).
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from experiments.benchmarks.report import Benchmark
from graphseq.training.losses import full_cross_entropy

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
    else:
        loss = cross_entropy(linear(vectors, weight), targets)
    loss.backward()
    return loss.detach()


def seconds(name: str, inputs: Inputs) -> float:
    start = time.perf_counter()
    step(name, inputs)
    return time.perf_counter() - start


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
    parser.add_argument("--items", type=int, nargs="+", default=[40_000])
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[256, 512, 2048])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    benchmark = Benchmark.start("experiments.benchmarks.losses", argv)
    processes = multiprocessing.get_context("spawn")
    for num_items in options.items:
        for batch_size in options.batch_sizes:
            shape = (num_items, options.channels, batch_size)
            peaks = []
            for name in ("blocks", "plain"):
                with processes.Pool(1) as pool:
                    peaks.append(pool.apply(peak_bytes, (name, *shape)))
            inputs = make_inputs(*shape)
            torch.testing.assert_close(step("blocks", inputs), step("plain", inputs))
            pairs = [
                (seconds("blocks", inputs), seconds("plain", inputs))
                for _ in range(options.repeats)
            ]
            benchmark.add(
                num_items=num_items,
                channels=options.channels,
                batch_size=batch_size,
                seconds=round(statistics.median(pair[0] for pair in pairs), 4),
                plain_seconds=round(statistics.median(pair[1] for pair in pairs), 4),
                times_faster=round(statistics.median(b / a for a, b in pairs), 2),
                range=[round(f(b / a for a, b in pairs), 2) for f in (min, max)],
                peak_mb=round(peaks[0] / 1e6, 1),
                plain_peak_mb=round(peaks[1] / 1e6, 1),
                times_smaller=round(peaks[1] / peaks[0], 2),
            )
    benchmark.finish(options.out / "losses.json")


if __name__ == "__main__":
    main()
