"""Session, user or both? What a user's earlier sessions add to the clicks of the current one.

All lines rank the same targets: the clicks of each user's last session. Some read the current
session alone, some add a vector of the user. Others read the whole history as one session, or keep
a state over sessions (HGRU4Rec). On ratings, items of the whole history leave the ranking of every
line.
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

DATASETS = ("ml-100k", "movielens-small", study.GENERATED)
GAP = 1800
"""Seconds without a rating after which a session ends."""

BRANDS = 5
CATEGORIES = 10
"""Of the generated catalog: each user likes one brand, in all categories."""


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
        targets of the batch. The first click of a session is not a target.
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


def generated_log(
    num_users: int, num_sessions: int, num_items: int, tastes: float, seed: int = 0
) -> gs.Sessions:
    """Generated sessions of users, each of whom likes one brand.

    Within a category, neighbors in popularity are of different brands. With probability ``tastes``
    a click goes to the neighbor of the user's brand. A session shows its category at once, and the
    brand only click by click; the user's history shows it before the first.

    Args:
        num_users: Users; each session is of one of them, drawn uniformly.
        num_sessions: Sessions.
        num_items: Items of the catalog, a multiple of ``BRANDS * CATEGORIES``.
        tastes: Share of clicks that follow the brand; 0: the user carries no information.
        seed: Of all random numbers.
    """
    log = gs.generate_sessions(
        num_sessions, num_items, mean_length=6.0, num_categories=CATEGORIES, pattern=0.0,
        loops=0.0, repeats=0.0, seed=seed,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    user = rng.integers(0, num_users, log.num_sessions)
    likes = rng.integers(0, BRANDS, num_users)[user][log.session_index]
    frame = log.to_frame()
    rank, category = np.divmod(frame["item_id"].to_numpy(), CATEGORIES)
    liked = rank - rank % BRANDS + likes
    rank = np.where(rng.random(log.num_clicks) < tastes, liked, rank)
    frame["item_id"] = rank * CATEGORIES + category
    frame["user_id"] = user[log.session_index]
    return gs.Sessions.from_frame(
        frame, session="session_id", item="item_id", time="time", user="user_id"
    )


def sessions_of_users(name: str, root: str | None, users: int | None, tastes: float) -> gs.Sessions:
    """The sessions of a data set, with their users; ``users``: of some alone."""
    if name == study.GENERATED:
        number = 800 if users is None else users
        return generated_log(number, 10 * number, 500, tastes)
    log = gs.load_dataset(name, root)
    frame = (log if users is None else log[:users]).to_frame()
    return gs.Sessions.from_events(frame, user="session_id", time="time", gap=GAP)


def split_of(sessions: gs.Sessions) -> gs.Split:
    """Histories of users: each last session is tested, and the one before it validates.

    A user with two sessions has no validation, one with a single session is in training alone. A
    last session of one click has no target and is left out.
    """
    assert sessions.users is not None
    users = np.asarray(sessions.users)
    number = np.zeros(len(users), dtype=np.int64)  # number of each session of a user
    order = np.lexsort((np.asarray(sessions.time)[sessions.ptr[:-1]], users))
    starts = np.flatnonzero(np.diff(users[order], prepend=-1))
    counts = np.diff(starts, append=len(users))
    number[order] = np.arange(len(users)) - np.repeat(starts, counts)
    later = np.bincount(users)[users] - 1 - number  # sessions of the user after each
    tested, validated = (later == 0) & (number > 0), (later == 1) & (number > 0)
    long = sessions.lengths > 1
    histories = gs.data.with_history(sessions)
    return gs.fixed_split(
        gs.data.join_sessions(sessions.select(~tested & ~validated)),
        histories.select(tested & long),
        histories.select(validated & long),
        shared_ids=True,
    )


def plan(options: argparse.Namespace) -> study.Plan:
    """What each line reads, on one data set."""
    name, generated = options.dataset, options.dataset == study.GENERATED
    users = 60 if options.quick else None
    split = split_of(sessions_of_users(name, options.root, users, options.tastes))
    fit: dict[str, Any] = {
        "max_epochs": 1 if options.quick else 12 if generated else 16,
        "batch_size": 8,
        "learning_rate": 0.005,
        "schedule": "linear",
        "patience": None,
    }
    if not generated:
        fit["loss"] = {"name": "sampled_softmax", "num_negatives": 256, "alpha": 0.5}
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
    of_data = (
        f"Generated sessions of users with a favorite brand, which {100 * options.tastes:.0f} % of "
        "the clicks follow"
        if generated
        else f"Sessions end after {GAP // 60} minutes without a rating"
    )
    bounded = (
        f"{split.test.num_sessions} users, whose last session is ranked click by click. {of_data}. "
        f"Width 48; the best of {fit['max_epochs']} epochs by the session before it, one schedule "
        "for all lines."
    )
    return study.Plan(
        split,
        lines,
        facts,
        pairs,
        bounded,
        exclude_seen=not generated,
        monitor="ndcg@20",
        cluster="user",
        name=f"generated, {100 * options.tastes:.0f} % tastes" if generated else name,
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
    parser.add_argument("--tastes", type=float, default=0.6, help="of generated users")
    options = parser.parse_args(argv)
    module = "experiments.studies.user_study"
    content = study.run("user_study", module, options, argv, plan, finish)
    study.plot_against(
        content, "the session alone", study.out_of("user_study", options) / "user_study.png"
    )


if __name__ == "__main__":
    main()
