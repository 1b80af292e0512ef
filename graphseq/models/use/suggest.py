"""Suggests families to start with, from statistics of the sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from graphseq.arguments import flag
from graphseq.data.sessions.describe import describe
from graphseq.data.sessions.filters import with_target
from graphseq.data.sessions.history import SESSION
from graphseq.data.sessions.sessions import Sessions, only_sessions
from graphseq.data.splits.split_parts import Split
from graphseq.random import stream

SHORT_LENGTH = 5
"""Length of Caser's window in the authors' code: if three of four sessions fit into it, a family
that uses only this window loses little."""

REPEAT_RATE = 0.15
"""Share of repeated clicks in a session from which its graph is more informative than its list.
Diginetica has 0.16, Yoochoose 1/64 0.21, Tmall 0.35, and graph families lead there; purchases and
ratings, as in Amazon and MovieLens, have none."""

REPEATED_TRANSITIONS = 0.03
"""Share of repeated transitions in a session: edges of weight above 1. Diginetica has 0.034,
Yoochoose 1/64 0.052."""

RICH_FEATURES = 2
"""Number of features of clicks or items besides the item. BST's authors used one, the category."""

LARGE_CORPUS = 1_000_000
"""Number of clicks from which BERT4Rec's long training can pay off: the published comparisons in
which it is close to the best start at MovieLens-1M, which has this many."""

FEW_CLICKS = 150_000
"""Number of clicks below which counting models may be best: they are on MovieLens small (100,004
clicks, docs/results), but not on Amazon Beauty (198,502)."""

LARGE_CATALOG = 100_000
"""Number of items from which a sampled loss is the first choice: one step of the exact loss costs
about 6 floating-point operations per target, item and channel."""

RETURNING = 2.0
"""Number of sessions per user from which there is a history to join."""

LABEL_SHARE = 0.5
"""A text column with more distinct values than this share of its rows identifies the item, like a
title, and is not a shared feature."""

SAMPLE_CLICKS = 1_000_000
"""Approximate number of clicks in the sample of whole sessions for statistics that need sorting:
its error in repetition rates is about 0.001."""

SAMPLE_ITEMS = 100_000
"""Number of rows of the item features that are read."""


@dataclass(frozen=True)
class Suggestion:
    """The suggested families, with reasons.

    Args:
        start_with: Names in :data:`graphseq.models.MODELS`, best first; the two counting families
            at the end are the baseline that all others must beat.
        reasons: Name -> reason, in a sentence with the measured statistics.
        notes: Advice on training from the statistics, besides the choice of a family.
        measured: The statistics themselves, ready for JSON.
    """

    start_with: list[str]
    reasons: Mapping[str, str]
    notes: list[str] = field(default_factory=list)
    measured: Mapping[str, Any] = field(default_factory=dict)

    def frame(self) -> pd.DataFrame:
        """One row per family, best first: index ``name``, column ``why``."""
        why = pd.Series([self.reasons[name] for name in self.start_with], self.start_with)
        return why.rename("why").rename_axis("name").to_frame()

    def __str__(self) -> str:
        lines = [
            f"{rank}. {name}: {self.reasons[name]}" for rank, name in enumerate(self.start_with, 1)
        ]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def suggest(
    sessions: Sessions | Split,
    *,
    streaming: bool = False,
    measure: bool = False,
    minutes: float = 1.25,
    seed: int = 0,
) -> Suggestion:
    """Suggests families to start with for these sessions, best first, with reasons.

    SASRec is the default. Families that suit the sessions come before it: GRU4Rec for live streams,
    SR-GNN for sessions with repeated items, BST for clicks or items with features, Caser for short
    sessions, BERT4Rec for very many clicks. Markov chain and sequential rules are always included
    as baselines: results of a model mean nothing without them. The thresholds are the constants of
    this file.

    Rates of repetition are measured on whole sessions with about :data:`SAMPLE_CLICKS` clicks,
    drawn by ``seed`` if there are more (``measured["sampled_sessions"]`` is their number),
    everything else on all sessions. Memory-mapped logs of 100 million clicks therefore take
    seconds.

    With ``measure=True`` families are measured: a comparison on the validation part
    (:func:`graphseq.compare`) shows which of them beat counting, by how much, and with which
    confidence.

    Args:
        sessions: Training sessions, or whole histories; or a split, of which the training part is
            used, and with ``measure`` the validation part.
        streaming: Whether the model must follow live sessions click by click.
        measure: Whether to train and rank the families.
        minutes: Approximate time for that.
        seed: Seed of the sample, and of the models that are trained.

    Raises:
        ValueError: If there is no session, or with ``measure`` no split with a validation part.
    """
    if flag("measure", measure):
        if streaming or not isinstance(sessions, Split):
            raise ValueError(
                "suggest(measure=True) takes a split with a validation part, and no streaming; "
                f"got {type(sessions).__name__} and streaming={streaming!r}."
            )
        # A higher layer, since it trains and ranks: called by name, so that it is not imported.
        measured: Suggestion = import_module("graphseq.comparison").measured_suggestion(
            sessions, minutes, seed=seed
        )
        return measured
    if isinstance(sessions, Split):
        sessions = sessions.train
    only_sessions("sessions", sessions)
    if sessions.num_sessions == 0:
        raise ValueError("There is no session to suggest a model for.")
    m = _measure(sessions, seed)
    reasons: dict[str, str] = {}
    if streaming:
        reasons["gru4rec"] = (
            "sessions are live streams, and its state of fixed size takes one step a click."
        )
    if m["repeat_rate"] >= REPEAT_RATE or m["repeated_transitions"] >= REPEATED_TRANSITIONS:
        reasons["srgnn"] = (
            f"{m['repeat_rate']:.1%} of the clicks repeat an item of their session and "
            f"{m['repeated_transitions']:.1%} of the transitions were made before in it: its graph "
            "of the session joins such visits in one node."
        )
    if len(m["features"]) >= RICH_FEATURES:
        reasons["bst"] = (
            f"there are {len(m['features'])} features beside the item, "
            f"{', '.join(m['features'])}: gs.data.feature_specs lets it read them."
        )
    if m["length_75%"] <= SHORT_LENGTH:
        reasons["caser"] = (
            f"three sessions in four have at most {m['length_75%']} clicks: its window of "
            f"{SHORT_LENGTH} holds them whole."
        )
    if m["clicks"] >= LARGE_CORPUS:
        reasons["bert4rec"] = (
            f"{m['clicks']:,} clicks are enough for training by masked clicks, which takes many "
            "more epochs than the others."
        )
    reasons["sasrec"] = (
        f"the default for sessions and histories of any kind; max_length={m['length_90%']} holds "
        "nine sessions in ten whole."
    )
    reasons["sequential_rules"] = (
        "counted in seconds, and often ahead of models that were trained too little: what is not "
        "better than this has learned nothing."
    )
    reasons["markov"] = (
        "the first number to have, from transitions alone: whatever follows must beat it."
    )
    return Suggestion(list(reasons), reasons, _notes(m), m)


