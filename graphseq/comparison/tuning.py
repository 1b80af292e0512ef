"""Searches the settings of a family with Optuna, on the validation part only."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from graphseq.arguments import flag, whole
from graphseq.comparison.entries import Entry, entry_of
from graphseq.comparison.record import intervals, record, writable, write_json, write_results
from graphseq.comparison.settings_file import Settings, ranked_by, settings_of
from graphseq.comparison.space import Space
from graphseq.data.splits.split_parts import Split, require_split
from graphseq.evaluation.evaluate import evaluate
from graphseq.evaluation.protocol import protocol_of
from graphseq.training.fit import fit
from graphseq.training.lightning.distributed import one_device
from graphseq.training.settings import TrainingSettings
from graphseq.visualization import plot_tuning

logger = logging.getLogger(__name__)

NOTE = "Metrics are of the validation part; the test part was not ranked."

OF_THE_SEARCH = {
    "max_epochs": "epochs",
    "monitor": "monitor",
    "exclude_seen": "exclude_seen",
    "seed": "seed",
}
"""Training settings that all trials share, and the arguments of :func:`tune` that set them."""


@dataclass(frozen=True, eq=False)
class Tuning:
    """The result of a search; made by :func:`graphseq.tune`.

    Args:
        best: The best settings, as a line for :func:`graphseq.compare`.
        content: The content of its ``results.json``: one row per trial.
    """

    best: Entry
    content: Mapping[str, Any]

    @property
    def monitor(self) -> str:
        """The metric that was maximized."""
        return str(self.content["monitor"])

    def to_frame(self) -> pd.DataFrame:
        """One row per trial: its state, the chosen values, the metric, and the number of epochs."""
        rows = [
            {
                "trial": row["model"],
                "state": row["state"],
                **row["chosen"],
                self.monitor: row["metrics"][self.monitor],
                "epochs": row["epochs"],
                "train_seconds": row["train_seconds"],
            }
            for row in self.content["rows"]
        ]
        return pd.DataFrame(rows).set_index("trial")

    def settings(self) -> dict[str, Any]:
        """The content of a settings file, which ``compare(settings=...)`` reads.

        Raises:
            ValueError: If the model is your own class or instance, or an optimizer or schedule is
                your own, which no file can name.
        """
        if self.best.functions:
            raise ValueError(
                f"{self.best.name} has {' and '.join(self.best.functions)} of your own, which no "
                "settings file can name: pass tuning.best to compare."
            )
        if self.best.own is not None:
            raise ValueError(
                f"{self.best.name} is your own class or instance, which no settings file can name: "
                "pass tuning.best to compare."
            )
        row = max(_complete(self.content), key=lambda row: row["metrics"][self.monitor])
        return {
            "note": f"Best of {len(self.content['rows'])} trials on the validation part of "
            f"{self.content['data']['name']}: {self.monitor} {row['metrics'][self.monitor]:.4f} "
            f"after {row['epochs']} epochs.",
            "ks": self.content["protocol"]["ks"],
            "exclude_seen": self.content["protocol"]["exclude_seen"],
            "models": [{"name": self.best.name, **self.best.settings}],
        }

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Plots the trials and the chosen values: :func:`graphseq.visualization.plot_tuning`."""
        return plot_tuning(self.content, path=path)


