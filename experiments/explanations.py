"""Checks explanations on held-out sessions, and on others whose causes are planted.

Deletion: a recommendation falls faster without the clicks that an explanation names than without
random ones. Counterfactuals: the fewest clicks without which it leaves the best ten, and whether as
many random clicks do the same. Planted causes: of generated sessions it is known which clicks
decide.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

import graphseq as gs
from experiments.lib.arguments import out_folder
from experiments.lib.results import command, fit_whole, said
from experiments.studies.study import bounded
from graphseq.comparison.record import machine, versions, write_json
from graphseq.explanations import counterfactual, deletion_curves, explain
from graphseq.explanations.explanation import Method
from graphseq.visualization.figures import BLUE, GRAY, INK, ORANGE, new_figure, save_figure

FAMILIES: dict[str, dict[str, Any]] = {
    "vsknn": {},
    "gru4rec": {"hidden_channels": 32},
    "sasrec": {"hidden_channels": 32},
    "srgnn": {"hidden_channels": 32},
}
METHODS: dict[str, tuple[Method, ...]] = {
    "vsknn": ("leave_one_out",),
    "gru4rec": ("leave_one_out", "integrated_gradients"),
    "sasrec": ("leave_one_out", "integrated_gradients"),
    "srgnn": ("leave_one_out", "integrated_gradients", "gnn_explainer"),
}
LENGTH = 6
"""Clicks of a session that is explained, its newest ones before the target."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.explanations", description=__doc__)
    parser.add_argument(
        "--dataset",
        choices=sorted(gs.data.DATASETS),
        help="deletion curves on its sessions (default: on those of the generator)",
    )
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--models", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--sessions", type=int, default=200, help="sessions explained per model")
    parser.add_argument("--newest", type=int, default=8000, help="training sessions, the newest")
    parser.add_argument("--planted", type=int, default=3000, help="sessions of the generator")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=out_folder, default=Path("runs/explanations"))
    return parser


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    with said():
        planted = gs.generate_sessions(options.planted, 64, pattern=0.4, loops=0.4, seed=0)
        parts = gs.session_split(planted, test_fraction=0.25, seed=0)
        split = parts
        if options.dataset is not None:
            split = bounded(gs.load_split(options.dataset, options.root), options.newest, None)
        curves, causes, undone = [], [], []
        for name in options.models:
            model = trained(name, parts, options.epochs)
            causes += [
                {"model": name, "method": method, **found}
                for method in METHODS[name]
                for found in causes_named(model, parts.test, method, options.sessions)
            ]
            if split is not parts:
                model = trained(name, split, options.epochs)
            held_out = [s[-LENGTH - 1 : -1] for s in split.test[:] if len(s) > LENGTH]
            for method in METHODS[name]:
                table = deletion_curves(model, held_out[: options.sessions], method=method)
                curves.append({"model": name, "method": method, "rows": table.to_dict("records")})
            undone.append({"model": name, **undoing(model, held_out[: options.sessions])})
    results = {
        "command": command("experiments.explanations", argv),
        "versions": versions(),
        "machine": machine(),
        "data": {
            "name": options.dataset or "generated",
            "fingerprint": split.test.fingerprint(),
        },
        "deletion": curves,
        "counterfactuals": undone,
        "planted": causes,
    }
    write_json(results, options.out / "explanations.json")
    draw(results, options.out / "explanations.png")


def trained(name: str, split: gs.Split, epochs: int) -> gs.models.SessionModel:
    model: gs.models.SessionModel = gs.models.MODELS[name](split.num_items, **FAMILIES[name])
    settings: dict[str, Any] = {"batch_size": 64, "learning_rate": 0.004, "schedule": "linear"}
    fit_whole(model, split, max_epochs=epochs, seed=0, progress=False, **settings)
    return model


