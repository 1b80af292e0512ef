"""A text encoder as a recommender: the history as one text, the item whose title is nearest."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from graphseq.arguments import whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.random import stream, torch_stream
from graphseq.serving.titles import histories_of, known_titles

History = Sequence[Hashable]


class SentenceEncoder(torch.nn.Module):
    """A model of the package sentence-transformers as a module from texts to vectors.

    Args:
        name: Its folder, or its name, such as ``"sentence-transformers/all-MiniLM-L6-v2"``, whose
            weights are on this machine; nothing is downloaded.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        ValueError: If there are no such weights here.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        try:
            package = import_module("sentence_transformers")
        except ImportError as error:
            raise ModuleNotFoundError(
                "SentenceEncoder needs sentence-transformers, which is not installed: "
                "pip install sentence-transformers."
            ) from error
        try:
            self.model = package.SentenceTransformer(name, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"The weights of {name!r} are not on this machine: give a folder that has them, or "
                f"download them once with sentence_transformers.SentenceTransformer({name!r})."
            ) from error

    def forward(self, texts: Sequence[str]) -> Tensor:
        """The vectors of texts, [n, d]."""
        read = getattr(self.model, "preprocess", None) or self.model.tokenize  # before 6
        where = next(self.model.parameters()).device
        tokens = {
            key: value.to(where) if isinstance(value, Tensor) else value
            for key, value in read(list(texts)).items()
        }
        found = self.model(tokens)
        vectors: Tensor = found["sentence_embedding"]
        return vectors