def _notes(m: Mapping[str, Any]) -> list[str]:
    notes = []
    if m["clicks"] < FEW_CLICKS:
        notes.append(
            f"{m['clicks']:,} clicks are few: sequential_rules and markov may well stay ahead."
        )
    if m["items"] >= LARGE_CATALOG:
        notes.append(
            f"{m['items']:,} items make the exact loss costly: train with loss='sampled_softmax'."
        )
    if m["sessions_per_user"] is not None and m["sessions_per_user"] >= RETURNING:
        notes.append(
            f"Users have {m['sessions_per_user']:.1f} sessions each: join_sessions makes histories "
            "of them, for any family; hgru4rec and with_user remember the user."
        )
    if m["median_days"] is not None and m["median_days"] > 1:
        notes.append(
            f"Half of the sessions span {m['median_days']:.1f} days or more (their times taken as "
            "seconds): these are histories, and leave_last_split tests them."
        )
    return notes


def _measure(sessions: Sessions, seed: int) -> dict[str, Any]:
    """Statistics of the sessions: plain numbers, text, and ``None`` for missing values."""
    told = with_target(sessions)  # a visit of one click gives no information about the next click
    lengths = sessions.lengths[told]
    half, three_quarters, nine_tenths = (
        int(value) for value in np.quantile(lengths, (0.5, 0.75, 0.9), method="inverted_cdf")
    )
    per_user, median_days = None, None
    if sessions.users is not None:
        clicks_of_user = np.bincount(sessions.users[sessions.users >= 0])
        users = int(np.count_nonzero(clicks_of_user))
        per_user = float(clicks_of_user.sum() / users) if users else None
    if sessions.time is not None:
        span = sessions.time[sessions.ptr[1:] - 1] - sessions.time[sessions.ptr[:-1]]
        span = span[told]
        median_days = float(np.median(span)) / 86_400
    sample = _sample(sessions, seed)
    repeats = describe(sample)["value"]
    return {
        "sessions": sessions.num_sessions,
        "sessions_with_target": int(np.count_nonzero(told)),
        "clicks": sessions.num_clicks,
        "items": sessions.num_items,
        "length_50%": half,
        "length_75%": three_quarters,
        "length_90%": nine_tenths,
        "repeat_rate": float(repeats["repeat_rate"]),
        "repeated_transitions": float(repeats["repeated_transitions"]),
        "sampled_sessions": sample.num_sessions,
        "features": _features(sessions),
        "sessions_per_user": per_user,
        "median_days": median_days,
    }


def _sample(sessions: Sessions, seed: int) -> Sessions:
    """Whole sessions with about :data:`SAMPLE_CLICKS` clicks, items only, in their old order."""
    bare = replace(
        sessions,
        time=None,
        users=None,
        click_features={},
        item_features=None,
        session_ids=None,
        first_target=None,
    )
    if sessions.num_clicks <= SAMPLE_CLICKS:
        return bare
    size = max(1, round(SAMPLE_CLICKS * sessions.num_sessions / sessions.num_clicks))
    chosen = stream("part_to_look_at", seed).choice(sessions.num_sessions, size, replace=False)
    return bare.select(np.sort(chosen))


def _features(sessions: Sessions) -> list[str]:
    """Distinct names of features that many clicks or items share."""
    names = [name for name in sessions.click_features if name != SESSION]
    if sessions.item_features is not None:
        head = sessions.item_features.iloc[:SAMPLE_ITEMS]
        names += [str(name) for name in head if not _is_label(head[name])]
    return list(dict.fromkeys(names))


def _is_label(column: pd.Series) -> bool:
    if not (column.dtype == object or isinstance(column.dtype, pd.StringDtype)):
        return False
    try:
        return bool(column.nunique() > LABEL_SHARE * len(column))
    except TypeError:  # lists or arrays, as in a multi-hot feature
        return False
