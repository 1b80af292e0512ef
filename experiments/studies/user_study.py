"""Session, user or both? What a user's earlier sessions add to the clicks of the current one.

All lines rank the same targets: the clicks of each user's last session. They differ in what they
read: the current session alone, that and a vector of the user, the whole history as one session, or
a state that lasts over sessions (HGRU4Rec). Seen items of the whole history leave the ranking of
every line.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch_geometric.data import Batch

import graphseq as gs
from experiments.studies import study
from graphseq.comparison.verdicts import paired_tests
from graphseq.data.graphs.dataset import NO_TARGET
from graphseq.evaluation import Report
from graphseq.models.features.around import AroundBase
from graphseq.models.features.with_user import WithUser
from graphseq.models.reading import TrainingRows

DATASETS = ("movielens-small", "ml-100k")
GAP = 1800
"""Seconds without a rating after which a session ends."""


class _CurrentSession(AroundBase):
    """Reads the clicks of the current session alone, of a history of several."""

    def forward(self, batch: Batch) -> Tensor:
        """The vector of every history's last session, [num_histories, d]."""
        parts = sessions_of(batch)
        last = torch.cat([parts.history.diff() != 0, parts.history.new_ones(1, dtype=torch.bool)])
        vectors: Tensor = super().forward(parts)[last]
        return vectors

    def click_states(self, batch: Batch) -> Tensor:
        """The state after every click, from its own session, [num_clicks, d]."""
        return super().click_states(sessions_of(batch))

    def training_rows(self, batch: Batch, generator: torch.Generator) -> TrainingRows:
        """The state after every click, and the next item of the same session."""
        rows = super().training_rows(sessions_of(batch), generator)
        return TrainingRows(rows.vectors, rows.targets, batch.click_batch)


class CurrentSession(_CurrentSession):
    """Any family, which reads the current session alone."""


class CurrentSessionAndUser(_CurrentSession, WithUser):
    """Any family, which reads the current session and a vector of the user."""


def sessions_of(batch: Batch) -> Batch:
    """The histories of a batch cut into their sessions.

    Args:
        batch: Histories with ``click_session``; without it, each is one session.

    Returns:
        A batch of the sessions, with ``history``, the history of each, and with the user and the
        targets of the batch. The first click of a session is no target.
    """
    history = batch.click_batch
    whole = pad(history.diff() != 0, (1, 0), value=True)
    starts = whole
    if "click_session" in batch:
        starts = whole | pad(batch.click_session.diff() != 0, (1, 0), value=True)
    first = starts.nonzero().view(-1)
    ptr = torch.cat([first, first.new_tensor([len(history)])])
    fields = {"history": history[first]}
    if "user" in batch:
        fields["user"] = batch.user[history[first]]
    y = batch.get("y")
    if y is None or y.numel() != len(history):
        return gs.data.build_session_graphs(batch.click_item, ptr, session_fields=fields)
    later = pad((starts & ~whole)[1:], (0, 1))
    return gs.data.build_session_graphs(
        batch.click_item,
        ptr,
        y=y.masked_fill(later, NO_TARGET),
        y_ptr=ptr,
        session_fields=fields,
    )


def split_of(name: str, root: str | None, users: int | None = None) -> gs.Split:
    """Histories of users: the last session of each who has two or more is the test part."""
    log = gs.load_dataset(name, root)
    log = log if users is None else log[:users]
    frame = log.to_frame()
    sessions = gs.Sessions.from_events(frame, user="session_id", time="time", gap=GAP)
    assert sessions.users is not None
    users_of = np.asarray(sessions.users)
    last = np.append(users_of[1:] != users_of[:-1], True)
    first = np.append(True, users_of[1:] != users_of[:-1])
    tested = last & ~first & (sessions.lengths > 1)
    parts = gs.fixed_split(sessions.select(~tested), sessions.select(tested))
    test = gs.data.with_history(parts.test, parts.train)
    return gs.fixed_split(gs.data.join_sessions(parts.train), test, shared_ids=True)


