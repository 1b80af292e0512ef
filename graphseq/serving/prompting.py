"""A language model as a recommender: history to prompt, prompt to titles, titles to items."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from graphseq.arguments import whole
from graphseq.serving.exploration import Recommends

logger = logging.getLogger(__name__)

PROMPT = """\
A person chose these, the latest last:
{history}

Name {k} others that this person may choose next, the likeliest first.
Write one title per line, and nothing else.
"""

NUMBERED = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.):])\s*")
"""What stands before a title in a list."""


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
        titles: Item id -> its title.
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
        TypeError: If ``generate`` cannot be called.
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
        if not self.titles:
            raise ValueError("A prompt recommender needs the titles of the items, and got none.")
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
        self._items: dict[str, Hashable] = {}
        for item, title in self.titles.items():
            self._items.setdefault(plain_title(title), item)
        self._items.pop("", None)

    def recommend(
        self, sessions: Sequence[Sequence[Hashable]], k: int = 10
    ) -> list[list[tuple[Hashable, float]]]:
        """The items that the language model names, best first, none of the session itself.

        Args:
            sessions: Lists of item ids; ids without a title are left out of the prompt.
            k: Items per session.

        Returns:
            ``(item, score)`` pairs, scores ``1 / place``.
        """
        whole("k", k)
        return [self._of_one(list(session), k) for session in sessions]

    def _of_one(self, session: list[Hashable], k: int) -> list[tuple[Hashable, float]]:
        history = [self.titles[item] for item in session if item in self.titles]
        found: list[Hashable] = []
        if history:
            asked = self.prompt.replace("{k}", str(k)).replace(
                "{history}", "\n".join(f"- {title}" for title in history[-self.max_history :])
            )
            for _ in range(1 + self.retries):
                for item in self._named(asked):
                    if item not in found and item not in session:
                        found.append(item)
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

    def _named(self, prompt: str) -> list[Hashable]:
        """The items that one answer names, in its order."""
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
        for line in answer.splitlines():
            title = plain_title(NUMBERED.sub("", line))
            if not title:
                continue
            self.usage.titles += 1
            item = self._item_of(title)
            if item is None:
                self.usage.unknown_titles += 1
            else:
                items.append(item)
        return items

    def _item_of(self, title: str) -> Hashable | None:
        if title in self._items:
            return self._items[title]
        close = get_close_matches(title, self._items, n=1, cutoff=self.closeness)
        return self._items[close[0]] if close else None


def plain_title(title: str) -> str:
    """A title without case, accents, punctuation, and the year behind it.

    >>> plain_title("  Léon: The Professional (1994)")
    'leon the professional'
    """
    text = unicodedata.normalize("NFKD", str(title)).casefold()
    text = "".join(each for each in text if not unicodedata.combining(each))
    text = re.sub(r"\(\d{4}\)\s*$", "", text.strip(" \"'"))
    return " ".join(re.sub(r"[^\w\s]|_", " ", text).split())
