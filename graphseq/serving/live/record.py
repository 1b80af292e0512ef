"""The stored clicks of a live session: in order and each once, however they arrive."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Outcome = Literal["new", "late", "repeated", "too_old"]
"""``"new"``: the newest click; ``"late"``: it went before others; ``"repeated"``: its event is here
already; ``"too_old"``: it is older than all clicks that are kept, of which there are as many as may
be. The last two change nothing, and count as no click."""


def plain_id(value: Any) -> Any:
    """An id in the form that stores keep: NumPy numbers become plain ones.

    Raises:
        ValueError: If it is neither text nor a number.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError(f"Live sessions keep ids that are text or numbers, got {value!r:.60}.")
    return value


def check_time(owner: str, time: Any) -> None:
    """Refuses a time that is no finite number; ``None`` passes.

    Raises:
        ValueError: If it is none.
    """
    number = isinstance(time, (int, float, np.number)) and not isinstance(time, bool)
    if time is not None and not (number and np.isfinite(time)):
        left_out = "now" if owner == "click" else "the last click"
        raise ValueError(
            f"The time of a {owner} is seconds since 1970, or None for {left_out}, got "
            f"{time!r:.60}."
        )


@dataclass(frozen=True)
class Click:
    """A click as it arrives.

    Args:
        item: The item's id.
        time: Seconds since 1970; ``None``: now, after all clicks that are here.
        event: Id of the click, which counts once per id; empty: it always counts.

    Raises:
        ValueError: If the item is missing or neither text nor a number, the time is not a finite
            number, or the event is not text.
    """

    item: Any
    time: float | None = None
    event: str = ""

    def __post_init__(self) -> None:
        if self.item is None or self.item != self.item:  # NaN
            raise ValueError(f"A click needs an item, got {self.item!r}.")
        plain_id(self.item)
        check_time("click", self.time)
        if not isinstance(self.event, str):
            raise ValueError(f"The event of a click is text, got {self.event!r:.60}.")


@dataclass
class Record:
    """The clicks of a live session, oldest first.

    Args:
        items: Ids of the items, [num_clicks].
        times: Seconds since 1970, ascending, [num_clicks].
        events: Ids of the clicks; empty where one has none, [num_clicks].
        user: The user's id, or ``None``.
        dropped: Older clicks that are no longer kept.
        order: How often a click was inserted before others; the state is then computed again.
    """

    items: list[Any] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    user: Any = None
    dropped: int = 0
    order: int = 0

    @property
    def total(self) -> int:
        """All clicks, including those that are no longer kept."""
        return self.dropped + len(self.items)

    def add(self, click: Click, now: float, most: int) -> Outcome:
        """Inserts a click by time, and by event among clicks of the same time.

        Args:
            click: The click.
            now: Seconds since 1970, for a click without a time.
            most: Clicks to keep.

        Raises:
            ValueError: If the item is neither text nor a number.
        """
        item = plain_id(click.item)
        if click.event and click.event in self.events:
            return "repeated"
        newest = self.times[-1] if self.times else now
        time = max(newest, now) if click.time is None else float(click.time)
        place = bisect_right(
            range(len(self.times)),
            (time, click.event),
            key=lambda n: (self.times[n], self.events[n]),
        )
        if click.time is None:
            place = len(self.times)
        over = max(0, len(self.items) - most)  # earlier, more may have been kept
        if place <= over and (self.dropped or len(self.items) >= most):
            return "too_old"  # to insert it would be to drop it at once
        late = place < len(self.times)
        self.items.insert(place, item)
        self.times.insert(place, time)
        self.events.insert(place, click.event)
        self.order += late
        over = max(0, len(self.items) - most)
        for kept in (self.items, self.times, self.events):
            del kept[:over]
        self.dropped += over
        return "late" if late else "new"

    def encode(self) -> bytes:
        """The record as bytes: JSON."""
        values = [self.items, self.times, self.events, self.user, self.dropped, self.order]
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, value: bytes | None) -> Record:
        """The record of bytes; a new one of ``None``.

        Raises:
            ValueError: If the bytes are not a record.
        """
        if value is None:
            return cls()
        try:
            items, times, events, user, dropped, order = json.loads(value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"A session in the store is broken: {value[:40]!r}.") from error
        return cls(items, times, events, user, dropped, order)


def changed(
    value: bytes | None, clicks: Sequence[Click], user: Any, now: float, most: int
) -> tuple[bytes, list[Outcome]]:
    """A record with further clicks, and what became of each."""
    record = Record.decode(value)
    outcomes = [record.add(click, now, most) for click in clicks]
    record.user = record.user if user is None else plain_id(user)
    return record.encode(), outcomes
