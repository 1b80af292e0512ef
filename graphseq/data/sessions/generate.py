"""Synthetic sessions with planted structure, so that the right predictions are known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from graphseq.arguments import check_annotated
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.ragged import ptr_of
from graphseq.typing import Floats, Ints

STRENGTH = 0.9
"""Probability that a planted step is taken; otherwise the next click is random."""

STAY = 0.8
"""Probability that a browsing click stays in the category of its session."""

RETURN = 0.5
"""Probability that a click of a looping session goes to a return item."""

FIRST_CLICKS = 3
"""A looping session's hub is one of this many first clicks."""

PRICE_LEVELS = 200
"""Categories with a price level of their own; more share these levels: prices stay finite."""

MAX_LENGTH = 100
START = 1_577_836_800.0  # 2020-01-01, in seconds since 1970
SECONDS_BETWEEN_CLICKS = 30.0
ROLES = ("pattern", "return", "browse")


def generate_sessions(
    num_sessions: int = 10_000,
    num_items: int = 1_000,
    *,
    mean_length: float = 8.0,
    num_categories: int = 10,
    skew: float = 1.0,
    drift: float = 0.2,
    repeats: float = 0.1,
    pattern: float = 0.2,
    loops: float = 0.2,
    days: float = 30.0,
    seed: int = 0,
) -> Sessions:
    r"""Generates sessions of three kinds, ordered by start, in one loop over positions.

    *Browsing* sessions draw items of their category by a Zipf law whose head drifts over time, and
    sometimes return to an earlier click. *Pattern* sessions walk over few items
    :math:`0..m-1` by :math:`x_{t+1} = (x_t + x_{t-1}) \bmod m`: given only the last click every
    item is equally likely, given the last two the next one is known. *Looping* sessions have a hub,
    one of their first clicks; after each return item they come back to it. The return items are the
    same in all sessions and the hub is not. Only the session's own graph therefore shows where it
    goes: to the node with the most transitions into it, except return items. Both rules hold with
    probability :data:`STRENGTH`.

    Args:
        num_sessions: Number of sessions.
        num_items: Number of items, ids ``0..num_items-1``; some may never be clicked.
        mean_length: Mean number of clicks per session, at least 2: two plus a geometric number, cut
            at :data:`MAX_LENGTH`.
        num_categories: Number of categories.
        skew: Exponent of the Zipf law of items and categories; 0: uniform.
        drift: Share of a category by which its most popular item drifts over the whole time span.
        repeats: Probability that a browsing click repeats an earlier one of its session.
        pattern, loops: Shares of pattern and looping sessions; the others browse.
        days: Time span of the sessions' starts, in days.
        seed: Seed of all random numbers.

    Returns:
        Sessions with times (seconds), click features ``category`` and ``price``, and item features
        ``category``, ``price`` and ``role`` (``"pattern"``, ``"return"`` or ``"browse"``).

    Raises:
        ValueError: If an argument is out of range or there are too few items.
    """
    given = locals()
    check_annotated(generate_sessions.__annotations__, given)
    _check(num_sessions, mean_length, num_categories, skew, drift, repeats, pattern, loops, days)
    num_pattern = min(16, max(2, num_items // 8)) if pattern else 0
    num_return = max(1, num_items // 50) if loops else 0
    first_browse = num_pattern + num_return
    if num_items - first_browse < num_categories:
        raise ValueError(
            f"num_items must be at least {first_browse + num_categories} for {num_categories} "
            f"categories and the planted structure, got {num_items}."
        )
    rng = np.random.default_rng(seed)
    start = np.sort(rng.random(num_sessions))  # in spans: 0 is the first day, 1 the last
    kind = np.searchsorted([pattern, pattern + loops], rng.random(num_sessions), side="right")
    more = rng.geometric(1.0 / (mean_length - 1.0), num_sessions) - 1
    lengths = np.minimum(2 + more, MAX_LENGTH)
    ptr = ptr_of(lengths)
    hub = rng.integers(0, FIRST_CLICKS, num_sessions)
    category = zipf_ranks(rng.random(num_sessions), num_categories, skew)
    items = np.empty(ptr[-1], dtype=np.int32)

    def browse(sessions: Ints) -> Ints:
        chosen = category[sessions]
        strays = rng.random(len(sessions)) >= STAY
        chosen[strays] = zipf_ranks(rng.random(int(strays.sum())), num_categories, skew)
        sizes = -((chosen - (num_items - first_browse)) // num_categories)  # rounded up
        rank = zipf_ranks(rng.random(len(sessions)), sizes, skew)
        moved = (start[sessions] * drift * sizes).astype(np.int64)
        return first_browse + num_categories * ((rank + moved) % sizes) + chosen

    alive = np.arange(num_sessions)
    for position in range(int(lengths.max())):
        alive = alive[lengths[alive] > position]
        walking, looping, browsing = (alive[kind[alive] == value] for value in range(3))

        at = ptr[walking] + position
        items[at] = rng.integers(0, max(num_pattern, 1), len(walking))
        if position >= 2:
            at = at[rng.random(len(at)) < STRENGTH]
            items[at] = (items[at - 1] + items[at - 2]) % num_pattern

        at = ptr[looping] + position
        items[at] = browse(looping)
        looping = looping[hub[looping] < position]
        at = ptr[looping] + position
        if len(at):  # and return items exist
            before = items[at - 1]
            returned = (num_pattern <= before) & (before < first_browse)
            chance = rng.random(len(at))
            home = returned & (chance < STRENGTH)
            items[at[home]] = items[ptr[looping[home]] + hub[looping[home]]]
            leaves = at[~returned & (chance < RETURN)]
            items[leaves] = rng.integers(num_pattern, first_browse, len(leaves))

        at = ptr[browsing] + position
        items[at] = browse(browsing)
        again = rng.random(len(at)) < (repeats if position else 0.0)
        earlier = (rng.random(int(again.sum())) * position).astype(np.int64)
        items[at[again]] = items[ptr[browsing[again]] + earlier]

    codes = np.arange(num_items)
    categories = ((codes - first_browse) % num_categories).astype(np.int32)
    level = 3.0 + 0.1 * (categories % PRICE_LEVELS)
    prices = np.round(np.exp(rng.normal(level, 0.5)), 2)
    names = [f"category {value}" for value in range(num_categories)]
    role = np.searchsorted([num_pattern, first_browse], codes, side="right")
    return Sessions(
        items,
        ptr,
        Vocabulary(pd.Index(codes)),
        time=_times(start * days * 86_400.0, ptr, rng),
        click_features={"category": categories[items], "price": prices[items]},
        feature_vocabularies={"category": Vocabulary(names)},
        item_features=pd.DataFrame(
            {
                "category": pd.Categorical.from_codes(categories, pd.Index(names)),
                "price": prices,
                "role": pd.Categorical.from_codes(role, pd.Index(ROLES)),
            }
        ),
    )


def zipf_ranks(uniform: Floats, size: int | Ints, skew: float) -> Ints:
    """Ranks ``0..size-1`` with density ``x ** -skew`` over ``1 <= x < size + 1``, rounded down.

    The inverse of the distribution has a closed form: no table of the items is needed, and every
    draw can have its own size.

    Args:
        uniform: Uniform numbers in [0, 1), [n].
        size: Number of ranks, for all draws or for each, [n].
        skew: Exponent.

    Returns:
        Ranks, int64 [n].
    """
    end = np.asarray(size) + 1.0
    if abs(skew - 1.0) < 1e-9:
        x = end**uniform
    else:
        power = 1.0 - skew
        x = (1.0 + uniform * (end**power - 1.0)) ** (1.0 / power)
    return np.minimum(x.astype(np.int64), size) - 1  # rounding may reach the end


def _times(start: Floats, ptr: Ints, rng: np.random.Generator) -> Floats:
    """Starts plus exponential pauses, cumulated per session: seconds, [num_clicks]."""
    pauses = rng.exponential(SECONDS_BETWEEN_CLICKS, ptr[-1])
    pauses[ptr[:-1]] = 0.0
    total = np.cumsum(pauses)
    times: Floats = START + total + np.repeat(start - total[ptr[:-1]], np.diff(ptr))
    return times


def _check(
    num_sessions: int,
    mean_length: float,
    num_categories: int,
    skew: float,
    drift: float,
    repeats: float,
    pattern: float,
    loops: float,
    days: float,
) -> None:
    for name, value, least in (
        ("num_sessions", num_sessions, 1),
        ("mean_length", mean_length, 2),
        ("num_categories", num_categories, 1),
        ("skew", skew, 0),
        ("days", days, 0),
    ):
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")
    for name, share in (
        ("drift", drift),
        ("repeats", repeats),
        ("pattern", pattern),
        ("loops", loops),
        ("pattern + loops", pattern + loops),
    ):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share between 0 and 1, got {share}.")