def tune(
    split: Split,
    model: Any,
    space: Mapping[str, Mapping[str, Any]] | str | os.PathLike[str] | None = None,
    *,
    trials: int = 30,
    epochs: int = 10,
    settings: str | os.PathLike[str] | Settings | None = None,
    ks: int | Iterable[int] | None = None,
    monitor: str | None = None,
    exclude_seen: bool | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    name: str = "your log",
    command: str = "graphseq.tune",
) -> Tuning:
    """Searches settings of one model; trials are ranked on the validation part only.

    The test part is never used. The first trial has known good settings, as far as they lie in the
    space. A trial is stopped if it falls below the median of earlier trials at the same epoch.

    Args:
        split: The parts; it needs a validation part.
        model: One model, named as for :func:`graphseq.compare`.
        space: The search space, ``{"arguments": {...}, "fit": {...}}``, or the path of its file. A
            list is a choice, ``{"low": 1, "high": 9, "log": True}`` a range, anything else a fixed
            value. ``None``: the space of the family. All trials share their number of epochs,
            monitor, rule of seen items and seed: those are arguments of this function.
        trials: Total number of trials, including trials before resuming.
        epochs: Maximum number of epochs of a trial.
        settings: As for :func:`graphseq.compare`.
        ks, exclude_seen: As for :func:`graphseq.compare`.
        monitor: The metric that is maximized; ``None``: ``mrr`` at the largest cut-off.
        seed: Seed of the search and of every training.
        device: Where models are trained and ranked.
        out: Folder for the study (``study.db``), ``results.json`` and ``results.csv`` with one row
            per trial, a picture (``tuning.png``) and the best settings (``best.json``), which your
            own class, instance, optimizer or schedule has none of.
        resume: Whether to resume the study in ``out``; the result is the same as without the
            interruption.
        name: Name of the data in tables and plots.
        command: The command that reproduces the results, for the reader.

    Raises:
        ModuleNotFoundError: If Optuna is not installed.
        ValueError: If there is no validation part, no such device, no trial finished, an option is
            out of range, or ``out`` holds another study. Also if the model is trained already, or
            the space has a setting that all trials share.
        KeyboardInterrupt: If Ctrl-C ended a trial; earlier ones are in ``out``.
    """
    optuna = _optuna()
    require_split(split)
    one_device(device)  # whether it is here, rather than in every trial
    if split.validation is None:
        raise ValueError(
            "A search needs a validation part, and this split has none: pass validation= when "
            "making it, as in temporal_split(sessions, test_days=1, validation=1)."
        )
    known = settings_of(settings)
    entry = entry_of(model, known.models)
    if entry.is_trained:
        raise ValueError(
            f"Every trial begins with new weights, and this {entry.name} is trained already: pass "
            "its class or its name."
        )
    if space is None:
        searched = Space.from_entry(entry)
    elif isinstance(space, Mapping):
        searched = Space(entry, space)
    else:
        searched = Space.read(entry, space)
    for setting in searched.content["fit"]:
        if setting in OF_THE_SEARCH:
            raise ValueError(
                f"All trials share {setting!r}, so that a space cannot have it: pass "
                f"{OF_THE_SEARCH[setting]}= to tune."
            )
    ks, monitor = ranked_by(known, ks, monitor)
    exclude_seen = known.exclude_seen if exclude_seen is None else exclude_seen
    exclude_seen = flag("exclude_seen", exclude_seen)
    TrainingSettings(monitor=monitor, max_epochs=epochs)  # raises if one is out of range
    trials, seed = whole("trials", trials), whole("seed", seed, at_least=0)
    if resume and out is None:
        raise ValueError("resume=True resumes the study in a folder: pass out=.")
    folder = None if out is None else writable(Path(out))
    content = record(command, name, split, ks, protocol_of(None, exclude_seen), NOTE)
    content["protocol"]["ranked"] = "validation"
    content["monitor"] = monitor
    search = _Search(split, searched, content, epochs, seed, str(device), folder)
    study = search.study(optuna, resume)
    done = [trial for trial in study.get_trials() if trial.state.is_finished()]
    if not done and searched.of_base():
        study.enqueue_trial(searched.of_base(), skip_if_exists=False)
    for number in range(len(done), trials):
        # One sampler per trial, so that a resumed study equals one that never stopped.
        study.sampler = optuna.samplers.TPESampler(seed=seed * 100_003 + number)
        search.run(optuna, study)
    return search.finished(study)


