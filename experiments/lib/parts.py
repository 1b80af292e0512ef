"""Bounded parts of the data sets, in the splits that the field uses: small enough for many runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

import graphseq as gs


def part_of(name: str, root: str | None = None) -> gs.Split:
    """The bounded part of a data set, with validation sessions.

    Args:
        name: One of :data:`PARTS`.
        root: Folder of the data sets; ``None``: that of ``$GRAPHSEQ_DATA``.
    """
    return PARTS[name](name, root)


def _newest(name: str, root: str | None, *, share: float, every: int) -> gs.Split:
    """The last training sessions of published files, and every n-th test session."""
    whole = gs.load_split(name, root)
    number = whole.train.num_sessions
    train = whole.train.select(np.arange(round((1 - share) * number), number))
    return gs.fixed_split(train, whole.test[::every], 0.1)


def _shop(name: str, root: str | None) -> gs.Split:
    """The newest 45 % of the sessions of the shop; two weeks of validation before the test."""
    log = gs.load_dataset(name, root)
    end = np.asarray(log.time)[log.ptr[1:] - 1]
    return gs.temporal_split(
        log.select(end >= np.quantile(end, 0.55)), at="2008-07-31", validation=14
    )


def _users(name: str, root: str | None, *, every: int, targets: int, held: int) -> gs.Split:
    """Every n-th user; the last clicks of each are the test, those before them validation."""
    log = gs.load_dataset(name, root)
    some = log.select(np.arange(0, log.num_sessions, every))
    return gs.leave_last_split(some, targets, validation=held)


PARTS: dict[str, Callable[[str, str | None], gs.Split]] = {
    "uci-eshop": _shop,
    "movielens-small": partial(_users, every=1, targets=10, held=5),
    "yoochoose1_64": partial(_newest, share=1 / 6, every=4),
    "diginetica": partial(_newest, share=1 / 12, every=4),
    "retailrocket": partial(_newest, share=1 / 8, every=1),
    "tmall": partial(_newest, share=1 / 5, every=2),
    "beauty": partial(_users, every=2, targets=1, held=1),
}
"""The parts by the name of their data set."""
