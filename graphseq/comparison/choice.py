"""Chooses models for a log without settings, and their training time."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from math import floor, log2
from typing import Any

import numpy as np

from graphseq.arguments import check_positive
from graphseq.comparison.entries import Entry
from graphseq.comparison.settings_file import Settings
from graphseq.data.sessions.features import feature_specs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.splits import Split
from graphseq.evaluation.evaluate import evaluate
from graphseq.models import MODELS, suggest
from graphseq.random import stream
from graphseq.training.fit import fit

logger = logging.getLogger(__name__)

COUNTED = ("popularity", "markov", "sequential_rules")
"""Counting families in any comparison: they train in seconds and are hard to beat."""

MOST_TRAINED = 3
"""Maximum number of trained families."""

PILOT_CLICKS, PILOT_TARGETS = 3_000, 1_000
"""Number of clicks of a pilot training, and of targets of a pilot ranking."""

CLICKS_SEEN, MOST_EPOCHS = 1_500_000, 30
"""Small logs get more epochs than the default settings: up to this many clicks in total, and at
most this many epochs. The validation part stops a training that no longer improves."""

STEPS = 200
"""Batches are made smaller until an epoch has this many, down to :data:`SMALLEST_BATCH`."""

SMALLEST_BATCH = 32

MANY_ITEMS = 10_000
"""Number of items from which training uses drawn negatives: the exact loss takes too long here."""


def choose(split: Split, seconds: float = 75.0, *, seeds: int = 1, seed: int = 0) -> list[Entry]:
    """Lines for a comparison on any log: counting models, and trained models that suit it.

    The trained families are the suggestions of :func:`graphseq.models.use.suggest`, and SR-GNN. A
    pilot run of each on a few thousand clicks measures how long an epoch takes; as many epochs are
    run as fit into the time. A family is left out with a warning if not even one epoch fits.

    Args:
        split: The parts.
        seconds: Approximate time for the pilots, and for training and ranking of these families.
        seeds: Number of runs of each model.
        seed: Seed of the sample for the pilots.

    Returns:
        The lines, counting models first.

    Raises:
        ValueError: If ``seconds`` is not positive.
    """
    check_positive(seconds=seconds)
    started = time.perf_counter()
    known = Settings.for_dataset("default")
    names = [name for name in suggest(split.train, seed=seed).start_with if name not in COUNTED]
    names = list(dict.fromkeys(["srgnn", *names]))[:MOST_TRAINED]
    pilots = []
    for name in names:
        (entry,) = known.select([name])
        entry = _for_size(entry, split)
        if name == "bst":
            entry = replace(entry, arguments={**entry.arguments, **_features(split.train)})
        if split.num_items >= MANY_ITEMS:
            loss = {"name": "sampled_softmax", "num_negatives": 1024, "alpha": 0.75}
            entry = _with(entry, loss=loss)
        pilots.append((*_pilot(entry, split, seed), entry))
    pilots.sort(key=lambda pilot: pilot[:2])  # time that a fast family leaves goes to the others
    left = (seconds - (time.perf_counter() - started)) / max(1, seeds)
    trained: dict[str, Entry] = {}
    for place, (epoch, ranking, entry) in enumerate(pilots):
        share = max(0.0, left / (len(pilots) - place))
        epochs = floor(min((share - ranking) / epoch, entry.training.max_epochs))
        if epochs < 1:
            logger.warning(
                "%s is left out: an epoch takes about %.0f s and the ranking %.0f s, of %.0f s; "
                "name it, or give more time.",
                entry.name,
                epoch,
                ranking,
                share,
            )
            continue
        left -= epochs * epoch + ranking
        trained[entry.model] = _with(entry, max_epochs=epochs)
    return [*known.select(COUNTED), *(trained[name] for name in names if name in trained)]


def _for_size(entry: Entry, split: Split) -> Entry:
    """The line with epochs and batch size for this many clicks."""
    family, training = MODELS[entry.model], entry.training
    of_prefixes = family.samples == "prefixes"
    samples = split.train.num_targets if of_prefixes else split.train.num_sessions
    batch_size = 2 ** floor(log2(max(SMALLEST_BATCH, samples / STEPS)))
    epochs = min(MOST_EPOCHS, CLICKS_SEEN // split.train.num_clicks)
    return _with(
        entry,
        batch_size=min(batch_size, training.batch_size),
        max_epochs=max(epochs, training.max_epochs),
    )


def _with(entry: Entry, **changed: Any) -> Entry:
    return replace(entry, fit={**entry.fit, **changed})


def _pilot(entry: Entry, split: Split, seed: int) -> tuple[float, float]:
    """Approximate seconds of an epoch, including validation, and of ranking the test part."""
    train = _sample(split.train, split.train.num_clicks, PILOT_CLICKS, seed)
    test = _sample(split.test, split.test.num_targets, PILOT_TARGETS, seed)
    model = entry.new_model(split.num_items, seed)
    fitted = fit(model, train, entry.training, max_epochs=2, seed=seed, progress=False)
    epoch = float(fitted.history["seconds"].min()) * split.train.num_clicks / train.num_clicks
    a_target = evaluate(model, test).seconds / test.num_targets
    validated = 0 if split.validation is None else split.validation.num_targets
    return max(epoch + validated * a_target, 1e-3), split.test.num_targets * a_target


def _sample(sessions: Sessions, size: int, wanted: int, seed: int) -> Sessions:
    """Whole sessions with about this many of ``size`` clicks or targets, drawn by the seed."""
    if size <= wanted:
        return sessions
    number = max(2, round(sessions.num_sessions * wanted / size))
    drawn = stream("part_to_time", seed).choice(sessions.num_sessions, number, replace=False)
    part = sessions.select(np.sort(drawn))
    return part if part.num_targets else sessions


def _features(train: Sessions) -> dict[str, object]:
    """The features for a family that reads side features: all features of clicks, else of items."""
    of_items = [] if train.item_features is None else [str(name) for name in train.item_features]
    of_clicks = [name for name in train.click_features if name not in of_items]
    return {**feature_specs(train, click=of_clicks, item=of_items)}
