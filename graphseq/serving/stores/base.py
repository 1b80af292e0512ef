"""Where live sessions are kept: one interface, in memory, in a file, or in a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from graphseq.arguments import whole

LONGEST_KEY = 400
"""Bytes of a session id at most."""

Change = Callable[[bytes | None], bytes]
"""The value of a session now (``None``: there is none) -> its new value."""


class StoreUnavailable(ConnectionError):  # noqa: N818  # what it says, not what went wrong
    """The store does not answer; it may again later."""


class Store(ABC):
    """Values of live sessions by id, each for a while, and at most so many.

    Every session has a value, which is changed in one step that no other process can come between,
    and a state, which may be lost: it can be computed from the value. The session that was not
    changed for the longest time leaves first.

    Args:
        seconds: How long a session is kept after its last change.
        max_sessions: Sessions kept at most.

    Raises:
        ValueError: If an argument is not positive.
    """

    def __init__(self, *, seconds: float = 1_800.0, max_sessions: int = 1_000_000) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds must be positive, got {seconds}.")
        self.seconds = float(seconds)
        self.max_sessions = whole("max_sessions", max_sessions)

    @abstractmethod
    def get(self, sessions: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        """Value and state of each session; ``None`` where there is none."""

    @abstractmethod
    def update(self, changes: Sequence[tuple[str, Change]]) -> list[bytes]:
        """Changes values, each in one step, in this order; what is returned is kept.

        A session may occur several times. A change may be computed again where another process
        came first, so it must depend on nothing but the value.

        Returns:
            The new value of each.

        Raises:
            ValueError: If a session id is empty or too long.
            StoreUnavailable: If the store does not answer.
        """

    @abstractmethod
    def put_states(self, states: Sequence[tuple[str, bytes]]) -> None:
        """Keeps states of sessions that have a value."""

    @abstractmethod
    def delete(self, session: str) -> None:
        """Forgets a session, if it is there."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def evicted(self) -> int:
        """Sessions that left since the store was opened, as there were too many."""

    def check(self) -> None:  # noqa: B027  # in memory there is nothing to ask
        """Asks whether the store answers.

        Raises:
            StoreUnavailable: If it does not.
        """

    def close(self) -> None:  # noqa: B027  # in memory there is nothing to close
        """Lets go of files and connections."""


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
