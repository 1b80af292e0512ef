"""Live sessions: clicks come in, recommendations go out, and nothing is computed twice."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphseq.arguments import whole
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.use.inference import inference
from graphseq.models.use.item_filter import ItemLists
from graphseq.models.use.recommend import item_vocabulary
from graphseq.models.use.requests import Queries
from graphseq.ragged import ptr_of
from graphseq.serving.answers import Answers, Row
from graphseq.serving.item_vectors import Codes, Floats
from graphseq.serving.live.record import Click, Outcome, Record, changed, check_time
from graphseq.serving.live.streams import stream_of
from graphseq.serving.queries import Asked, narrowed
from graphseq.serving.recommender import Recommender
from graphseq.serving.stores import MemoryStore, Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A request for one session.

    Args:
        session: Its id.
        clicks: New clicks; none: only recommendations are wanted.
        k: Items to recommend; 0: none.
        user: The user's id, or ``None``.
        exclude_seen: Whether the items of the session itself are left out.
        exclude: Ids of items never to recommend.
        time: When it is asked, for models that read the time of the request; ``None``: at the last
            click of the session, as in ``recommend``.

    Raises:
        ValueError: If ``exclude`` is a single id, or the time is not a finite number.
    """

    session: str
    clicks: Sequence[Click] = ()
    k: int = 10
    user: Any = None
    exclude_seen: bool = False
    exclude: Sequence[Any] = ()
    time: float | None = None

    def __post_init__(self) -> None:
        check_time("request", self.time)
        if isinstance(self.exclude, (str, bytes)):
            raise ValueError(
                f"exclude is a list of item ids, got {self.exclude!r:.60}: put it into [...]."
            )


@dataclass(frozen=True)
class Reply:
    """The answer to one session.

    Args:
        items: ``(item id, score)``, best first.
        fallback: Whether the items are the popular ones because nothing is known of the session.
        num_clicks: All clicks of the session.
        unknown: Kept clicks on items that the model does not know, which are skipped.
        outcomes: The outcome of each click.
        model_version: The version of the model that answered.
    """

    items: list[tuple[Any, float]]
    fallback: bool
    num_clicks: int
    unknown: int
    outcomes: list[Outcome] = field(default_factory=list)
    model_version: str = ""


