"""Where live sessions are kept: one interface, in memory, in a file, or in a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from graphseq.arguments import check_positive, whole

LONGEST_KEY = 400
"""Bytes of a session id at most."""

Change = Callable[[bytes | None], bytes]
"""The value of a session now (``None``: there is none) -> its new value."""


class StoreUnavailable(ConnectionError):  # noqa: N818  # a state, not a mistake
    """The store does not answer now."""


class Store(ABC):
    """Values of live sessions by id, each for a while, and at most so many.

    Each session has a value, which changes atomically, and a state, which may be lost because it
    can be computed from the value. The session that is unchanged for longest is evicted first.

    Args:
        seconds: How long a session is kept after its last change.
        max_sessions: Sessions kept at most.

    Raises:
        ValueError: If an argument is not positive.
    """

    def __init__(self, *, seconds: float = 1_800.0, max_sessions: int = 1_000_000) -> None:
        check_positive(seconds=seconds)
        self.seconds = float(seconds)
        self.max_sessions = whole("max_sessions", max_sessions)

    @abstractmethod
    def get(self, sessions: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        """Value and state of each session; ``None`` where there is none."""

    @abstractmethod
    def update(self, changes: Sequence[tuple[str, Change]]) -> list[bytes]:
        """Changes values in this order, each atomically.

        A session may occur several times. A change is computed again if another process was faster,
        so it must depend on the value only.

        Returns:
            The new value of each.

        Raises:
            ValueError: If a session id is empty or too long.
            StoreUnavailable: If the store does not answer.
        """

    @abstractmethod
    def put_states(self, states: Sequence[tuple[str, bytes]]) -> None:
        """Stores states of sessions that have a value."""

    @abstractmethod
    def delete(self, session: str) -> None:
        """Deletes a session, if there is one."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def evicted(self) -> int:
        """Sessions evicted since the store was opened because there were too many."""

    def check(self) -> None:  # noqa: B027  # in memory there is nothing to ask
        """Checks that the store answers.

        Raises:
            StoreUnavailable: If it does not.
        """

    def close(self) -> None:  # noqa: B027  # in memory there is nothing to close
        """Closes files and connections."""


def key_of(session: str) -> bytes:
    """A session id as bytes.

    Raises:
        ValueError: If it is empty, no text, or too long.
    """
    key = session.encode() if isinstance(session, str) else b""
    if not 0 < len(key) <= LONGEST_KEY:
        raise ValueError(
            f"A session id is text of 1 to {LONGEST_KEY} bytes, got {str(session)[:40]!r}."
        )
    return key
