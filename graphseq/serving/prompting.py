"""A language model as a recommender: history to prompt, prompt to titles, titles to items."""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from graphseq.arguments import whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.serving.exploration import Recommends
from graphseq.serving.titles import histories_of, known_titles

logger = logging.getLogger(__name__)

PROMPT = """\
A person chose these, the latest last:
{history}

Name {k} others that this person may choose next, the likeliest first.
Write one title per line, and nothing else.
"""

NUMBERED = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.):])\s*")
"""What stands before a title in a list."""

MARKED = re.compile(r"\s*(?:\*\*(.+?)\*\*|[\"“](.+?)[\"”])")
"""A title in bold or in quotes, before what else is said of it."""

YEAR = re.compile(r"\((\d{4})\)")
"""The year behind a title, before what else is said of it."""


@dataclass
class PromptUsage:
    """What a prompt recommender has cost so far.

    Args:
        calls: Calls of ``generate``.
        prompt_characters, answer_characters: Length of what it was given, and gave.
        failed_calls: Calls that raised or gave nothing.
        titles: Lines that were read as titles.
        unknown_titles: Lines that name no item of the catalog.
        filled: Places that the fallback filled.
    """

    calls: int = 0
    prompt_characters: int = 0
    answer_characters: int = 0
    failed_calls: int = 0
    titles: int = 0
    unknown_titles: int = 0
    filled: int = 0


@dataclass
class PromptRecommender:
    """Asks a language model which titles come next, and keeps those that the catalog has.

    Args:
        titles: Item id -> its title; items without one are left out and counted.
        generate: From a prompt to a text: any local or remote language model.
        fallback: A model, or another recommender, that fills the places that are left; its items
            have lower scores than all that were named. ``None``: lists may be shorter.
        prompt: A text with the places ``{history}`` and ``{k}``.
        max_history: Newest titles in the prompt.
        retries: Further calls where an answer names too few items.
        closeness: Likeness from which a title that differs a little is taken for an item's, 0 to 1
            (:func:`difflib.get_close_matches`).

    Raises:
        ValueError: If there is no title, the prompt lacks a place, or a number is out of range.
        TypeError: If ``generate`` cannot be called, the fallback cannot recommend, or the titles
            are no mapping.
    """

    titles: Mapping[Hashable, str]
    generate: Callable[[str], str]
    fallback: Recommends | None = None
    prompt: str = PROMPT
    max_history: int = 20
    retries: int = 1
    closeness: float = 0.85
    usage: PromptUsage = field(default_factory=PromptUsage, init=False)

    def __post_init__(self) -> None:
        self.titles = known_titles("prompt recommender", self.titles)
        if self.fallback is not None and not callable(getattr(self.fallback, "recommend", None)):
            raise TypeError(
                f"fallback is a model or another object with recommend(sessions, k), got "
                f"{self.fallback!r}."
            )
        if not callable(self.generate):
            raise TypeError(
                f"generate is a function from a prompt to a text, got {self.generate!r}."
            )
        for place in ("{history}", "{k}"):
            if place not in self.prompt:
                raise ValueError(f"The prompt has no place {place}.")
        whole("max_history", self.max_history)
        whole("retries", self.retries, at_least=0)
        if not 0 < self.closeness <= 1:
            raise ValueError(f"closeness lies in (0, 1], got {self.closeness}.")
        self._items: dict[str, list[Hashable]] = {}  # several films may have one title
        for item, title in self.titles.items():
            self._items.setdefault(plain_title(title), []).append(item)
        self._items.pop("", None)

    def recommend(
        self, sessions: Sessions | Sequence[Sequence[Hashable]], k: int = 10
    ) -> list[list[tuple[Hashable, float]]]:
        """The items that the language model names, best first, none of the session itself.

        Args:
            sessions: Lists of item ids; ids without a title are left out of the prompt.
            k: Items per session.

        Returns:
            ``(item, score)`` pairs, scores ``1 / place``.
        """
        whole("k", k)
        return [self._of_one(session, k) for session in histories_of(sessions)]

    def _of_one(self, session: list[Hashable], k: int) -> list[tuple[Hashable, float]]:
        history = [self.titles[item] for item in session if item in self.titles]
        found: list[Hashable] = []
        if history:
            asked = self.prompt.replace("{k}", str(k)).replace(
                "{history}", "\n".join(f"- {title}" for title in history[-self.max_history :])
            )
            for _ in range(1 + self.retries):
                for items in self._named(asked):
                    new = [item for item in items if item not in found and item not in session]
                    found += new[:1]
                if len(found) >= k:
                    break
        found = found[:k]
        if len(found) < k and self.fallback is not None:
            (more,) = self.fallback.recommend([session], k=k + len(session) + len(found))
            taken = {*found, *session}
            fill = [item for item, _ in more if item not in taken][: k - len(found)]
            self.usage.filled += len(fill)
            found += fill
        return [(item, 1 / place) for place, item in enumerate(found, start=1)]

    def _named(self, prompt: str) -> list[list[Hashable]]:
        """The items that one answer may mean by each title, in its order."""
        self.usage.calls += 1
        self.usage.prompt_characters += len(prompt)
        try:
            answer: Any = self.generate(prompt)
        except Exception as error:  # any client's: a service goes on without it
            logger.warning("The language model failed: %s: %s", type(error).__name__, error)
            answer = None
        if not isinstance(answer, str) or not answer.strip():
            self.usage.failed_calls += 1
            return []
        self.usage.answer_characters += len(answer)
        items = []
        for line in lines_of(answer):
            if not plain_title(line):
                continue
            self.usage.titles += 1
            meant = self._items_of(line)
            if meant:
                items.append(meant)
            else:
                self.usage.unknown_titles += 1
        return items

    def _items_of(self, line: str) -> list[Hashable]:
        marked, year = MARKED.match(line), YEAR.search(line)
        readings = [plain_title(line)]
        readings += [] if marked is None else [plain_title(marked[1] or marked[2])]
        readings += [] if year is None else [plain_title(line[: year.start()])]
        named = next((title for title in readings if title in self._items), None)
        if named is None:
            close = get_close_matches(readings[0], self._items, n=1, cutoff=self.closeness)
            if not close:
                return []
            named = close[0]
        items = self._items[named]
        if year is None:
            return items
        return sorted(items, key=lambda item: year[0] not in self.titles[item])


def lines_of(answer: str) -> list[str]:
    """The titles of an answer: the texts of a JSON list, or lines without what numbers them.

    >>> lines_of('```json\\n["Heat", "Jaws"]\\n```')
    ['Heat', 'Jaws']
    >>> lines_of("1. Heat\\n- Jaws")
    ['Heat', 'Jaws']
    """
    start, end = answer.find("["), answer.rfind("]")
    if 0 <= start < end:
        try:
            told = json.loads(answer[start : end + 1])
        except ValueError:  # brackets in a text
            told = []
        titles = [each for each in told if isinstance(each, str)]
        if titles:
            return titles
    return [NUMBERED.sub("", line) for line in answer.splitlines() if not line.startswith("```")]


def plain_title(title: str) -> str:
    """A title without case, accents, punctuation, and the year behind it.

    >>> plain_title("  Léon: The Professional (1994)")
    'leon the professional'
    """
    text = unicodedata.normalize("NFKD", str(title)).casefold()
    text = "".join(each for each in text if not unicodedata.combining(each))
    text = re.sub(r"\(\d{4}\)\s*$", "", text.strip(" \"'"))
    return " ".join(re.sub(r"[^\w\s]|_", " ", text).split())
