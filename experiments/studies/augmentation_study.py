"""Do augmentation and contrastive terms pay? Against the exact loss alone, the line to beat.

Every line is SASRec with the exact loss and the same epochs. Some change the clicks of training
samples, some add InfoNCE between two views of each session (CL4SRec, DuoRec). The price stands
beside the gain: a line that trains twice as long per epoch is held against the base with twice the
epochs, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from experiments.studies import study
from graphseq.data import (
    ClickDropout,
    CropToPrefix,
    ItemMask,
    OneOf,
    RandomCrop,
    SegmentReorder,
    Substitute,
)
from graphseq.evaluation import Report
from graphseq.training import Contrastive

BASE = "exact loss"
LONGER = "exact loss, twice the epochs"
SIZES = {"uci-eshop": (6000, 2500), "yoochoose1_64": (16_000, 3000), "diginetica": (20_000, 4000)}


def plan(options: argparse.Namespace) -> study.Plan:
    """SASRec with each change on one data set."""
    sizes = (300, 100) if options.quick else SIZES[options.dataset]
    split = study.bounded_split(options, *sizes)
    epochs = 1 if options.quick else 8
    fit = {"max_epochs": epochs, "batch_size": 64, "learning_rate": 0.004, "schedule": "linear"}
    arguments = {"hidden_channels": 48, "dropout": 0.2}
    changes = OneOf([RandomCrop(0.6), ItemMask(0.3), SegmentReorder(0.6)])
    extras: dict[str, dict[str, Any]] = {
        "crop to a prefix": {"augmentation": CropToPrefix()},
        "crop": {"augmentation": RandomCrop(0.8)},
        "click dropout": {"augmentation": ClickDropout(0.1)},
        "item mask": {"augmentation": ItemMask(0.1)},
        "reorder": {"augmentation": SegmentReorder(0.3)},
        "substitute": {"augmentation": Substitute(split.train, 0.1)},
        "cl4srec": {"auxiliary": [Contrastive(changes)]},
        "dropout views": {"auxiliary": [Contrastive(name="dropout")]},
        "duorec": {
            "auxiliary": [
                Contrastive(name="dropout"),
                Contrastive(same_target=True, name="same target"),
            ]
        },
    }
    if options.quick:
        extras = {line: extras[line] for line in ("item mask", "cl4srec")}
    line = ("sasrec", {"arguments": arguments, "fit": fit})
    lines: dict[str, Any] = {BASE: line}
    lines[LONGER] = ("sasrec", {"arguments": arguments, "fit": fit | {"max_epochs": 2 * epochs}})
    lines |= dict.fromkeys(extras, line)
    facts: dict[str, dict[str, Any]] = {name: {"family": name} for name in lines}
    pairs = [(name, BASE) for name in lines if name != BASE]
    bounded = (
        f"SASRec of width 48, {epochs} epochs; the newest {sizes[0]:,} training sessions, and "
        f"{sizes[1]:,} drawn of the test. One schedule and one strength of each change, untuned."
    )
    return study.Plan(split, lines, facts, pairs, bounded, extras=extras)


def finish(
    planned: study.Plan, content: dict[str, Any], reports: Mapping[str, list[Report]]
) -> None:
    """Adds what every line costs."""
    study.add_costs(planned, content)


def page(content: Mapping[str, Any]) -> str:
    """The changes against the exact loss."""
    return study.page_against(content, BASE)


def main(argv: list[str] | None = None) -> None:
    parser = study.arguments("experiments.studies.augmentation_study", __doc__, list(SIZES))
    options = parser.parse_args(argv)
    module = "experiments.studies.augmentation_study"
    content = study.run("augmentation_study", module, options, argv, plan, finish)
    study.plot_against(
        content, BASE, study.out_of("augmentation_study", options) / "augmentation_study.png"
    )


if __name__ == "__main__":
    main()
