"""Exploration against a simulation whose rewards are known: regret curves with bands.

Sessions come from the generator, and candidates from popularity. Each item has a true click rate of
its own, higher in sessions of its category; a policy shows one candidate per session and learns in
batches. Regret is what the best candidate would have earned, minus what the shown one earns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import Once, out_folder, seed_number
from experiments.lib.results import fit_whole
from graphseq.evaluation import doubly_robust, ips, snips
from graphseq.random import stream
from graphseq.serving.exploration import POLICIES, Choice, Explorer

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NUM_CATEGORIES = 5


class Simulation:
    """Sessions, candidates and the true click rate of each item in each session."""

    def __init__(self, rounds: int, seed: int) -> None:
        self.sessions = gs.generate_sessions(
            rounds, 200, num_categories=NUM_CATEGORIES, pattern=0.0, loops=0.0, seed=seed
        )
        assert self.sessions.item_features is not None
        names = self.sessions.item_features["category"].astype("category")
        self.category = names.cat.codes.to_numpy()
        random = stream("simulated_rewards", seed)
        self.rate = random.beta(1.0, 12.0, self.sessions.num_items)
        self.random = random
        last = self.sessions.items[self.sessions.ptr[1:] - 1]
        self.of_session = self.category[last]
        self.context = np.hstack([np.eye(NUM_CATEGORIES)[self.of_session], np.ones((rounds, 1))])

    def odds(self, round_: int, items: Any) -> Any:
        """True click rates of items in one session."""
        items = np.asarray(items, dtype=np.int64)
        return np.minimum(
            0.95, self.rate[items] + 0.25 * (self.category[items] == self.of_session[round_])
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies.exploration", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=20, help="sessions between two lessons")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument(
        "--seeds", nargs="+", type=seed_number, action=Once, default=[0, 1, 2, 3, 4]
    )
    parser.add_argument("--out", type=out_folder, default=Path("runs/exploration"))
    options = parser.parse_args(argv)
    benchmark = Benchmark.start("experiments.studies.exploration", argv)
    curves: dict[str, list[Any]] = {}
    for policy in POLICIES:
        ends, earned = [], []
        for seed in options.seeds:
            regret, rewards, _ = run(policy, options, seed)
            curves.setdefault(policy, []).append(np.cumsum(regret))
            ends.append(curves[policy][-1][-1])
            earned.append(rewards.mean())
        benchmark.add(
            policy=policy,
            seeds=len(ends),
            click_rate=f"{100 * np.mean(earned):.1f} %",
            regret=f"{np.mean(ends):.0f} ± {_half_width(ends):.0f}",
            regret_of_last_quarter=round(
                float(np.mean([c[-1] - c[3 * len(c) // 4] for c in curves[policy]])), 1
            ),
        )
    for row in off_policy(options):
        benchmark.add(**row)
    benchmark.finish(options.out / "results.json")
    draw(curves, options.out / "regret.png")


def run(
    policy: Any, options: argparse.Namespace, seed: int
) -> tuple[Any, Any, list[tuple[int, Choice, float]]]:
    """Regret and reward of each round, and the log of what was shown."""
    world = Simulation(options.rounds, seed)
    model = gs.models.Popularity(world.sessions.num_items)
    fit_whole(model, world.sessions)
    explorer = Explorer(
        model, policy, candidates=options.candidates, epsilon=0.1, alpha=0.5, seed=seed
    )
    regret, rewards, log = [], [], []
    for start in range(0, options.rounds, options.batch):
        rounds = range(start, min(start + options.batch, options.rounds))
        context = world.context[start : start + options.batch]
        lists = [[int(world.sessions.items[world.sessions.ptr[r + 1] - 1])] for r in rounds]
        choices = explorer.choose(lists, context if policy == "linucb" else None)
        gained = []
        for round_, choice in zip(rounds, choices, strict=True):
            odds = world.odds(round_, [choice.item])[0]
            reward = float(world.random.random() < odds)
            regret.append(world.odds(round_, choice.candidates).max() - odds)
            gained.append(reward)
            log.append((round_, choice, reward))
        rewards += gained
        items = [choice.item for choice in choices]
        explorer.learn(items, gained, context if policy == "linucb" else None)
    return np.array(regret), np.array(rewards), log


def off_policy(options: argparse.Namespace) -> list[dict[str, object]]:
    """Estimates from the log of the random policy, of one that shows the session's category."""
    world = Simulation(options.rounds, options.seeds[0])
    _, _, log = run("random", options, options.seeds[0])
    truth, reward, old, new, guess, guess_new = [], [], [], [], [], []
    mean = float(np.mean([r for *_, r in log]))
    for round_, choice, gained in log:
        items = np.asarray(choice.candidates, dtype=np.int64)
        fitting = world.category[items] == world.of_session[round_]
        wanted = fitting / fitting.sum() if fitting.any() else np.full(len(items), 1 / len(items))
        truth.append(float(wanted @ world.odds(round_, items)))
        place = list(choice.candidates).index(choice.item)
        reward.append(gained)
        old.append(choice.propensity)
        new.append(float(wanted[place]))
        guess.append(mean)
        guess_new.append(mean)
    rows = []
    for name, found in (
        ("IPS", ips(reward, old, new)),
        ("SNIPS", snips(reward, old, new)),
        ("doubly robust", doubly_robust(reward, old, new, guess, guess_new)),
    ):
        rows.append(
            {
                "estimate of a new policy": name,
                "value": round(found.value, 4),
                "interval": f"{found.low:.4f} to {found.high:.4f}",
                "truth": round(float(np.mean(truth)), 4),
                "holds": bool(found.low <= np.mean(truth) <= found.high),
                "earned by the log": round(mean, 4),
            }
        )
    return rows


def draw(curves: dict[str, list[Any]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for policy, runs in curves.items():
        several = np.stack(runs)
        rounds = np.arange(1, several.shape[1] + 1)
        (line,) = axes.plot(rounds, several.mean(0), label=policy.replace("_", " "))
        reach = 1.96 * several.std(0, ddof=1) / len(several) ** 0.5 if len(several) > 1 else 0
        axes.fill_between(
            rounds,
            several.mean(0) - reach,
            several.mean(0) + reach,
            alpha=0.2,
            color=line.get_color(),
        )
    axes.set(xlabel="sessions", ylabel="cumulative regret (clicks)", title="Exploration, simulated")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def _half_width(values: list[Any]) -> float:
    return 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
