"""Trains models on one split and evaluates them on the same test cases."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from graphseq.arguments import flag, whole
from graphseq.comparison.comparison import Comparison
from graphseq.comparison.entries import Entry, entries_of
from graphseq.comparison.record import (
    read_results,
    record,
    row_of,
    rules_of,
    writable,
    write_json,
    write_results,
)
from graphseq.comparison.settings_file import Settings, ranked_by, settings_of
from graphseq.comparison.tables import shown_metrics
from graphseq.comparison.verdicts import paired_tests
from graphseq.data.splits.split_parts import Split, require_split
from graphseq.evaluation.audit import Audit
from graphseq.evaluation.audit import audit as audit_split
from graphseq.evaluation.candidates import CandidateDraw
from graphseq.evaluation.evaluate import clusters_of, evaluate, narrowed
from graphseq.evaluation.model_audit import audit_where_possible
from graphseq.evaluation.protocol import Protocol, protocol_of
from graphseq.evaluation.report import Report
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.training.fit import FitResult, check_training, fit
from graphseq.training.lightning.distributed import one_device
from graphseq.training.lightning.identity import first_difference, shown
from graphseq.training.lightning.resume import check_settings
from graphseq.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


def compare(
    split: Split,
    models: Iterable[Any] | Mapping[str, Any] | None = None,
    *,
    seeds: int | Iterable[int] = 3,
    settings: str | os.PathLike[str] | Settings | None = None,
    ks: int | Iterable[int] | None = None,
    monitor: str | None = None,
    protocol: Protocol | str | None = None,
    exclude_seen: bool | None = None,
    cluster: Literal["session", "user"] = "session",
    device: str | torch.device = "cpu",
    audit: bool = True,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    name: str = "your log",
    note: str | None = None,
    command: str = "graphseq.compare",
) -> Comparison:
    """Trains models on a split, evaluates each on its test part, and tests every pair.

    Models are trained on ``split.train``; a validation part, where the split has one, chooses the
    epoch. The test part is ranked once per model and seed. Counting models and already trained
    instances do not depend on the seed and run once.

    Args:
        split: The parts.
        models: Names in ``graphseq.models.MODELS`` or of lines of the settings. Pairs
            ``(name, {"hidden_channels": 64, "max_epochs": 5})`` of arguments and training settings,
            of which optimizer and schedule may be functions of your own, as for ``fit``.
            Your own classes or instances of :class:`~graphseq.models.SessionModel`, or
            ``(label, class or instance)``. A mapping from labels to these names the lines. An
            instance is copied before training; an instance that is already trained is only ranked.
            ``None``: the default lines of the settings.
        seeds: Number of runs of each model, with seeds 0, 1, ...; or the seeds themselves.
        settings: Settings that names of models refer to. The name of a data set with its own
            settings, the path of a settings file, such as a search writes, or the settings
            themselves. ``None``: settings for any data.
        ks: Cut-offs of the metrics; ``None``: the settings' cut-offs, 5, 10 and 20.
        monitor: The metric that chooses the epoch and orders the models; ``None``: ``mrr`` at the
            largest cut-off.
        protocol: The rules by which the test part is ranked: a
            :class:`~graphseq.evaluation.Protocol` or the name of a preset. ``None``: all targets
            among all items, and for histories of users (``leave_last_split``) with seen items and
            without, unless ``exclude_seen`` is given.
        exclude_seen: Whether items of the history are removed from the ranking, also in validation;
            ``None``: as in the protocol or the settings, whose default is no.
        cluster: Clusters of dependent cases: ``"session"`` or ``"user"``.
        device: Where models are trained and ranked.
        audit: Whether to audit the split and every trained model; the results include the findings
            (:func:`~graphseq.evaluation.audit`, :func:`~graphseq.evaluation.audit_model`).
        out: Folder for ``results.json``, ``results.csv``, the trained models with their logs and
            the places of all cases (``models/``), tables and pictures.
        resume: Whether to resume from what ``out`` holds. A row whose settings, seed and files
            agree is reused, lines that are not named now are kept, and a training resumes from its
            checkpoint. More ``max_epochs`` than before are trained from there too, unless the
            learning rate depends on their number.
        progress: Whether to show progress bars or log lines of training and ranking.
        name: Name of the data in tables and plots.
        note: A note for readers of the results.
        command: The command that reproduces the results, for the reader.

    Raises:
        ValueError: If there is no such model, setting or device, an option is out of range, or
            ``out`` holds results of other data, another protocol or other versions.
        KeyboardInterrupt: If Ctrl-C ended a training; finished rows are in ``out``.
    """
    require_split(split)
    one_device(device)  # whether it is here, before the first model is trained
    known = settings_of(settings)
    entries = known.select(None) if models is None else entries_of(models, known.models)
    seeds = _seeds(seeds)
    for entry in entries:
        if not entry.is_trained:
            _check_line(entry, split, seeds[0], device)
    ks, monitor = ranked_by(known, ks, monitor)
    protocol = _protocol(split, protocol, exclude_seen, known.exclude_seen)
    _check_ranking(split, protocol, cluster)
    if resume and out is None:
        raise ValueError("resume=True resumes from what a folder holds: pass out=.")
    for entry in entries if out is not None else ():
        try:
            _as_json(entry.settings)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{entry.name} has settings that no file of results holds ({error}): pass numbers, "
                "text, lists and mappings, or leave out= out."
            ) from error
    folder = None if out is None else writable(Path(out))
    note = known.note if note is None else note
    content = record(command, name, split, ks, protocol, note)
    content["protocol"]["cluster"] = cluster
    content["monitor"] = protocol.metric(monitor)
    audited = audit_split(split) if flag("audit", audit) else None
    if audited is not None:
        content["data"]["audit"] = audited.to_dict()
        shared = audited["shared sessions"]
        if shared.verdict == "fault":
            raise ValueError(
                f"{shared.says[:-1]}, the first {shared.examples[0]}: split whole sessions, as "
                "gs.temporal_split does; audit=False compares all the same."
            )
        if not audited.passed:
            logger.warning("The split leaks: %s", "; ".join(f.says for f in audited.faults))
    run = _Run(split, content, audited, protocol, monitor, folder, resume, str(device), progress)
    if resume:
        run.take_over(entries)
    for entry in entries:
        for seed in seeds if entry.is_drawn else seeds[:1]:
            run.line(entry, seed)
    content["tests"] = run.tests()
    comparison = Comparison(content)
    if folder is not None:
        write_results(content, folder)
        comparison.write(folder)
    return comparison


def _protocol(
    split: Split, given: Protocol | str | None, exclude_seen: bool | None, by_settings: bool
) -> Protocol:
    """The protocol of the ranking; histories of users are ranked with and without seen items."""
    if exclude_seen is not None:
        return protocol_of(given, flag("exclude_seen", exclude_seen))
    if given is None and split.protocol.get("split") == "leave_last" and not by_settings:
        return Protocol(seen="both")
    return protocol_of(given) if given is not None else protocol_of(None, by_settings)


def _check_line(entry: Entry, split: Split, seed: int, device: str | torch.device) -> None:
    """Raises if a line cannot be built or trained, before the first one is trained.

    Raises:
        ValueError: If it cannot; the message names the line.
    """
    own = entry.own
    model = own if isinstance(own, SessionModel) else entry.new_model(split.num_items, seed)
    try:
        check_training(model, split, entry.training, device)
    except ValueError as error:
        raise ValueError(f"{entry.name} cannot be trained: {error}") from error


def _check_ranking(split: Split, protocol: Protocol, cluster: str) -> None:
    """Raises what the ranking of the test part would raise, before hours of training.

    Raises:
        ValueError: If the test part has no such clusters or no target, or too few items are known
            for the protocol's candidates.
    """
    given, _, _ = narrowed(split.test, split.test, protocol)
    clusters_of(given, Targets(given), cluster)
    if protocol.sampled:
        CandidateDraw(protocol, split.num_items, np.asarray(split.catalog.counts))


def _seeds(seeds: Any) -> list[int]:
    """The seeds for a number of runs, or the given seeds."""
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        listed = [whole("seeds", seed, at_least=0) for seed in seeds]
    else:
        number: Any = seeds
        listed = list(range(whole("seeds", number, at_least=0)))
    if not listed:
        raise ValueError("A comparison needs a seed at least, as seeds=1 is.")
    if len(set(listed)) < len(listed):
        raise ValueError(f"seeds are of different runs, got one twice: {listed}.")
    return listed


@dataclass
class _Run:
    """One running comparison: the record so far, and the ranks of all cases by model."""

    split: Split
    content: dict[str, Any]
    audit: Audit | None
    ranking: Protocol
    monitor: str
    folder: Path | None
    resume: bool
    device: str
    progress: bool
    reports: dict[str, dict[int, Report]] = field(default_factory=dict)

    def take_over(self, entries: list[Entry]) -> None:
        """Reuses rows of the folder that equal a current line, and keeps rows of other lines."""
        assert self.folder is not None
        if not (self.folder / "results.json").exists():
            return
        before = read_results(self.folder)
        for key, now in (
            ("data", self.content["data"]["fingerprint"]),
            ("protocol", rules_of(self.content["protocol"])),
            ("versions", self.content["versions"]),
            ("monitor", self.content["monitor"]),
        ):
            then = before.get(key)
            then = then["fingerprint"] if key == "data" and then is not None else then
            then = rules_of(then) if key == "protocol" and then is not None else then
            if then != _as_json(now):
                raise ValueError(
                    f"{self.folder} holds results of {_difference(key, then, now)}: choose another "
                    "folder, or leave out resume to start again."
                )
        wanted = {entry.name: _as_json(entry.settings) for entry in entries}
        for row in before["rows"]:
            settings = wanted.get(row["model"], row["settings"])
            if settings != row["settings"]:
                changes = _changes(row["settings"], settings)
                logger.warning(
                    "%s, seed %d, is not taken over: %s.", row["model"], row["seed"], changes
                )
                continue
            report = self._saved_report(row)
            if report is not None:
                self.content["rows"].append(row)
                self.reports.setdefault(row["model"], {})[row["seed"]] = report
        if self.content["rows"]:
            self.content["created"] = before["created"]
            logger.info("%d rows of %s are taken over.", len(self.content["rows"]), self.folder)

    def line(self, entry: Entry, seed: int) -> None:
        """Trains and ranks one model, unless its row exists."""
        done = self.reports.get(entry.name, {})
        if seed in done or (done and not entry.is_drawn):  # of which every seed is the same
            return
        protocol = self.content["protocol"]
        model = entry.new_model(self.split.num_items, seed)
        folder = self._folder(entry.slug, seed)
        fitted = FitResult(pd.DataFrame(), best_epoch=0, seconds=0.0)
        if not entry.is_trained:
            logger.info("%s, seed %d: training", entry.name, seed)
            fitted = fit(
                model,
                self.split,
                entry.training,
                monitor=entry.fit.get("monitor", self.monitor),
                exclude_seen=entry.fit.get("exclude_seen", self.ranking.seen == "remove"),
                seed=seed,
                device=self.device,
                out=folder,
                resume=self._begun(entry, folder),
                progress=self.progress,
            )
        if fitted.interrupted:
            raise KeyboardInterrupt(f"Stopped in the training of {entry.name}, seed {seed}.")
        audited = (
            None if self.audit is None else self.audit + audit_where_possible(model, self.split)
        )
        report = evaluate(
            model,
            self.split.test,
            ks=protocol["ks"],
            protocol=self.ranking,
            cluster=protocol["cluster"],
            device=self.device if entry.is_trained and self.device != "auto" else None,
            audit=audited,
            progress=self.progress,
        )
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            report.save(folder / REPORT)
        self.content["rows"].append(row_of(entry, seed, model, fitted, report))
        self.reports.setdefault(entry.name, {})[seed] = report
        if self.folder is not None:
            write_results(self.content, self.folder)
        first, second = shown_metrics(self.content)[:2]
        logger.info(
            "%s, seed %d: %s %.4f, %s %.4f; %d epochs in %.1f s, ranked in %.1f s",
            entry.name,
            seed,
            first,
            report.metrics[first],
            second,
            report.metrics[second],
            fitted.best_epoch,
            fitted.seconds,
            report.seconds,
        )

    def tests(self) -> list[dict[str, Any]]:
        """Tests every model against every other, on the metrics of the table."""
        shown = shown_metrics(self.content)
        shown = shown[:2] if len(shown) == 3 else [*shown[:2], *shown[3:5]]  # HR and MRR
        metrics = list(dict.fromkeys([*shown, self.content["monitor"]]))
        groups = {name: list(by_seed.values()) for name, by_seed in self.reports.items()}
        return paired_tests(groups, metrics)

    def _folder(self, slug: str, seed: int) -> Path | None:
        return None if self.folder is None else self.folder / "models" / f"{slug}-seed{seed}"

    def _begun(self, entry: Entry, folder: Path | None) -> bool:
        """Whether the folder has a training that this line resumes; a different one is removed."""
        if folder is None:
            return False
        path = folder / LINE
        now = {"settings": entry.settings, "data": self.content["data"]["fingerprint"]}
        now = _as_json(now)
        try:
            then = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            then = None
        same = self.resume and (then == now or _is_longer(then, now, entry))
        if not same:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            (folder / REPORT).unlink(missing_ok=True)
        if then != now:
            write_json(now, path)
        return same

    def _saved_report(self, row: Mapping[str, Any]) -> Report | None:
        """The ranks of the cases of a row, if its file exists and gives the same metrics."""
        slug = Entry(row["model"], "").slug
        folder = self._folder(slug, row["seed"])
        assert folder is not None
        try:
            report = Report.load(folder / REPORT)
        except ValueError as error:
            logger.warning("%s, seed %d, runs again: %s", row["model"], row["seed"], error)
            return None
        if report.metrics != row["metrics"]:
            logger.warning(
                "%s, seed %d, runs again: %s is not that of its row.",
                row["model"],
                row["seed"],
                folder / REPORT,
            )
            return None
        return report


REPORT, LINE = "report.bin", "line.json"
"""Files in the folder of a line: the ranks of all cases, and the identity of the training."""


def _as_json(content: Any) -> Any:
    """The content after a round trip through JSON: tuples become lists."""
    return json.loads(json.dumps(content))


def _is_longer(then: Any, now: Mapping[str, Any], entry: Entry) -> bool:
    """Whether a line differs from a saved one by more epochs alone, as its schedule allows."""
    try:
        before = TrainingSettings.from_dict({**then["settings"]["fit"], **entry.functions})
        check_settings(before.to_dict(), entry.training)
        settings = {**then["settings"], "fit": now["settings"]["fit"]}
    except (KeyError, TypeError, ValueError):
        return False
    longer = before.max_epochs < (epochs := entry.training.max_epochs)
    rest = before.replace(max_epochs=epochs) == entry.training
    return longer and rest and {**then, "settings": settings} == now


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describes how the settings of a line differ, naming both sides."""
    flat = [
        {"model": side["model"], **side["arguments"], **side["fit"]}
        | {key: side.get(key) for key in ("source", "weights")}
        for side in (then, now)
    ]
    names = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]
    sides = [f"{name} {flat[0].get(name)!r} there and {flat[1].get(name)!r} here" for name in names]
    own = [side.get("functions", {}) for side in (then, now)]
    for name in own[0].keys() & own[1].keys():
        if own[0][name] != own[1][name]:
            where, there, here = first_difference(name, own[0][name], own[1][name])
            sides.append(f"{where} {shown(there)} there and {shown(here)} here")
    return ", ".join(sides)


def _difference(key: str, then: Any, now: Any) -> str:
    """Describes the difference, naming both sides."""
    if key == "data":
        parts = [part for part in now if then is None or then.get(part) != now[part]]
        return f"other data (the parts that differ: {', '.join(parts) or 'more parts than now'})"
    if isinstance(now, dict) and isinstance(then, dict):
        then, now = ({**side, **side.get("evaluation", {})} for side in (then, now))
        names = [n for n in {**then, **now} if n != "evaluation" and then.get(n) != now.get(n)]
        if "exclude_seen" in names and "seen" in names:  # which say the same
            names.remove("seen")
        sides = ", ".join(f"{n} {then.get(n)!r} there and {now.get(n)!r} here" for n in names)
    else:
        sides = f"{then!r} there and {now!r} here"
    return {
        "protocol": f"another protocol ({sides})",
        "versions": f"other versions ({sides})",
        "monitor": f"another monitor ({sides})",
    }[key]
