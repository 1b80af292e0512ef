"""The recommender: what answers sessions in production, from candidates to the final list."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from graphseq.arguments import check_not_negative, flag, whole
from graphseq.data.storage import write_folder
from graphseq.evaluation.inputs import require_model
from graphseq.models.base import SessionModel
from graphseq.models.recommender import SessionsLike
from graphseq.models.use.item_filter import Items, read_items
from graphseq.models.use.persistence import MODEL
from graphseq.models.use.recommend import item_vocabulary
from graphseq.models.use.requests import read_queries
from graphseq.models.use.rounding import Precision, rounded_model
from graphseq.serving.answers import Answers, as_frame_of, is_one_session
from graphseq.serving.cache import AnswerCache
from graphseq.serving.candidates import Candidates, diversify, fuse
from graphseq.serving.indexes import INDEX, Index, build_index
from graphseq.serving.item_vectors import Floats, model_version
from graphseq.serving.queries import Asked, narrowed
from graphseq.serving.retrieval import score_all, through_index
from graphseq.serving.saved_form import RECOMMENDER
from graphseq.serving.stages import Rules, reranked, ruled, vectors_of
from graphseq.serving.watch import Watch

logger = logging.getLogger(__name__)


PARTS = ("model", "index", "retrievers", "reranker", "rules")
"""What a recommender is made of: after one is replaced, no answer of before is given."""


class Recommender:
    """A model made ready to answer: candidates, filters, re-ranking, diversity, rules, cache.

    The first stage finds ``candidates`` items per session: those that an index finds, or the best
    by the scores of all items; lists of further retrievers are merged by reciprocal rank fusion.
    Then come the reranker's scores, maximal marginal relevance, and your own rules. Where there is
    no second stage, the first one finds ``k`` items. Any number of threads may ask at once.

    Args:
        model: Any model; with an index, one whose scores are inner products with one item table.
        index: ``None``: all items are scored. A name in :data:`~graphseq.serving.INDEXES`, or an
            index of this version of the model.
        retrievers: Further models of the same items, whose candidates are merged.
        weights: Weight of the model and of each retriever in the merging; ``None``: 1 each.
        reranker: A model of the same items that orders the candidates.
        place_weight: What the log of a candidate's place in the first stage takes from the
            reranker's score, as :func:`~graphseq.serving.fit_reranker` learns it; 0: the
            reranker alone decides.
        filters: ``{"allow": items, "exclude": items}``, in force for every call, in any form that
            ``allow=`` of :func:`graphseq.recommend` takes.
        diversity: 0..1, how much an item loses by being close to one above it; see
            :func:`~graphseq.serving.candidates.diversify`.
        rules: Your own last word: a function of the frame of candidates (``session``, ``item``,
            ``score``, best first, own ids) that returns the rows to keep, in their order.
        cache: Answers kept for sessions that are asked again.
        candidates: Items that go into the second stage.

    Raises:
        ValueError: If models have different items, a filter is unknown, or the index is of another
            model version.
    """

    def __init__(
        self,
        model: SessionModel,
        *,
        index: str | Index | None = None,
        retrievers: Sequence[SessionModel] = (),
        weights: Sequence[float] | None = None,
        reranker: SessionModel | None = None,
        place_weight: float = 0.0,
        filters: Mapping[str, Items] | None = None,
        diversity: float = 0.0,
        rules: Rules | None = None,
        cache: AnswerCache | None = None,
        candidates: int = 200,
    ) -> None:
        self.model = model
        self.retrievers = retrievers
        self.weights = [1.0] * (1 + len(self.retrievers)) if weights is None else weights
        self._check_number_of_weights()
        self.reranker = reranker
        self.place_weight = place_weight
        self.diversity = diversity
        self.rules = rules
        self.cache = cache
        self.candidates = candidates
        self.index = build_index(model, index) if isinstance(index, str) else index
        if self.index is not None:
            self.index.check_version(model)
        self.servable: NDArray[np.bool_] | None = None
        self._filters = 0  # how often they were set
        self.set_filters(filters)
        self._lock = threading.Lock()
        self._identity = object()  # a cache may serve several recommenders
        self._changes = 0  # how often a part was replaced
        self._watch_parts()
        self._version: tuple[int, str] = (self._watch.revision, model_version(model))
        self.seconds: dict[str, float] = {}
        """Seconds that each stage took in all, by name."""

    def __setattr__(self, name: str, value: Any) -> None:
        filtered = name == "model" and getattr(self, "servable", None) is not None
        if filtered and item_vocabulary(value) != item_vocabulary(self.model):
            raise ValueError(
                "The filters are of the items of the model before: call set_filters(None), put the "
                "model in its place, and set them again."
            )
        value = _checked(name, value)
        if name in ("model", "retrievers", "reranker"):
            _check_items(**{**vars(self), name: value})
        super().__setattr__(name, value)
        if name in PARTS and "_version" in vars(self):  # after the constructor
            self._changes += 1
            self._watch_parts()
            self._version = (-1, "")  # looked at again before the next answer

    def _watch_parts(self) -> None:
        self._watch = Watch(*self.models)

    @property
    def models(self) -> list[SessionModel]:
        """All models that answer: the first one, the retrievers and the reranker."""
        last = [] if self.reranker is None else [self.reranker]
        return [self.model, *self.retrievers, *last]

    @property
    def reads_times(self) -> bool:
        """Whether one of the models reads the times of clicks."""
        return any(each.reads_times for each in self.models)

    def _check_number_of_weights(self) -> None:
        """Weights and retrievers are set one after the other: only an answer needs both."""
        if len(self.weights) != 1 + len(self.retrievers):
            raise ValueError(
                f"weights needs one for the model and one per retriever, {1 + len(self.retrievers)}"
                f" in all, got {len(self.weights)}."
            )

    def set_filters(self, filters: Mapping[str, Items] | None) -> None:
        """Replaces the filters that are in force for every call; cached answers are forgotten.

        Args:
            filters: ``{"allow": items, "exclude": items}``; ``None``: all items may be served.

        Raises:
            ValueError: If there is another key, or items cannot be read.
        """
        servable = None
        if filters is not None and not isinstance(filters, Mapping):
            raise ValueError(
                f"filters is a dict of 'allow' and 'exclude', got {type(filters).__name__}."
            )
        for name, items in (filters or {}).items():
            if name not in ("allow", "exclude"):
                raise ValueError(f"filters has 'allow' and 'exclude', got {name!r}.")
            servable = np.ones(self.model.num_items, bool) if servable is None else servable
            listed = np.zeros(self.model.num_items, dtype=bool)
            listed[read_items(self.model, items, 0, name).codes] = True
            servable &= listed if name == "allow" else ~listed
        if servable is not None and not servable.any():
            raise ValueError(
                "filters leave no item to serve: allow more of them, or exclude fewer."
            )
        self.servable = servable
        self._filters += 1
        if self.cache is not None:
            self.cache.clear()

    def may_serve(self) -> NDArray[np.bool_] | None:
        """Items that may be served, bool [num_items]: of the filters, and not delisted."""
        catalog = self.model.catalog
        if catalog is None or not len(catalog.delisted):
            return self.servable
        servable = np.ones(self.model.num_items, dtype=bool)
        if self.servable is not None:
            servable &= self.servable
        servable[catalog.delisted] = False
        return servable

    @property
    def version(self) -> str:
        """The version of the model that answers."""
        return self._current()[1]

    def refresh(self) -> None:
        """Goes on after the model's weights changed: builds its index again.

        Items that were removed from the index stay out of it.
        """
        if self.index is not None:
            self.index = self.index.rebuilt(self.model)
        with self._lock:
            self._version = (self._watch.revision, model_version(self.model))

    def _current(self) -> tuple[int, str]:
        """Revision and version of the model; an index of before a change is refused.

        Raises:
            ValueError: If the weights changed since the index was built.
        """
        revision = self._watch.revision
        if revision != self._version[0]:
            found = model_version(self.model)
            if self.index is not None and self.index.model_version != found:
                raise ValueError(
                    f"The index holds vectors of model version {self.index.model_version}, and the "
                    f"model is now version {found}: call refresh() after its weights changed."
                )
            with self._lock:
                self._version = (revision, found)
        return self._version

    def recommend(
        self,
        sessions: SessionsLike,
        k: int = 10,
        *,
        exclude_seen: bool = False,
        allow: Items | Sequence[Items] | None = None,
        exclude: Items | Sequence[Items] | None = None,
        users: Sequence[Any] | None = None,
        times: Sequence[Any] | None = None,
        as_frame: bool | None = None,
        **columns: Any,
    ) -> Any:
        """The ``k`` best items of every session, best first, in your own ids.

        Where filters leave fewer than ``k`` items, fewer come, and a warning says so. Where they
        leave none, and where a session has no known item, the most popular items come that the
        same filters leave, and ``fallback`` or a warning says so; it may be none.

        Args:
            sessions: In any form that :func:`graphseq.recommend` takes; or one session, a list of
                ids, whose answer is one list.
            k: Items to recommend.
            exclude_seen: Whether the items of the session itself are left out.
            allow, exclude: Items to choose from, items never to recommend; as in
                :func:`graphseq.recommend`.
            users: The user of each session, by id.
            times: Of sessions that come as lists, the time of each click in the same form, for
                models that read times; in the unit of the training log.
            as_frame: Whether to return a frame; ``None``: of a pandas frame, a frame.
            **columns: Names of the log's columns ``session``, ``item``, ``time`` and ``user``.

        Returns:
            A list per session of ``(item id, score)``; or a frame of ``session_id``, ``rank``,
            ``item_id``, ``score`` and ``fallback``, and of sessions without names ``user_id``,
            ``start`` and ``end``, as :func:`graphseq.recommend` gives it.

        Raises:
            ValueError: As :func:`graphseq.recommend`; or if the weights of the model changed since
                the index was built.
        """
        k, exclude_seen = whole("k", k), flag("exclude_seen", exclude_seen)
        unknown = sorted(set(columns) - {"session", "item", "time", "user"})
        if unknown:
            raise ValueError(f"recommend has no argument {unknown[0]!r}.")
        single = is_one_session(sessions)
        if as_frame is None:
            as_frame = isinstance(sessions, pd.DataFrame)
        vocabulary = item_vocabulary(self.model)
        if single:
            sessions, times = [sessions], None if times is None else [times]
        queries = read_queries(self.model, sessions, users, vocabulary, columns, times)
        hidden = (
            None if exclude is None else read_items(self.model, exclude, queries.size, "exclude")
        )
        allowed = None if allow is None else read_items(self.model, allow, queries.size, "allow")
        asked = Asked(queries, hidden, narrowed(allowed, self.may_serve()), exclude_seen)
        answers = self.answer(asked, k)
        if as_frame:
            return as_frame_of(answers, queries, vocabulary, columns)
        lists = answers.lists(vocabulary)
        return lists[0] if single else lists

    def answer(
        self, asked: Asked, k: int, vectors: Floats | None = None, version: str | None = None
    ) -> Answers:
        """Answers in codes of the model, from the cache where they are there.

        Args:
            asked: The sessions.
            k: Items per session.
            vectors: Session vectors [num_sessions, hidden_channels], if they are known already.
            version: What :attr:`version` just said, so that it is not looked at twice.
        """
        known = self._version
        revision, version = known if version == known[1] else self._current()
        if self.cache is None:
            return self._made(asked, k, vectors)
        index = -1 if self.index is None else self.index.revision
        catalog = self.model.catalog
        delisted = b"" if catalog is None else catalog.delisted.tobytes()
        settings: tuple[Any, ...] = (*self.weights, self.place_weight, self.diversity)
        settings += (self.candidates, self._changes, self._filters)
        shared = (self._identity, revision, version, index, delisted, settings, k)
        keys: list[tuple[Any, ...]] = [
            (*shared, asked.key(row)) for row in range(asked.queries.size)
        ]
        if vectors is not None:  # they may know clicks that are no longer kept
            keys = [(*key, vector.tobytes()) for key, vector in zip(keys, vectors, strict=True)]
        found = [self.cache.get(key) for key in keys]
        missing = np.array([row for row, each in enumerate(found) if each is None], dtype=np.int64)
        if len(missing):
            made = self._made(asked.rows(missing), k, None if vectors is None else vectors[missing])
            for place, row in enumerate(missing.tolist()):
                found[row] = made.row(place)
                self.cache.put(keys[row], found[row])
        return Answers.of_rows(found)

    @property
    def staged(self) -> bool:
        """Whether there is a second stage, whose order may change with the number of candidates."""
        return bool(self.retrievers or self.reranker or self.diversity or self.rules)

    def _held(self) -> NDArray[np.bool_] | None:
        """Items of the index, bool [num_items]: one that was removed is not served in any way."""
        return None if self.index is None else self.index.holds(self.model.num_items)

    def _made(self, asked: Asked, k: int, vectors: Floats | None) -> Answers:
        depth = max(k, self.candidates) if self.staged else k
        with self._timed("retrieval"):
            found = self._retrieved(asked, depth, vectors)
        if self.reranker is not None:
            with self._timed("reranking"):
                found = reranked(self.reranker, asked, found, self.place_weight)
        if self.diversity:
            with self._timed("diversity"):
                found = diversify(
                    found, vectors_of(self.model, found), self.diversity, depth if self.rules else k
                )
        if self.rules is not None:
            with self._timed("rules"):
                found = ruled(self.rules, item_vocabulary(self.model), asked, found)
        found = found.best(k)
        return self._completed(asked, found, k)

    def _retrieved(self, asked: Asked, depth: int, vectors: Floats | None) -> Candidates:
        if self.index is None:
            first = score_all(self.model, asked, depth, vectors)
        else:
            first = through_index(self.model, self.index, asked, depth, vectors)
        if not self.retrievers:
            return first
        self._check_number_of_weights()
        within = asked.within(self._held())
        lists = [first, *(score_all(each, within, depth) for each in self.retrievers)]
        return fuse(lists, self.weights, depth)

    def _completed(self, asked: Asked, found: Candidates, k: int) -> Answers:
        """Popular items for sessions of which nothing is left; what is short is said."""
        counts = found.counts
        none = np.flatnonzero(counts == 0)
        short = int(np.count_nonzero((counts > 0) & (counts < min(k, self.model.num_items))))
        if short:
            logger.warning("Filters left fewer than k=%d items for %d sessions.", k, short)
        if k > self.model.num_items:
            logger.warning("k=%d is more than all %d items: fewer come.", k, self.model.num_items)
        answers = Answers(found, asked.empty)
        if len(none) == 0 or self.model.catalog is None:
            return answers
        left = asked.rows(none)
        bare = left.without_history().within(self.may_serve()).within(self._held())
        # Without its history a session has seen nothing: what it hides is taken out afterwards.
        depth = (k if self.rules is None else max(k, self.candidates)) + left.most_hidden
        popular = score_all(self.model, bare, depth)
        popular = popular.without(left.hides(popular.items, self.model.num_items))
        if self.rules is not None:
            popular = ruled(self.rules, item_vocabulary(self.model), left, popular)
        popular = popular.best(k)
        unanswered = int(np.count_nonzero(popular.counts == 0))
        if unanswered < len(none):
            answered = len(none) - unanswered
            logger.warning("Filters left no item for %d sessions: popular items answer.", answered)
        if unanswered:
            logger.warning(
                "Every item is excluded for %d sessions: nothing is recommended.", unanswered
            )
        return answers.with_rows(none, popular)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - started
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + taken

    def save(self, folder: str | PathLike[str], *, precision: Precision = "float32") -> None:
        """Writes the recommender to a folder, from which :func:`graphseq.serving.load` makes it.

        The folder holds a folder for the model, each retriever, the reranker and the index, all
        with checksums, and takes its name in one step. Cached answers are not kept; ``rules`` is
        code, which no folder holds.

        Args:
            folder: The folder to make, or one that holds a saved recommender and nothing else.
            precision: Of the models' tables and matrices, as :meth:`SessionModel.save
                <graphseq.models.use.persistence.save>` has it; with fewer bits, the index in the
                folder is built again from the rounded table.

        Raises:
            ValueError: If the folder holds anything else, or a model cannot be saved.
        """
        cache = self.cache
        model, index = rounded_model(self.model, precision), self.index
        if index is not None and model is not self.model:
            index = index.of_other(model)
        with write_folder(folder, RECOMMENDER) as out:
            out.content = {
                "model_version": model_version(model),
                "index": index is not None,
                "reranker": self.reranker is not None,
                "weights": self.weights,
                "place_weight": self.place_weight,
                "diversity": self.diversity,
                "candidates": self.candidates,
                "rules": self.rules is not None,
                "filtered": self.servable is not None,
                "cache": None
                if cache is None
                else {"max_answers": cache.max_answers, "seconds": cache.seconds},
            }
            if self.servable is not None:
                out.write_array("servable", self.servable)
            models = {"model": self.model}
            models |= {f"retriever_{n}": each for n, each in enumerate(self.retrievers)}
            if self.reranker is not None:
                models["reranker"] = self.reranker
            for name, each in models.items():
                each.save(out.path / name, precision=precision)
                out.add_folder(name, MODEL)
            if index is not None:
                index.save(out.path / "index")
                out.add_folder("index", INDEX)

    def __repr__(self) -> str:
        index = "no index" if self.index is None else repr(self.index)
        return f"{type(self).__name__}({type(self.model).__name__}, {index})"


def _checked(name: str, value: Any) -> Any:
    """A part or a setting of a recommender in the form that it is kept in; others as they are.

    Raises:
        ValueError: If it is of another kind, or out of its range.
    """
    if name == "model":
        require_model(value)
    elif name == "retrievers":
        if isinstance(value, SessionModel):
            raise ValueError("retrievers is a list of models: put this one into brackets.")
        value = list(value)
        for number, each in enumerate(value):
            require_model(each, name=f"retriever {number}")
    elif name == "reranker" and value is not None:
        require_model(value, name="the reranker")
    elif name == "weights":
        value = _weights(value)
    elif name == "place_weight":
        check_not_negative(place_weight=value)
        value = float(value)
    elif name == "diversity":
        if not isinstance(value, Real) or not 0 <= float(value) <= 1:
            raise ValueError(f"diversity must lie in 0..1, got {value!r}.")
        value = float(value)
    elif name == "candidates":
        value = whole("candidates", value)
    elif name == "rules" and value is not None and not callable(value):
        raise ValueError(f"rules is a function of a frame, got {value!r}.")
    elif name == "cache" and value is not None and not isinstance(value, AnswerCache):
        raise ValueError(
            f"cache is an AnswerCache or None, got {value!r}: "
            "gs.serving.AnswerCache(10_000, seconds=60) makes one."
        )
    elif name == "index" and value is not None and not isinstance(value, Index):
        raise ValueError(f"index is a name in gs.serving.INDEXES, an index or None, got {value!r}.")
    return value


def _weights(given: Any) -> list[float]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValueError(f"weights is a list of numbers, got {given!r:.60}.")
    listed = list(given)
    for weight in listed:
        # A bool is a number to Python, and no weight to anyone.
        plain = isinstance(weight, Real) and not isinstance(weight, bool)
        if not plain or not np.isfinite(weight) or weight < 0:
            raise ValueError(f"weights are numbers of at least 0, got {weight!r}.")
    if listed and not any(listed):
        raise ValueError("weights has nothing but zeros: one of them must be positive.")
    return [float(weight) for weight in listed]


def _check_items(
    model: SessionModel,
    retrievers: Sequence[SessionModel] = (),
    reranker: SessionModel | None = None,
    **_: Any,
) -> None:
    """Refuses models of other items than the first one's.

    Raises:
        ValueError: If one has others.
    """
    ours = item_vocabulary(model)
    named = [(f"retriever {number}", each) for number, each in enumerate(retrievers)]
    named += [] if reranker is None else [("the reranker", reranker)]
    for name, other in named:
        if item_vocabulary(other) != ours:
            raise ValueError(
                f"The model and {name} need the same items, got {len(ours)} and "
                f"{other.num_items} of their own: fit all on the same split, and make a new "
                "Recommender of models of other items."
            )