def undoing(
    model: gs.models.SessionModel, sessions: Sequence[Sequence[Any]], draws: int = 5
) -> dict[str, float]:
    """How few clicks undo a first recommendation, and how often as many random ones do."""
    rng = np.random.default_rng(0)
    sizes, by_chance = [], []
    for session in sessions:
        found = counterfactual(model, session)
        if not found.found:
            continue
        kept = [
            np.sort(rng.permutation(len(session))[len(found.removed) :]).tolist()
            for _ in range(draws)
        ]
        lists = model.recommend([[session[place] for place in each] for each in kept], k=found.k)
        sizes.append(len(found.removed))
        by_chance.append(np.mean([found.item not in [i for i, _ in each] for each in lists]))
    return {
        "sessions": len(sessions),
        "undone": len(sizes) / len(sessions),
        "clicks": float(np.mean(sizes)),
        "one click": float(np.mean(np.array(sizes) == 1)),
        "random": float(np.mean(by_chance)),
    }


def causes_named(
    model: gs.models.SessionModel, sessions: gs.Sessions, method: Method, limit: int
) -> list[dict[str, Any]]:
    """How often the strongest clicks are the planted ones, where the model gets the rule right.

    Of a pattern the last two clicks decide, of a loop a click on the hub.
    """
    features = sessions.item_features
    assert features is not None
    role = dict(zip(sessions.vocabulary.ids, features["role"], strict=True))
    size = sum(each == "pattern" for each in role.values())
    found: dict[str, list[tuple[bool, float]]] = {"pattern": [], "loop": []}
    for session in sessions[:]:
        history, target = session[:-1][-LENGTH:], session[-1]
        if len(history) < 4 or min(map(len, found.values())) >= limit:
            continue
        number = len(history)
        kinds = [role[item] for item in history]
        rule = "pattern"
        if kinds[-2:] == ["pattern"] * 2 and (history[-1] + history[-2]) % size == target:
            planted = {number - 1, number - 2}
        elif kinds[-1] == "return" and history[:-1].count(target) >= 2:
            planted = {place for place in range(number) if history[place] == target}
            rule = "loop"
        else:
            continue
        if len(found[rule]) >= limit or model.recommend([history], k=1)[0][0][0] != target:
            continue
        order = explain(model, history, target, method=method).order().tolist()
        if rule == "pattern":
            share = 2 / (number * (number - 1))
            found[rule].append((set(order[:2]) == planted, share))
        else:
            found[rule].append((order[0] in planted, len(planted) / number))
    rows = []
    for rule, hits in found.items():
        if hits:
            named, chance = np.array(hits, dtype=float).T
            low, high = binomtest(int(named.sum()), len(named)).proportion_ci(method="wilson")
            rows.append(
                {
                    "rule": rule,
                    "cases": len(hits),
                    "named": float(named.mean()),
                    "interval": [low, high],
                    "chance": float(chance.mean()),
                }
            )
    return rows


def draw(results: dict[str, Any], path: Path) -> None:
    models = list(dict.fromkeys(curve["model"] for curve in results["deletion"]))
    figure = new_figure(3.4 * len(models), 3.6, constrained=True)
    axes = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    style = {
        "leave_one_out": (BLUE, "o-", "leave one out"),
        "integrated_gradients": (ORANGE, "s--", "integrated gradients"),
        "gnn_explainer": ("#009E73", "^:", "PyG's GNNExplainer"),
    }
    for ax, name in zip(axes, models, strict=True):
        for curve in (each for each in results["deletion"] if each["model"] == name):
            color, marker, label = style[curve["method"]]
            x = [row["deleted"] for row in curve["rows"]]
            ax.plot(x, [r["named"] for r in curve["rows"]], marker, color=color, label=label)
        random = np.array([row["random"] for row in curve["rows"]])
        half = np.array([(row["high"] - row["low"]) / 2 for row in curve["rows"]])
        ax.plot(x, random, "-", color=GRAY, label="random clicks")
        ax.fill_between(x, random - half, random + half, color=GRAY, alpha=0.25, linewidth=0)
        ax.set_title(name, fontsize=11, color=INK)
        ax.set_xlabel("clicks taken away", fontsize=9.5, color=GRAY)
        ax.set_xticks(x)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("mean reciprocal rank of the item", fontsize=9.5, color=GRAY)
    axes[0].set_ylim(0, 1.03)
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle("What is left of the first recommendation", fontsize=12, color=INK)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
