"""What recommenders of texts are given: titles of items, and histories as lists of ids."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from graphseq.data.sessions.sessions import Sessions

logger = logging.getLogger(__name__)


def known_titles(who: str, titles: Mapping[Hashable, Any] | pd.Series) -> dict[Hashable, str]:
    """The titles as texts; items whose title is missing or blank are left out and counted.

    Args:
        who: The recommender, for messages.
        titles: Item id -> its title.

    Raises:
        TypeError: If they are no mapping.
        ValueError: If there is no title.
    """
    if not isinstance(titles, (Mapping, pd.Series)):
        raise TypeError(
            f"titles maps item ids to titles, as dict(zip(ids, titles)), got a "
            f"{type(titles).__name__}."
        )
    # NaN differs from itself.
    told = {item: str(text) for item, text in titles.items() if text is not None and text == text}
    known = {item: text for item, text in told.items() if text.strip()}
    if not known:
        raise ValueError(f"A {who} needs the titles of the items, and got none.")
    if len(known) < len(titles):
        logger.warning(
            "%d of %d items have no title: a %s does not recommend them.",
            len(titles) - len(known),
            len(titles),
            who,
        )
    return known


def histories_of(sessions: Sessions | Sequence[Sequence[Hashable]]) -> list[list[Hashable]]:
    """Lists of item ids, one per session.

    Raises:
        ValueError: If a session is no list of ids.
    """
    if isinstance(sessions, Sessions):
        return sessions.to_lists()
    if isinstance(sessions, (str, bytes)):
        raise ValueError(f"sessions are lists of item ids, as [['a', 'b']], got {sessions!r}.")
    found = []
    for number, session in enumerate(sessions):
        if isinstance(session, (str, bytes)) or not hasattr(session, "__iter__"):
            raise ValueError(
                f"Session {number} is a list of item ids, as ['a', 'b'], got {session!r}: put "
                "one session into a list of its own."
            )
        found.append(list(session))
    return found
