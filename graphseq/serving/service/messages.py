"""What the service reads and writes: JSON, checked as it is read."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from graphseq.serving.live import Reply

Id = Annotated[str, Meta(max_length=400)] | int
"""Id of an item or a user in JSON; longer ones would fill the store."""

Time = Annotated[float, Meta(ge=0)]
"""Seconds since 1970."""

MOST_CLICKS = 100
MOST_EXCLUDED = 1_000
MOST_SESSIONS = 256
MOST_LENGTH = 1_000


class ErrorAnswer(Struct):
    """What is wrong with a request, in one sentence."""

    error: str


class ClickBody(Struct, forbid_unknown_fields=True):
    """A click, or several, and how to answer.

    Args:
        item: The item clicked; or ``clicks`` for several.
        time: Seconds since 1970, at most a day ahead; left out: now.
        event: Id of the click; a repeated id counts once.
        clicks: Several clicks, each ``{"item": ..., "time": ..., "event": ...}``.
        user: The user's id.
        k: Items to recommend.
        exclude_seen: Whether items of the session itself are excluded.
        exclude: Items never to recommend.
    """

    item: Id | None = None
    time: Time | None = None
    event: Annotated[str, Meta(max_length=100)] = ""
    clicks: Annotated[list[OneClick], Meta(max_length=MOST_CLICKS)] | None = None
    user: Id | None = None
    k: Annotated[int, Meta(ge=0)] = 10
    exclude_seen: bool = False
    exclude: Annotated[list[Id], Meta(max_length=MOST_EXCLUDED)] = []


class OneClick(Struct, forbid_unknown_fields=True):
    """One of several clicks."""

    item: Id
    time: Time | None = None
    event: Annotated[str, Meta(max_length=100)] = ""


class BatchBody(Struct, forbid_unknown_fields=True):
    """Sessions that are not kept: each a list of items, oldest first.

    Args:
        sessions: The sessions.
        k: Items to recommend.
        exclude_seen: Whether the items of each session itself are left out.
        times: The time of each click, for models that read them; left out: now.
        model: A name that ``/models`` tells; left out: the model that answers clicks.
    """

    sessions: Annotated[
        list[Annotated[list[Id], Meta(max_length=MOST_LENGTH)]],
        Meta(min_length=1, max_length=MOST_SESSIONS),
    ]
    k: Annotated[int, Meta(ge=1)] = 10
    exclude_seen: bool = False
    times: list[list[Time]] | None = None
    model: str | None = None


class WhyBody(Struct, forbid_unknown_fields=True):
    """A session, and one of the items that it is recommended.

    Args:
        session: Items, oldest first.
        item: The item that is asked about.
        times: The time of each click, for models that read them; left out: now.
        model: A name that ``/models`` tells; left out: the model that answers clicks.
    """

    session: Annotated[list[Id], Meta(min_length=1, max_length=MOST_LENGTH)]
    item: Id
    times: list[Time] | None = None
    model: str | None = None


class Recommended(Struct):
    """An item and its score."""

    item: Any
    score: float


class SessionAnswer(Struct):
    """The answer to one session."""

    items: list[Recommended]
    fallback: bool
    num_clicks: int
    unknown: int
    outcomes: list[str]
    model_version: str

    @classmethod
    def of(cls, reply: Reply) -> SessionAnswer:
        """The answer of a reply."""
        return cls(
            recommended(reply.items),
            reply.fallback,
            reply.num_clicks,
            reply.unknown,
            list(reply.outcomes),
            reply.model_version,
        )


class BatchAnswer(Struct):
    """Answers to several sessions in their order, time of the model, unknown clicks skipped."""

    answers: list[list[Recommended]]
    model_version: str
    milliseconds: float
    unknown: list[int]
    titles: list[dict[str, Any]] = []


class ClickReason(Struct):
    """What the item's score loses without a click; positions begin at 0."""

    position: int
    loss: float


class EdgeReason(Struct):
    """What the item's score loses without a transition of the session graph."""

    source: Any
    target: Any
    loss: float


class WhyAnswer(Struct):
    """Why an item is recommended: what its lead over the mean of all items loses."""

    clicks: list[ClickReason]
    edges: list[EdgeReason]


def recommended(items: list[tuple[Any, float]]) -> list[Recommended]:
    """Pairs of item and score in the form of an answer."""
    return [Recommended(item, score) for item, score in items]
