"""Causal estimates beside a planted effect: does the interval hold the truth?

Three questions, each in worlds of the generator whose answer is known. What would people click if
all items were shown as often (weights against popularity, in the loss and in the metric)? What does
a recommendation add (doubly robust, on the log of a policy that shows it to the eager)? What if a
click had not been? Each estimate stands beside the plain one that ignores the cause.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.results import fit_whole
from graphseq.data.sessions.generate import STAY, STRENGTH
from graphseq.evaluation import Protocol, click_effect, debiased, uplift
from graphseq.random import stream

METRIC = "hr@20"
CATEGORIES = 10
WALKED = 5
"""Items of a pattern session in a catalog of 40: the next is the sum of the last two, modulo 5."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies.causal", description=__doc__
    )
    parser.add_argument("--sessions", type=int, default=16_000, help="of a log, and of a test part")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1, 2])
    parser.add_argument("--out", type=out_folder, default=Path("runs/causal"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    benchmark = Benchmark.start("experiments.studies.causal", argv)
    for question in (popularity, recommendation, click):
        for seed in options.seeds:
            for name, value, (low, high), truth in question(options, seed):
                benchmark.add(
                    question=question.__doc__,
                    estimate=name,
                    seed=seed,
                    value=round(value, 4),
                    interval=f"{low:.4f} to {high:.4f}",
                    truth=round(truth, 4),
                    holds="yes" if low <= truth <= high else "no",
                )
            benchmark.write(options.out / "results.json")
    benchmark.finish(options.out / "results.json")


Row = tuple[str, float, tuple[float, float], float]
"""An estimate: its name, value, interval, and the truth."""


def fitted(sessions: gs.Sessions, seed: int, epochs: int, **options: Any) -> gs.models.SessionModel:
    torch.manual_seed(seed)
    model = gs.models.GRU4Rec(sessions.num_items, hidden_channels=32)
    more: dict[str, Any] = {
        "batch_size": 128,
        "learning_rate": 0.005,
        "seed": seed,
        "progress": False,
    }
    fit_whole(model, sessions, max_epochs=epochs, **more, **options)
    return model


def popularity(options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """items shown as often"""
    # Sessions stay in a category; its items, and the categories, are clicked by a Zipf law.
    log, test = (
        gs.generate_sessions(
            options.sessions,
            200,
            num_categories=CATEGORIES,
            drift=0.0,
            repeats=0.0,
            pattern=0.0,
            loops=0.0,
            seed=2 * seed + number,
        )
        for number in (0, 1)
    )
    logged, even = shown_evenly(test, seed)
    for name, loss in (
        ("trained on clicks", gs.CrossEntropy()),
        ("trained against popularity", gs.CrossEntropy(exposure=1.0)),
    ):
        model = fitted(log, seed, options.epochs, loss=loss)
        report, true = (
            gs.evaluate(model, part, ks=(20,), protocol=Protocol(targets="last"))
            for part in (logged, even)
        )
        found = debiased(report, METRIC, exponent=1.0)
        truth = true.metrics[METRIC]
        plain = report.metrics[METRIC], report.confidence_interval(METRIC)
        yield f"{METRIC} {name}, plain", *plain, truth
        yield f"{METRIC} {name}, debiased", found.value, (found.low, found.high), truth


def shown_evenly(test: gs.Sessions, seed: int) -> tuple[gs.Sessions, gs.Sessions]:
    """Sessions whose category is plain, as logged, and with a last click as if shown evenly.

    The second holds as many sessions of each category; their last click is drawn by the rule of
    the generator, which treats all items and categories the same.
    """
    assert test.item_features is not None
    category = test.item_features["category"].cat.codes.to_numpy()
    last = test.ptr[1:] - 1
    before = np.ones(test.num_clicks, dtype=bool)
    before[last] = False
    clicks = np.zeros((len(test), CATEGORIES))
    np.add.at(clicks, (test.session_index[before], category[test.items[before]]), 1)
    length = clicks.sum(1)
    plain = (length >= 3) & (clicks.max(1) >= length * 2 / 3)
    own = clicks.argmax(1)
    random = stream("simulated_rewards", seed)
    number = len(test) // CATEGORIES
    rows = np.concatenate(
        [random.choice(np.flatnonzero(plain & (own == c)), number) for c in range(CATEGORIES)]
    )
    chosen = test.select(rows)
    stays = random.random(len(rows)) < STAY
    wanted = np.where(stays, own[rows], random.integers(CATEGORIES, size=len(rows)))
    of_category = np.argsort(category, kind="stable").reshape(CATEGORIES, -1)
    items = chosen.items.copy()
    place = random.integers(of_category.shape[1], size=len(rows))
    items[chosen.ptr[1:] - 1] = of_category[wanted, place]
    return test.select(np.flatnonzero(plain)), replace(chosen, items=items)


def recommendation(options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """what a recommendation adds"""
    # Sessions with many clicks buy more anyway, and the logged policy shows them more.
    sessions = gs.generate_sessions(options.sessions, 300, num_categories=CATEGORIES, seed=seed)
    random = stream("simulated_rewards", seed)
    eager = np.minimum(sessions.lengths, 20) / 20
    assert sessions.item_features is not None
    category = sessions.item_features["category"].cat.codes.to_numpy()
    last = category[sessions.items[sessions.ptr[1:] - 1]]
    effect = 0.02 + 0.02 * last  # planted, by the category of the last click
    propensity = 0.1 + 0.8 * eager
    shown = (random.random(len(sessions)) < propensity).astype(np.float64)
    bought = (random.random(len(sessions)) < 0.05 + 0.4 * eager + effect * shown).astype(np.float64)
    truth = float(effect.mean())
    with_it, without = bought[shown == 1], bought[shown == 0]
    error = float(np.sqrt(with_it.var() / len(with_it) + without.var() / len(without)))
    plain = float(with_it.mean() - without.mean())
    yield "plain difference", plain, (plain - 1.96 * error, plain + 1.96 * error), truth
    design = np.stack([np.ones_like(eager), eager, last], axis=1)
    one, none = (
        design @ np.linalg.lstsq(design[shown == t], bought[shown == t])[0] for t in (1, 0)
    )
    for name, chance, predictions in (
        ("propensities alone", propensity, (0.0, 0.0)),
        ("doubly robust", propensity, (one, none)),
        ("doubly robust, wrong propensities", np.full_like(propensity, 0.5), (one, none)),
        ("doubly robust, wrong predictions", propensity, (0.5, 0.5)),
        ("both wrong", np.full_like(propensity, 0.5), (0.5, 0.5)),
    ):
        found = uplift(bought, shown, chance, *predictions)
        yield name, found.value, (found.low, found.high), truth


def click(options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """what if a click had not been"""
    walks = [
        gs.generate_sessions(options.sessions, 40, pattern=1.0, loops=0.0, seed=2 * seed + number)
        for number in (0, 1)
    ]
    model = fitted(walks[0], seed, 4 * options.epochs)
    for back in (1, 2, 3):
        found = click_effect(model, walks[1], back)
        truth = planted(walks[1], back)
        yield f"walk, {back} before the last", found.difference, (found.low, found.high), truth
    # Browsing sessions have an interest that moves all their clicks; no click moves another.
    browsing = [
        gs.generate_sessions(
            options.sessions, 40, pattern=0.0, loops=0.0, repeats=0.0, seed=2 * seed + number
        )
        for number in (0, 1)
    ]
    found = click_effect(fitted(browsing[0], seed, options.epochs), browsing[1], 1)
    yield "hidden interest, 1 before the last", found.difference, (found.low, found.high), 0.0


def planted(walks: gs.Sessions, back: int) -> float:
    """The mean effect that the generator's rule gives the click ``back`` before the last."""
    effects = []
    for items in np.split(walks.items, walks.ptr[1:-1]):
        if len(items) >= max(back + 1, 3):
            history = items[:-1]
            effects.append(
                chance(history, items[-1]) - chance(np.delete(history, -back), items[-1])
            )
    return float(np.mean(effects))


def chance(history: NDArray[Any], item: int) -> float:
    """The probability of an item after these clicks of a walk."""
    if len(history) < 2:
        return 1 / WALKED
    follows = (history[-1] + history[-2]) % WALKED == item
    return STRENGTH * float(follows) + (1 - STRENGTH) / WALKED


if __name__ == "__main__":
    main()