@dataclass
class TextRecommender:
    r"""Recommends the items whose titles are nearest to the text of the history.

    .. math::
        \hat y_{sj} = \cos\big(f(\text{titles of } s), f(\text{title of } j)\big)

    Without :meth:`fit` it is a zero-shot recommender. It reads no ids: a new item needs only a
    title.

    Args:
        titles: Item id -> its title; items without one are left out and counted.
        encoder: A module from n texts to vectors [n, d]: a :class:`SentenceEncoder`, or your own.
        max_history: Newest titles in the text of a history.
        separator: Text between two titles.
        batch_size: Texts that are encoded at once.

    Raises:
        ValueError: If there is no title, or a number is not positive.
        TypeError: If the titles are no mapping, or the encoder is no module.
    """

    titles: Mapping[Hashable, str]
    encoder: torch.nn.Module
    max_history: int = 10
    separator: str = "; "
    batch_size: int = 256
    _vectors: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.titles = known_titles("text recommender", self.titles)
        if not isinstance(self.encoder, torch.nn.Module):
            raise TypeError(
                "encoder is a torch.nn.Module from texts to vectors, such as a SentenceEncoder, "
                f"got {self.encoder!r:.80}."
            )
        whole("max_history", self.max_history)
        whole("batch_size", self.batch_size)
        self._items = list(self.titles)
        self._code = {item: code for code, item in enumerate(self._items)}

    def fit(
        self,
        sessions: Sessions | Sequence[History],
        *,
        epochs: int = 1,
        batch_size: int = 64,
        learning_rate: float = 2e-5,
        temperature: float = 0.05,
        seed: int = 0,
    ) -> list[float]:
        r"""Fine-tunes the encoder on histories and the titles that came next.

        Each epoch draws one click of each session as the target. The other targets of a batch are
        its negatives,

        .. math::
            L = -\frac1n \sum_s \log \frac{\exp(\cos(f_s, f_{y_s}) / \tau)}
                {\sum_{y \in \text{batch}} \exp(\cos(f_s, f_y) / \tau)}

        Args:
            sessions: Training sessions; clicks on items without a title are left out.
            epochs: Passes over the sessions.
            batch_size: Sessions per step.
            learning_rate: Of AdamW.
            temperature: :math:`\tau`.
            seed: Of targets and order.

        Returns:
            The mean loss of each epoch.

        Raises:
            ValueError: If no session has two titles, or a number is out of range.
        """
        whole("epochs", epochs)
        whole("batch_size", batch_size, at_least=2)
        for name, value in (("learning_rate", learning_rate), ("temperature", temperature)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be a finite number above 0, got {value}.")
        lists = histories_of(sessions)
        known = [[item for item in each if item in self._code] for each in lists]
        known = [each for each in known if len(each) > 1]
        if not known:
            raise ValueError(
                "No session has two items with a title: give sessions in the ids of titles."
            )
        optimizer = torch.optim.AdamW(self.encoder.parameters(), lr=learning_rate)
        lengths = np.array([len(each) for each in known])
        random, order = stream("partner", seed), torch_stream("order", seed)
        was_training = self.encoder.training
        self.encoder.train()
        losses = []
        for _ in range(epochs):
            at = 1 + (random.random(len(known)) * (lengths - 1)).astype(np.int64)
            total = 0.0
            for step in torch.randperm(len(known), generator=order).split(batch_size):
                rows = step.tolist()
                histories = self._vectors_of([self._text(known[r][: at[r]]) for r in rows])
                target = torch.tensor([self._code[known[r][at[r]]] for r in rows])
                unique, place = target.unique(
                    return_inverse=True
                )  # a target is no negative of its own
                items = self._vectors_of([self._title(code) for code in unique.tolist()])
                logits = histories @ items.T / temperature
                loss = cross_entropy(logits, place.to(logits.device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(rows)
            losses.append(total / len(known))
        self.encoder.train(was_training)
        self._vectors = None
        return losses

    def recommend(
        self, sessions: Sessions | Sequence[History], k: int = 10
    ) -> list[list[tuple[Hashable, float]]]:
        """The items nearest to each history, best first, none of the session itself.

        Args:
            sessions: Lists of item ids; ids without a title are left out.
            k: Items per session.

        Returns:
            ``(item, cosine)`` pairs; none for a session without a known title.
        """
        whole("k", k)
        lists = histories_of(sessions)
        found: list[list[tuple[Hashable, float]]] = []
        for start in range(0, len(lists), self.batch_size):
            part = [
                [self._code[item] for item in each if item in self._code]
                for each in lists[start : start + self.batch_size]
            ]
            some = [codes for codes in part if codes]
            scores = iter(self._scores(some, k))
            found += [next(scores) if codes else [] for codes in part]
        return found

    def cosines(self, histories: Sequence[History]) -> Tensor:
        """The cosine of each history with the title of every item, of its own items too.

        Args:
            histories: Lists of item ids, each with one that has a title.

        Returns:
            [num_histories, num_items], in the order of ``titles``.

        Raises:
            ValueError: If a history has no known title.
        """
        known = [[item for item in each if item in self._code] for each in histories_of(histories)]
        if not all(known):
            raise ValueError(f"History {known.index([])} has no item with a title: leave it out.")
        items = self.item_vectors()
        texts = [self._text(each) for each in known]
        parts = [
            self._still(texts[start : start + self.batch_size])
            for start in range(0, len(texts), self.batch_size)
        ]
        return torch.cat(parts) @ items.T if parts else items.new_zeros(0, len(self._items))

    def item_vectors(self) -> Tensor:
        """The vectors of all titles, of length one, [num_items, d]."""
        if self._vectors is None:
            titles = [self._title(code) for code in range(len(self._items))]
            parts = [
                self._still(titles[start : start + self.batch_size])
                for start in range(0, len(titles), self.batch_size)
            ]
            self._vectors = torch.cat(parts)
        return self._vectors

    def _scores(self, sessions: list[list[int]], k: int) -> list[list[tuple[Hashable, float]]]:
        scores = self.cosines([[self._items[code] for code in codes] for codes in sessions])
        for row, codes in enumerate(sessions):
            scores[row, codes] = -torch.inf
        values, codes_of = scores.topk(min(k, len(self._items)), dim=1)
        return [
            [
                (self._items[code], value)
                for code, value in zip(*pair, strict=True)
                if value > -torch.inf
            ]
            for pair in zip(codes_of.tolist(), values.tolist(), strict=True)
        ]

    def _text(self, items: History) -> str:
        return self.separator.join(self.titles[item] for item in items[-self.max_history :])

    def _title(self, code: int) -> str:
        return self.titles[self._items[code]]

    def _vectors_of(self, texts: list[str]) -> Tensor:
        found: Any = self.encoder(texts)
        if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(texts):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"The encoder must give [{len(texts)}, d] for {len(texts)} texts, got {shape}."
            )
        return normalize(found, dim=1)

    def _still(self, texts: list[str]) -> Tensor:
        was_training = self.encoder.training
        self.encoder.eval()
        with torch.no_grad():
            vectors = self._vectors_of(texts)
        self.encoder.train(was_training)
        return vectors