class LiveSessions:
    """Sessions that grow while they are answered.

    A click is stored before it is answered. A family with a streaming state (GRU4Rec) advances the
    stored state by one step per click; other families compute the session again. Clicks
    with event ids count once; with times, they take their place whenever they arrive. Models that
    read times get those of the clicks, so that they must be in the unit of the training log.
    Requests that are answered together share one batch through the model and the index.

    Args:
        recommender: Makes the recommendations.
        store: Where sessions are kept; ``None``: in memory.
        max_clicks: Clicks kept per session; of a session with more, the newest ones, and event ids
            are known as long. A state knows all clicks that came in order.
        clock: Seconds since 1970; for tests.

    Raises:
        ValueError: If the recommender is none.
    """

    def __init__(
        self,
        recommender: Recommender,
        store: Store | None = None,
        *,
        max_clicks: int = 200,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = MemoryStore() if store is None else store
        self.max_clicks = whole("max_clicks", max_clicks)
        self.counts: Counter[str] = Counter()
        """Number of clicks by outcome."""
        self._clock = clock
        self._lock = threading.Lock()
        self.recommender = recommender

    @property
    def recommender(self) -> Recommender:
        """Makes the recommendations; can be replaced while requests are answered."""
        return self._serving[0]

    @recommender.setter
    def recommender(self, recommender: Recommender) -> None:
        if not isinstance(recommender, Recommender):
            raise ValueError(
                f"Live sessions ask a Recommender, got {type(recommender).__name__}: "
                "gs.serving.Recommender(model) makes one."
            )
        self._serving = (recommender, stream_of(recommender.model), ItemCodes(recommender))

    def click(
        self, session: str, item: Any, *, time: float | None = None, event: str = "", **options: Any
    ) -> Reply:
        """Takes a click and recommends; options are those of :class:`Request`."""
        return self.answer([Request(session, [Click(item, time, event)], **options)])[0]

    def recommend(self, session: str, k: int = 10, **options: Any) -> Reply:
        """Recommends without a new click; options are those of :class:`Request`."""
        return self.answer([Request(session, k=k, **options)])[0]

    def forget(self, session: str) -> None:
        """Forgets a session."""
        self.store.delete(session)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Answers requests together, in one batch; clicks of one session count in their order.

        Raises:
            ValueError: If a session id or ``k`` is out of range.
            StoreUnavailable: If the store does not answer.
        """
        serving = self._serving  # all of this batch is answered by one model
        for request in requests:
            whole("k", request.k, at_least=0)
        outcomes = self._store_clicks(requests)
        wanted = [request.session for request in requests]
        found = self.store.get(wanted)
        records = [Record.decode(value) for value, _ in found]
        codes = [serving[2].encode(record.items) for record in records]
        kept = [state for _, state in found]
        version = serving[0].version
        with inference(serving[0].model):  # once for all stages
            vectors = self._advanced(serving, version, wanted, records, codes, kept)
            answers = self._answers(serving, version, requests, records, codes, vectors)
        vocabulary = item_vocabulary(serving[0].model)
        return [
            Reply(
                items[: request.k],
                bool(fallback),
                record.total,
                int((code < 0).sum()),
                outcome,
                version,
            )
            for request, record, code, outcome, items, fallback in zip(
                requests,
                records,
                codes,
                outcomes,
                answers.lists(vocabulary),
                answers.fallback,
                strict=True,
            )
        ]

    def _store_clicks(self, requests: Sequence[Request]) -> list[list[Outcome]]:
        """Stores all clicks; returns the outcome of each."""
        outcomes: list[list[Outcome]] = [[] for _ in requests]
        now = self._clock()

        def change_of(place: int) -> Callable[[bytes | None], bytes]:
            def change(value: bytes | None) -> bytes:
                request = requests[place]
                new, outcomes[place] = changed(
                    value, request.clicks, request.user, now, self.max_clicks
                )
                return new

            return change

        changes = [
            (request.session, change_of(place))
            for place, request in enumerate(requests)
            if request.clicks or request.user is not None
        ]
        if changes:
            self.store.update(changes)
        with self._lock:
            self.counts.update(each for listed in outcomes for each in listed)
        return outcomes

    def _advanced(
        self,
        serving: Any,
        version: str,
        sessions: list[str],
        records: list[Record],
        codes: list[Codes],
        kept: list[bytes | None],
    ) -> Floats | None:
        """Session vectors by the states in the store, which go on; ``None``: there are none."""
        recommender, stream, _ = serving
        if stream is None or recommender.reranker is not None or recommender.retrievers:
            return None
        states, clicks, whole = [], [], []
        for record, code, blob in zip(records, codes, kept, strict=True):
            state, done = _read_state(blob, version, record)
            states.append(state)
            new = code[max(0, done - record.dropped) :]
            clicks.append(new[new >= 0])
            whole.append(code[code >= 0])
        vectors, advanced = stream.advance(states, clicks, whole)
        self.store.put_states(
            [
                (session, _state_blob(state, version, record))
                for session, record, state, new in zip(
                    sessions, records, advanced, clicks, strict=True
                )
                if len(new) and state is not None
            ]
        )
        return np.asarray(vectors)

    def _answers(
        self,
        serving: Any,
        version: str,
        requests: Sequence[Request],
        records: list[Record],
        codes: list[Codes],
        vectors: Floats | None,
    ) -> Answers:
        recommender, _, table = serving
        known = [code[code >= 0] for code in codes]
        users = None
        catalog = recommender.model.catalog
        if catalog is not None and catalog.users is not None:
            users = np.concatenate([_code(catalog.users, record.user) for record in records])
        fields, asked_at = _times(recommender, requests, records, codes)
        hidden = [
            np.concatenate(
                [table.encode(list(request.exclude)), code if request.exclude_seen else code[:0]]
            )
            for request, code in zip(requests, known, strict=True)
        ]
        hidden = [each[each >= 0] for each in hidden]
        queries = Queries(
            np.concatenate([np.empty(0, dtype=np.int64), *known]),
            _ptr(known),
            fields,
            users,
            np.arange(len(requests)),
            request_time=asked_at,
        )
        lists = ItemLists(np.concatenate([np.empty(0, dtype=np.int64), *hidden]), _ptr(hidden))
        asked = Asked(
            queries,
            lists if len(lists.codes) else None,
            narrowed(None, recommender.may_serve()),
            exclude_seen=False,
        )
        ks = np.array([max(1, request.k) for request in requests], dtype=np.int64)
        # The best of a first stage are the first of more of them; those of a second may not be.
        depth = np.maximum(ks, recommender.candidates) if recommender.staged else np.zeros_like(ks)
        found: dict[int, Row] = {}
        for each in np.unique(depth):
            rows = np.flatnonzero(depth == each)
            part = None if vectors is None else vectors[rows]
            answers: Answers = recommender.answer(
                asked.rows(rows), int(ks[rows].max()), part, version
            )
            if len(rows) == len(requests):
                return answers
            found |= {row: answers.row(place) for place, row in enumerate(rows.tolist())}
        return Answers.of_rows([found[row] for row in range(len(requests))])


class ItemCodes:
    """Codes of single ids, looked up without building arrays of them."""

    def __init__(self, recommender: Recommender) -> None:
        self._ids = item_vocabulary(recommender.model).ids

    def encode(self, items: Sequence[Any]) -> Codes:
        """int64 [n]; -1: unknown."""
        return np.fromiter((self._code(item) for item in items), dtype=np.int64, count=len(items))

    def _code(self, item: Any) -> int:
        if isinstance(item, (bool, float)):
            return -1
        try:
            return int(self._ids.get_loc(item))  # type: ignore[arg-type]  # ids are distinct
        except (KeyError, TypeError):
            return -1


def _times(
    recommender: Recommender,
    requests: Sequence[Request],
    records: Sequence[Record],
    codes: Sequence[Codes],
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64] | None]:
    """Times of known clicks and of requests, as graphs have them, where a model reads them."""
    if not recommender.reads_times:
        return {}, None
    kept = [np.array(r.times)[code >= 0] for r, code in zip(records, codes, strict=True)]
    fields = {"click_time": np.concatenate([np.empty(0), *kept])}
    told = any(request.time is not None for request in requests)
    if not told or not any(model.reads_request_time for model in recommender.models):
        return fields, None
    last = [times[-1] if len(times) else 0.0 for times in kept]
    asked = [each.time for each in requests]
    return fields, np.array([b if a is None else a for a, b in zip(asked, last, strict=True)])


def _code(vocabulary: Vocabulary, user: Any) -> Codes:
    return np.asarray(vocabulary.encode([-1 if user is None else user]), dtype=np.int64)


def _ptr(parts: list[Codes]) -> Codes:
    return ptr_of([len(part) for part in parts])


def _state_blob(state: bytes, version: str, record: Record) -> bytes:
    return json.dumps([version, record.order, record.total]).encode() + b"\n" + state


def _read_state(blob: bytes | None, version: str, record: Record) -> tuple[bytes | None, int]:
    """A state that fits model and clicks, and the clicks in it; else none, and nothing."""
    if blob is None:
        return None, 0
    head, _, state = blob.partition(b"\n")
    of_version, order, done = json.loads(head)
    fits = (
        of_version == version and order == record.order and record.dropped <= done <= record.total
    )
    return (state, int(done)) if fits else (None, 0)
