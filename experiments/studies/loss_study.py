"""Which loss? Sampled losses against the exact one, the line to beat, for the same model and steps.

Every line is the same network with the same epochs; the loss differs, and how many negatives it
draws. The exact loss compares each target with all items.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from experiments.studies import study
from graphseq.evaluation import Report

EXACT = "exact"
LOSSES: dict[str, Any] = {
    EXACT: "cross_entropy",
    "softmax 16": {"name": "sampled_softmax", "num_negatives": 16, "alpha": 0.75},
    "softmax 64": {"name": "sampled_softmax", "num_negatives": 64, "alpha": 0.75},
    "softmax 64, uniform": {"name": "sampled_softmax", "num_negatives": 64, "alpha": 0.0},
    "softmax, the batch's": {"name": "sampled_softmax", "num_negatives": 0, "in_batch": True},
    "bpr-max 64": {"name": "bpr_max", "num_negatives": 64, "alpha": 0.75},
    "top1-max 64": {"name": "top1_max", "num_negatives": 64, "alpha": 0.75},
    "bpr 64": {"name": "bpr", "num_negatives": 64, "alpha": 0.75},
    "bce 64": {"name": "bce", "num_negatives": 64, "alpha": 0.75},
    "gbce 64": {"name": "gbce", "num_negatives": 64, "alpha": 0.0},
}
SIZES = {"diginetica": (20_000, 4000), "uci-eshop": (8000, 2500), "yoochoose1_64": (16_000, 3000)}


def plan(options: argparse.Namespace) -> study.Plan:
    """GRU4Rec under each loss on one data set."""
    sizes = (300, 100) if options.quick else SIZES[options.dataset]
    split = study.bounded_split(options, *sizes)
    names = list(LOSSES)[:3] if options.quick else list(LOSSES)
    fit = {"max_epochs": 1 if options.quick else 6, "batch_size": 64, "learning_rate": 0.004}
    lines = {
        name: (
            "gru4rec",
            {
                "arguments": {"hidden_channels": 48, "dropout": 0.2},
                "fit": fit | {"schedule": "linear", "loss": LOSSES[name]},
            },
        )
        for name in names
    }
    facts: dict[str, dict[str, Any]] = {name: {"family": name} for name in names}
    pairs = [(name, EXACT) for name in names if name != EXACT]
    bounded = (
        f"GRU4Rec of width 48, {fit['max_epochs']} epochs; the newest {sizes[0]:,} training "
        f"sessions, and {sizes[1]:,} drawn of the test. One schedule for all losses, none tuned."
    )
    return study.Plan(split, lines, facts, pairs, bounded)


def finish(
    planned: study.Plan, content: dict[str, Any], reports: Mapping[str, list[Report]]
) -> None:
    """Adds what every line costs."""
    study.add_costs(planned, content)


def page(content: Mapping[str, Any]) -> str:
    """The losses against the exact one."""
    return study.page_against(content, EXACT)


def main(argv: list[str] | None = None) -> None:
    parser = study.arguments("experiments.studies.loss_study", __doc__, list(SIZES))
    options = parser.parse_args(argv)
    module = "experiments.studies.loss_study"
    content = study.run("loss_study", module, options, argv, plan, finish)
    study.plot_against(content, EXACT, study.out_of("loss_study", options) / "loss_study.png")


if __name__ == "__main__":
    main()
