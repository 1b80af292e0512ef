"""Answers in codes of a model, and as a caller reads them: lists of pairs, or a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.use.recommend import frame_of
from graphseq.models.use.requests import Queries
from graphseq.ragged import ptr_of
from graphseq.serving.candidates import Candidates
from graphseq.serving.item_vectors import Codes

Row = tuple[Codes, NDArray[np.float64], bool]
"""Items of a session, their scores, and whether it is the fallback."""


@dataclass(frozen=True, eq=False)
class Answers:
    """The final lists of some sessions.

    Args:
        found: The items of each session, best first.
        fallback: Which sessions were answered by popularity, [num_sessions].
    """

    found: Candidates
    fallback: NDArray[np.bool_]

    @classmethod
    def of_rows(cls, rows: Sequence[Row]) -> Answers:
        """Of the answers of single sessions."""
        counts = [len(items) for items, _, _ in rows]
        session = np.repeat(np.arange(len(rows)), counts)
        items = np.concatenate([np.empty(0, dtype=np.int64), *(items for items, _, _ in rows)])
        scores = np.concatenate([np.empty(0), *(scores for _, scores, _ in rows)])
        found = Candidates.of_pairs(session, items, scores, len(rows))
        return cls(found, np.array([fallback for _, _, fallback in rows], dtype=bool))

    def row(self, session: int) -> Row:
        """The answer of one session."""
        count = int(np.count_nonzero(self.found.items[session] >= 0))
        items, scores = self.found.items[session, :count], self.found.scores[session, :count]
        return items.copy(), scores.copy(), bool(self.fallback[session])

    def with_rows(self, rows: Codes, popular: Candidates) -> Answers:
        """The same with popular items for some sessions."""
        listed: list[Row] = [self.row(session) for session in range(len(self.fallback))]
        others = Answers(popular, np.ones(len(rows), dtype=bool))
        for place, session in enumerate(rows.tolist()):
            listed[session] = others.row(place)
        return Answers.of_rows(listed)

    def lists(self, vocabulary: Vocabulary) -> list[list[tuple[Any, float]]]:
        """One list of ``(item id, score)`` per session."""
        present = self.found.items >= 0
        pairs = list(
            zip(
                vocabulary.decode(self.found.items[present]),
                self.found.scores[present].tolist(),
                strict=True,
            )
        )
        ends = ptr_of(present.sum(1)).tolist()
        return [pairs[i:j] for i, j in pairwise(ends)]


def as_frame_of(
    answers: Answers, queries: Queries, vocabulary: Vocabulary, columns: Mapping[str, Any]
) -> pd.DataFrame:
    """One row per recommendation in the order of sessions and ranks."""
    session, place = np.nonzero(answers.found.items >= 0)
    code, score = answers.found.items[session, place], answers.found.scores[session, place]
    return frame_of(queries, vocabulary, session, place + 1, code, score, answers.fallback, columns)


def is_one_session(sessions: Any) -> bool:
    """Whether this is one session, a list of ids, and not a list of sessions."""
    return (
        isinstance(sessions, (list, tuple))
        and len(sessions) > 0
        and all(isinstance(item, (str, bytes, int, float, np.generic)) for item in sessions)
    )
