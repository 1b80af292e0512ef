"""The smallest change of a session after which an item is no longer recommended."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

import numpy as np

from graphseq.arguments import whole
from graphseq.explanations.explain import best_of, seen_of, without
from graphseq.explanations.variants import Scores, score_variants
from graphseq.models.base import SessionModel
from graphseq.models.recommender import SessionsLike
from graphseq.models.use.attention import code_of
from graphseq.models.use.recommend import item_vocabulary


@dataclass(frozen=True)
class Counterfactual:
    """The clicks without which an item leaves the best ``k``.

    Attributes:
        item: The item.
        k: Of which best items it was one.
        removed: Places of the clicks taken away, among those that the model sees, oldest first;
            empty where nothing helps.
        items: The items of these clicks.
        rank: The item's place before.
        rank_after: Its place after; with nothing removed, the same.
        found: Whether it leaves the best ``k``.
        proven: Whether every smaller change was tried.
    """

    item: Any
    k: int
    removed: tuple[int, ...]
    items: tuple[Any, ...]
    rank: int
    rank_after: int
    found: bool
    proven: bool


def counterfactual(
    model: SessionModel,
    session: SessionsLike,
    item: Any = None,
    *,
    k: int = 10,
    user: Any = None,
    max_tries: int = 20_000,
) -> Counterfactual:
    """Finds the fewest clicks without which an item leaves the best ``k`` of a session.

    All sets of one click are tried, then of two, and so on; of equally small ones the one after
    which the item stands lowest is taken. Where that would take more than ``max_tries`` tries, the
    search goes on greedily: the click without which the item stands lowest goes first.

    Args:
        model: Any model.
        session: A list of item ids, or whatever ``recommend`` takes, of one session.
        item: Id of the item; ``None``: the one that the model recommends first.
        k: Which best items it is to leave.
        user: Id of the user.
        max_tries: Changed sessions that are scored, at most.

    Raises:
        ValueError: If it is not one known session, the model does not know the item, a number is
            not positive, or the item is not among the best ``k``.
    """
    k, max_tries = whole("k", k), whole("max_tries", max_tries)
    batch, _ = seen_of(model, session, user)
    code = best_of(model, batch) if item is None else code_of(model, item)
    size = batch.num_clicks
    ids = item_vocabulary(model).ids
    rank = int(score_variants(model, batch, [np.arange(size)], code).rank[0])
    if rank > k:
        raise ValueError(
            f"{np.asarray(ids[code]).item()!r} is number {rank} of this session, not among "
            f"the best {k}: there is nothing to undo."
        )

    def answer(removed: Sequence[int], after: int, *, found: bool, proven: bool) -> Counterfactual:
        places = tuple(sorted(removed))
        items = tuple(ids[batch.click_item[place].item()] for place in places)
        return Counterfactual(ids[code], k, places, items, rank, after, found, proven)

    def tried(sets: Sequence[tuple[int, ...]]) -> Scores:
        return score_variants(model, batch, [without(size, each) for each in sets], code)

    tries, number = 0, 0
    for number in range(1, size):
        tries += math.comb(size, number)
        if tries > max_tries:
            break
        best: tuple[int, tuple[int, ...]] = (0, ())
        for sets in _chunks(combinations(range(size), number)):
            ranks = tried(sets).rank
            place = int(ranks.argmax())
            best = max(best, (int(ranks[place]), sets[place]), key=lambda each: each[0])
        if best[0] > k:
            return answer(best[1], best[0], found=True, proven=True)
    else:
        return answer((), rank, found=False, proven=True)
    gone: tuple[int, ...] = ()
    while len(gone) < size - 1:
        sets = [(*gone, place) for place in range(size) if place not in gone]
        scores = tried(sets)
        place = int(np.lexsort((scores.margin, -scores.rank))[0])
        gone, after = sets[place], int(scores.rank[place])
        if after > k:
            # Clicks that went early may not be needed any more.
            for click in gone[:-1]:
                fewer = tuple(each for each in gone if each != click)
                shown = int(tried([fewer]).rank[0])
                if shown > k:
                    gone, after = fewer, shown
            return answer(gone, after, found=True, proven=len(gone) <= number)
    return answer((), rank, found=False, proven=False)


def _chunks(sets: Iterator[tuple[int, ...]], size: int = 1024) -> Iterator[list[tuple[int, ...]]]:
    while chunk := list(islice(sets, size)):
        yield chunk
