"""Searches the settings of a family with Optuna, on the validation part alone.

The test part is never ranked. The study lies in study.db under --out and goes on with --resume;
best.json there is a settings file: python -m experiments.compare --settings OUT/best.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import graphseq as gs
from experiments.protocol import Entry, Protocol, part_size
from experiments.results import Results, command, write_json
from experiments.spaces import Space, base_of

NOTE = "Metrics are of the validation part; the test part was not ranked."


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.tune", description=__doc__)
    parser.add_argument("--dataset", default="movielens-small", choices=sorted(gs.data.DATASETS))
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--model", required=True, help="a family, or a line of the settings")
    parser.add_argument("--trials", type=int, default=30, help="trials in all, those before too")
    parser.add_argument("--epochs", type=int, default=10, help="most epochs of a trial")
    parser.add_argument("--monitor", default="mrr@20", help="the metric that is maximised")
    parser.add_argument("--validation", type=part_size, help="as in experiments.compare")
    parser.add_argument("--space", type=Path, help="a file in place of experiments/spaces")
    parser.add_argument("--settings", type=Path, help="a file in place of experiments/settings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/tune"))
    parser.add_argument("--resume", action="store_true", help="go on with the study in --out")
    return parser


def main(argv: list[str] | None = None) -> None:
    options = arguments().parse_args(argv)
    optuna = _optuna()
    protocol = Protocol.read(options.dataset, options.settings)
    space = Space.read(base_of(options.model, protocol.models), options.space)
    validation = options.validation or protocol.validation
    validation = validation or gs.data.DATASETS[options.dataset].validation
    try:
        gs.TrainingSettings(monitor=options.monitor, max_epochs=options.epochs)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    try:
        split = gs.load_split(options.dataset, options.root, validation=validation)
    except ValueError as error:
        raise SystemExit(f"There is nothing to tune on: {error}") from error
    results = Results.start(
        options.out, command("experiments.tune", argv), options.dataset, split, protocol
    )
    results.content["protocol"] |= {"ranked": "validation", "note": NOTE}
    study = _study(optuna, options, space, results.content)
    done = [trial for trial in study.get_trials() if trial.state.is_finished()]
    if not done and space.of_base():
        study.enqueue_trial(space.of_base(), skip_if_exists=False)
    for number in range(len(done), options.trials):
        # A sampler a trial, so that a study that was resumed equals one that never stopped.
        study.sampler = optuna.samplers.TPESampler(seed=options.seed * 100_003 + number)
        trial = study.ask()
        entry = space.suggest(trial)
        try:
            row, pruned = _try(entry, trial, split, protocol, options)
        except ValueError as error:  # settings that do not go together, or a loss that is none
            trial.set_user_attr("error", str(error))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            print(f"trial {trial.number}: {error}")
            continue
        trial.set_user_attr("row", row)
        value = row["metrics"][options.monitor]
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, value)
        print(
            f"trial {trial.number}: validation {options.monitor} {value:.4f} "
            f"after {row['epochs']} epochs{', pruned' if pruned else ''}"
        )
        _write(study, space, protocol, options, validation, results)
    _write(study, space, protocol, options, validation, results)
    print(f"{results.path}\n{options.out / 'best.json'}\n{options.out / 'tuning.png'}\n{NOTE}")


def _try(
    entry: Entry, trial: Any, split: gs.Split, protocol: Protocol, options: argparse.Namespace
) -> tuple[dict[str, Any], bool]:
    """One trial: its row, and whether the median of earlier ones ended it."""
    pruned = False

    def report(epoch: Mapping[str, float]) -> bool:
        nonlocal pruned
        trial.report(epoch[options.monitor], int(epoch["epoch"]))
        pruned = trial.should_prune()
        return pruned

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = gs.models.MODELS[entry.model](split.num_items, **entry.arguments)
    fitted = gs.fit(
        model,
        split,
        entry.training,
        max_epochs=options.epochs,
        monitor=options.monitor,
        exclude_seen=protocol.exclude_seen,
        seed=options.seed,
        device=options.device,
        progress=False,
        on_epoch=report,
    )
    if fitted.interrupted:
        raise SystemExit("Stopped; --resume goes on.")
    assert split.validation is not None
    found = gs.evaluate(model, split.validation, ks=protocol.ks, exclude_seen=protocol.exclude_seen)
    metrics = {**found.metrics, options.monitor: float(found.values(options.monitor).mean())}
    row = {
        "model": f"{entry.name}, trial {trial.number}",
        "settings": entry.settings,
        "seed": options.seed,
        "metrics": metrics,
        "intervals": {options.monitor: list(found.confidence_interval(options.monitor))},
        "train_seconds": round(fitted.seconds, 3),
        "eval_seconds": round(found.seconds, 3),
        "epochs": fitted.best_epoch,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    return row, pruned


def _study(
    optuna: ModuleType, options: argparse.Namespace, space: Space, content: Mapping[str, Any]
) -> Any:
    """The study of this folder; one of other data or another space is refused."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "study.db"
    if path.exists() and not options.resume:
        raise SystemExit(f"{path} holds a study: go on by --resume, or choose another --out.")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{path}",
        study_name="tune",
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )
    about = {
        "data": content["data"]["fingerprint"],
        "model": space.base.settings,
        "space": space.content,
        "search": [options.epochs, options.monitor, options.seed],
    }
    if study.user_attrs.get("about", about) != about:
        raise SystemExit(
            f"{path} is of other data, another model, space, metric or seed: choose another --out."
        )
    study.set_user_attr("about", about)
    for trial in study.get_trials():
        if not trial.state.is_finished():  # what a killed run has left
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _write(
    study: Any,
    space: Space,
    protocol: Protocol,
    options: argparse.Namespace,
    validation: float,
    results: Results,
) -> None:
    """results.json, results.csv, best.json and the picture, from the study alone."""
    trials = [trial for trial in study.get_trials() if "row" in trial.user_attrs]
    if not trials:
        errors = [trial.user_attrs["error"] for trial in study.get_trials() if trial.user_attrs]
        raise SystemExit(f"No trial came to an end. {' '.join(errors[-1:])}")
    rows = [
        {**trial.user_attrs["row"], "state": trial.state.name.lower(), "chosen": trial.params}
        for trial in trials
    ]
    results.content |= {"monitor": options.monitor, "rows": rows}
    results.write()
    complete = [row for row in rows if row["state"] == "complete"] or rows
    best = max(complete, key=lambda row: row["metrics"][options.monitor])
    fit = dict(best["settings"]["fit"])
    if best["epochs"]:
        # Where the learning rate does not follow the schedule to its end, later epochs hurt.
        constant = fit.get("schedule", "constant") == "constant"
        fit["max_epochs"] = best["epochs"] if constant else options.epochs
    named = {"name": space.base.name, **best["settings"], "fit": fit}
    note = (
        f"Best of {len(rows)} trials on the validation part ({validation:g}) of {options.dataset}: "
        f"{options.monitor} {best['metrics'][options.monitor]:.4f} after {best['epochs']} epochs."
    )
    content = {"note": note, "ks": list(protocol.ks), "exclude_seen": protocol.exclude_seen}
    content |= {"validation": protocol.validation, "models": [named]}
    write_json(content, options.out / "best.json")
    gs.visualization.plot_tuning(results.content, path=options.out / "tuning.png")


def _optuna() -> ModuleType:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise SystemExit(
            "The search needs Optuna: pip install 'graphseq[tune]', or pip install optuna."
        ) from error
    return optuna


if __name__ == "__main__":
    main()