@dataclass
class _Search:
    """One running search."""

    split: Split
    space: Space
    content: dict[str, Any]
    epochs: int
    seed: int
    device: str
    folder: Path | None

    def study(self, optuna: ModuleType, resume: bool) -> Any:
        """The study of this folder; raises if it is for other data or another space."""
        path = None if self.folder is None else self.folder / "study.db"
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not resume:
                raise ValueError(f"{path} holds a study: pass resume=True, or choose another out.")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=None if path is None else f"sqlite:///{path}",
            study_name="tune",
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        )
        protocol = self.content["protocol"]
        about = {
            "data": self.content["data"]["fingerprint"],
            "model": self.space.base.settings,
            "space": self.space.content,
            "search": [self.epochs, self.content["monitor"], self.seed],
            "ranking": [protocol["ks"], protocol["exclude_seen"]],
        }
        # Studies from before "ranking" was written say nothing of it.
        if about | study.user_attrs.get("about", {}) != about:
            raise ValueError(
                f"{path} is of other data, another model, space, metric, ranking or seed: choose "
                "another out."
            )
        study.set_user_attr("about", about)
        for trial in study.get_trials():
            if not trial.state.is_finished():  # left by a killed run
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return study

    def run(self, optuna: ModuleType, study: Any) -> None:
        """One trial."""
        trial = study.ask()
        try:
            row, pruned = self._try(self.space.suggest(trial), trial)
        except ValueError as error:  # settings that do not match, or a NaN loss
            trial.set_user_attr("error", str(error))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            logger.warning("trial %d: %s", trial.number, error)
            return
        trial.set_user_attr("row", row)
        monitor = self.content["monitor"]
        value = row["metrics"][monitor]
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, value)
        logger.info(
            "trial %d: validation %s %.4f after %d epochs%s",
            trial.number,
            monitor,
            value,
            row["epochs"],
            ", pruned" if pruned else "",
        )
        if self.folder is not None:
            self.finished(study)

    def _try(self, entry: Entry, trial: Any) -> tuple[dict[str, Any], bool]:
        """The row of a trial, and whether it was pruned by the median of earlier trials."""
        monitor, protocol = self.content["monitor"], self.content["protocol"]
        pruned = False

        def report(epoch: Mapping[str, float]) -> bool:
            nonlocal pruned
            trial.report(epoch[monitor], int(epoch["epoch"]))
            pruned = trial.should_prune()
            return pruned

        model = entry.new_model(self.split.num_items, self.seed)
        fitted = fit(
            model,
            self.split,
            entry.training,
            max_epochs=self.epochs,
            monitor=monitor,
            exclude_seen=protocol["exclude_seen"],
            seed=self.seed,
            device=self.device,
            progress=False,
            on_epoch=report,
        )
        if fitted.interrupted:
            raise KeyboardInterrupt(f"Stopped in trial {trial.number}.")
        assert self.split.validation is not None
        found = evaluate(
            model,
            self.split.validation,
            ks=protocol["ks"],
            exclude_seen=protocol["exclude_seen"],
        )
        # Of the line's own settings, those that this search has set in their place.
        used = {"max_epochs": self.epochs, "monitor": monitor, "seed": self.seed}
        used["exclude_seen"] = protocol["exclude_seen"]
        shared = {name: value for name, value in used.items() if name in entry.fit}
        row = {
            "model": f"{entry.name}, trial {trial.number}",
            "settings": replace(entry, fit={**entry.fit, **shared}).settings,
            "seed": self.seed,
            "metrics": {**found.metrics, monitor: float(found.values(monitor).mean())},
            "intervals": intervals(found, [monitor]),
            "train_seconds": round(fitted.seconds, 3),
            "eval_seconds": round(found.seconds, 3),
            "epochs": fitted.best_epoch,
            "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        return row, pruned

    def finished(self, study: Any) -> Tuning:
        """The result of the study so far; written if there is a folder."""
        trials = [trial for trial in study.get_trials() if "row" in trial.user_attrs]
        if not trials:
            errors = [t.user_attrs["error"] for t in study.get_trials() if t.user_attrs]
            raise ValueError(f"No trial came to an end. {' '.join(errors[-1:])}")
        self.content["rows"] = [
            {**trial.user_attrs["row"], "state": trial.state.name.lower(), "chosen": trial.params}
            for trial in trials
        ]
        monitor = self.content["monitor"]
        best = max(_complete(self.content), key=lambda row: row["metrics"][monitor])
        base = self.space.base
        fit_settings = dict(best["settings"]["fit"])
        for name in best["settings"].get("functions", {}):  # of which the row has only the name
            fit_settings[name] = base.functions[name]
        if best["epochs"]:
            # If the learning rate does not follow the schedule to its end, later epochs hurt.
            constant = fit_settings.get("schedule", "constant") == "constant"
            fit_settings["max_epochs"] = best["epochs"] if constant else self.epochs
        line = Entry(base.name, base.model, best["settings"]["arguments"], fit_settings, base.own)
        tuning = Tuning(line, self.content)
        if self.folder is not None:
            write_results(self.content, self.folder)
            if line.own is None and not line.functions:
                write_json(tuning.settings(), self.folder / "best.json")
            tuning.plot(self.folder / "tuning.png")
        return tuning


def _complete(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of finished trials, or of all trials if none finished."""
    rows: list[dict[str, Any]] = content["rows"]
    return [row for row in rows if row["state"] == "complete"] or rows


def _optuna() -> ModuleType:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The search needs Optuna: pip install 'graphseq[tune]', or pip install optuna."
        ) from error
    return optuna
