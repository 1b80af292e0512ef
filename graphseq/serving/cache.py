"""Answers kept for sessions that are asked again, never beyond a change of what made them."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any

from graphseq.arguments import check_positive, whole
from graphseq.serving.extras import need


class AnswerCache:
    """The most recent answers, each for a while.

    Keys hold the version of the model, the catalog, the index and the filters, so that an answer
    of before a change is never found after it.

    Args:
        max_answers: Answers kept; the one that was not asked for the longest time goes first.
        seconds: How long each is kept.

    Raises:
        ValueError: If cachetools is missing, or an argument is not positive.
    """

    def __init__(self, max_answers: int = 100_000, seconds: float = 300.0) -> None:
        self.max_answers = whole("max_answers", max_answers)
        check_positive(seconds=seconds)
        self.seconds = float(seconds)
        library = need("cachetools", "AnswerCache")
        self._answers = library.TTLCache(self.max_answers, self.seconds)
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable) -> Any:
        """The answer to this key, or ``None``."""
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
            return found

    def put(self, key: Hashable, answer: Any) -> None:
        """Keeps an answer."""
        with self._lock:
            self._answers[key] = answer

    def clear(self) -> None:
        """Forgets all answers; counts stay."""
        with self._lock:
            self._answers.clear()

    @property
    def hit_rate(self) -> float:
        """Share of the answers asked for that were here."""
        return self.hits / max(1, self.hits + self.misses)

    def __len__(self) -> int:
        with self._lock:
            return len(self._answers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_answers={self.max_answers}, seconds={self.seconds})"