def plan(options: argparse.Namespace) -> study.Plan:
    """What each line reads, on one data set."""
    split = split_of(options.dataset, options.root, 60 if options.quick else None)
    fit = {
        "max_epochs": 1 if options.quick else 6,
        "batch_size": 16,
        "learning_rate": 0.004,
        "schedule": "linear",
        "loss": {"name": "sampled_softmax", "num_negatives": 512, "alpha": 0.5},
    }
    gru = {"hidden_channels": 48, "dropout": 0.2}
    sasrec = {"hidden_channels": 48, "dropout": 0.2, "max_length": 100}
    lines: dict[str, Any] = {"markov": "markov"}
    reads = {"markov": "one click"}
    for family, arguments in (("gru4rec", gru), ("sasrec", sasrec)):
        inside = {"base": family, "arguments": arguments}
        lines[f"{family}, session"] = CurrentSession, {"arguments": inside, "fit": fit}
        lines[f"{family}, session and user"] = (
            CurrentSessionAndUser, {"arguments": inside, "fit": fit},
        )  # fmt: skip
        lines[f"{family}, history"] = family, {"arguments": arguments, "fit": fit}
        reads |= {
            f"{family}, session": "session",
            f"{family}, session and user": "both",
            f"{family}, history": "history",
        }
    lines["hgru4rec"] = (
        "hgru4rec",
        {"arguments": {"hidden_channels": 48, "dropout": 0.2}, "fit": fit},
    )
    reads["hgru4rec"] = "both"
    facts = {line: {"family": line.split(",")[0], "reads": reads[line]} for line in lines}
    if options.quick:
        lines = {line: lines[line] for line in lines if line in ("markov", *QUICK)}
    pairs = [
        (line, "sasrec, session" if line.startswith("sasrec") else BASE)
        for line in lines
        if line not in (BASE, "sasrec, session")
    ]
    bounded = (
        f"{split.test.num_sessions} users, whose last session is ranked click by click; sessions "
        f"end after {GAP // 60} minutes without a rating. Width 48 and {fit['max_epochs']} epochs, "
        "not tuned."
    )
    return study.Plan(
        split, lines, facts, pairs, bounded, exclude_seen=True, monitor="ndcg@20", cluster="user"
    )


BASE = "gru4rec, session"
QUICK = (BASE, "gru4rec, session and user", "hgru4rec")


def kinds_of_cases(split: gs.Split, report: Report) -> dict[str, np.ndarray]:
    """Name of a stratum -> which cases are in it: clicks of the session so far, and before it."""
    test = split.test
    session, position = (report.ranks[name].to_numpy() for name in ("session", "position"))
    before = np.asarray(test.targets_from)[session] - 1
    inside = position - before
    many = before >= np.median(before)
    return {
        "1 click": inside == 1,
        "2-5 clicks": (inside >= 2) & (inside <= 5),
        "6-20 clicks": (inside >= 6) & (inside <= 20),
        "21 clicks or more": inside > 20,
        "short history": ~many,
        "long history": many,
    }


def finish(
    planned: study.Plan, content: dict[str, Any], reports: Mapping[str, list[Report]]
) -> None:
    """Adds the strata, and what every line costs."""
    kinds = kinds_of_cases(planned.split, next(iter(reports.values()))[0])
    content["strata"] = [
        {"stratum": kind, **test}
        for kind, inside in kinds.items()
        if inside.any()
        for test in paired_tests(reports, [planned.monitor], planned.pairs, inside)
    ]
    content["cases"] = {kind: int(inside.sum()) for kind, inside in kinds.items()}
    study.add_costs(planned, content, train_sessions=40)


def page(content: Mapping[str, Any]) -> str:
    """The lines, what each reads, and its difference to the session alone."""
    metric = content["monitor"]
    tests = {test["model"]: test for test in content["tests"] if test["metric"] == metric}
    row_of = {row["model"]: row for row in content["rows"]}
    rows = []
    for line, row in row_of.items():
        test = tests.get(line)
        rows.append(
            [
                line,
                row["reads"],
                study.percent(content, line, metric),
                "" if test is None else study.points(test),
                "" if test is None else study.probability(test["p_corrected"]),
                study.milli(row["train_ms"]),
                f"{row['rank_ms']:.3f}",
            ]
        )
    strata = {(t["stratum"], t["model"]): t for t in content["strata"]}
    shown = [line for line in tests if line != "markov"]
    by_kind = [
        [f"{kind} ({number:,})", *(study.points(strata[kind, line]) for line in shown)]
        for kind, number in content["cases"].items()
        if number
    ]
    seeds = len({row["seed"] for row in content["rows"]})
    head = ["line", "reads", metric.upper(), "difference", "p", "CPU ms", "ranking"]
    parts = [
        f"{metric.upper()} in per cent, mean of {seeds} {'seed' if seeds == 1 else 'seeds'}; the "
        "difference in points to the same family on the session alone (Markov and HGRU4Rec: to "
        "GRU4Rec), clustered by user; CPU milliseconds of training per 1,000 targets and of one "
        "ranking:",
        study.table(head, rows),
        "The same difference by clicks of the session so far, and by the clicks before it (above "
        "and below the median):",
        study.table(["cases", *shown], by_kind),
        content["protocol"]["note"],
    ]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    parser = study.arguments("experiments.studies.user_study", __doc__, DATASETS)
    options = parser.parse_args(argv)
    module = "experiments.studies.user_study"
    content = study.run("user_study", module, options, argv, plan, finish)
    study.plot_against(
        content, "the session alone", study.out_of("user_study", options) / "user_study.png"
    )


if __name__ == "__main__":
    main()
