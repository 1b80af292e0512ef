"""Training a GRU over packed sessions: graphseq's passes over the steps beside ``torch.nn.GRU``.

``seconds`` are those of the processor for forward and backward of one batch, the median of the
repeats, which take turns. ``difference`` is the largest one between gradients of the two, as a
share of the largest gradient.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from graphseq.nn import PackedGRU

SHAPES = ((512, 5, 64), (128, 5, 100), (32, 160, 64), (32, 160, 128), (32, 160, 256))
"""Sessions, clicks of each, channels: short sessions of a shop, long histories of ratings."""


def step(gru: torch.nn.GRU, packed: PackedSequence, weights: Tensor) -> tuple[float, list[Tensor]]:
    """Seconds of one forward and backward, and the gradients."""
    gru.zero_grad()
    start = time.process_time()
    out = gru(packed)
    states = out.data if isinstance(gru, PackedGRU) else out[0].data
    states.backward(weights)
    seconds = time.process_time() - start
    return seconds, [p.grad.clone() for p in gru.parameters() if p.grad is not None]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    benchmark = Benchmark.start("experiments.benchmarks.packed_gru", argv)
    for sessions, clicks, channels in SHAPES:
        torch.manual_seed(0)
        ours = PackedGRU(channels, channels)
        peer = torch.nn.GRU(channels, channels)
        peer.load_state_dict(ours.state_dict())
        x = torch.randn(sessions * clicks, channels, requires_grad=True)
        packed = PackedSequence(x, torch.full((clicks,), sessions))
        weights = torch.randn(len(x), channels)
        pairs = [(step(ours, packed, weights), step(peer, packed, weights))]
        pairs += [
            (step(ours, packed, weights), step(peer, packed, weights))
            for _ in range(options.repeats)
        ]
        own, theirs = (statistics.median(pair[which][0] for pair in pairs[1:]) for which in (0, 1))
        gradients = zip(pairs[0][0][1], pairs[0][1][1], strict=True)
        benchmark.add(
            sessions=sessions,
            clicks=clicks,
            channels=channels,
            seconds=round(own, 4),
            torch_seconds=round(theirs, 4),
            faster=round(theirs / own, 2),
            difference=round(
                max(float((a - b).abs().max() / b.abs().max()) for a, b in gradients), 8
            ),
        )
    benchmark.finish(options.out / "packed_gru.json")


if __name__ == "__main__":
    main()
