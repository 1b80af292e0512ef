"""Checks the inputs of an evaluation: the model, the sessions in its codes, the device."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch

from graphseq.arguments import device_of
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.data.splits.split_parts import Split
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import inference

logger = logging.getLogger(__name__)


def read_inputs(model: Any, sessions: Any) -> tuple[Sessions, Sessions]:
    """The sessions as given, and recoded to the model's codes of items, users and click features.

    Args:
        model: A model instance.
        sessions: A part of a split, or lists of item ids.

    Raises:
        ValueError: If the model is not a model, the sessions are not sessions, or they do not
            match.
    """
    require_model(model, sessions)
    given = _sessions(sessions)
    if given.num_sessions == 0:
        raise ValueError("There is nothing to evaluate: the part is empty, it has no session.")
    if model.catalog is None and given is not sessions:  # it uses codes
        given = given.with_vocabulary(Vocabulary(pd.RangeIndex(model.num_items)))
    recoded = in_codes_of(model, given)
    if not (np.asarray(recoded.items) >= 0).any():
        clicked = np.unique(given.items)
        clicked = clicked[clicked >= 0]  # the other items are unknown to these sessions already
        first = f": {given.vocabulary.decode(clicked[:1])[0]!r} is not" if len(clicked) else ""
        logger.warning(
            "None of the %d clicks of these sessions is on an item that this %s knows%s, %r is.",
            given.num_clicks,
            type(model).__name__,
            first,
            recoded.vocabulary.decode([0])[0],
        )
    return given, recoded


def require_model(model: Any, sessions: Any = None, name: str = "model") -> None:
    """Raises unless this is a model instance.

    Raises:
        ValueError: If it is not; the message states what it is.
    """
    if isinstance(model, SessionModel):
        return
    if isinstance(sessions, SessionModel):
        way_out = "the model comes first, then the sessions"
    elif isinstance(model, type) and issubclass(model, SessionModel):
        way_out = f"it is a class, build it: {model.__name__}(num_items=split.num_items, ...)"
    elif isinstance(model, str):
        way_out = f"build it: gs.models.MODELS[{model!r}](num_items=split.num_items, ...)"
    elif isinstance(model, torch.nn.Module):
        way_out = "derive it from graphseq.models.SessionModel, which defines score(batch)"
    else:
        way_out = "see gs.models.MODELS"
    raise ValueError(f"{name} must be a SessionModel, got {type(model).__name__}: {way_out}.")


def _sessions(given: Any) -> Sessions:
    if isinstance(given, Sessions):
        return given
    if (
        isinstance(given, (list, tuple))
        and given
        and all(isinstance(session, (list, tuple, np.ndarray, torch.Tensor)) for session in given)
    ):
        return Sessions.from_lists([_plain(session) for session in given])
    if isinstance(given, (list, tuple)) and not given:
        raise ValueError("There is nothing to evaluate: the list of sessions is empty.")
    way_out = "gs.Sessions.from_frame reads a log, gs.Sessions.from_lists lists of item ids"
    if isinstance(given, Split):
        way_out = "pass one part of the split, as split.test"
    elif isinstance(given, SessionGraphDataset):
        way_out = "pass the sessions that the dataset was made of, its .sessions"
    elif isinstance(given, SessionGraphLoader):
        way_out = "pass the sessions that the loader reads"
    raise ValueError(f"sessions must be gs.Sessions, got {type(given).__name__}: {way_out}.")


def _plain(session: Any) -> list[Any]:
    return session.tolist() if hasattr(session, "tolist") else list(session)


def in_codes_of(model: SessionModel, sessions: Sessions) -> Sessions:
    """The sessions recoded to the model's codes of items, users and click features."""
    catalog = model.catalog
    if catalog is not None:
        sessions = catalog.encode(sessions)
    if sessions.num_items != model.num_items:
        way_out = (
            "attach the training catalog as model.catalog, or recode them with "
            "sessions.with_vocabulary"
            if catalog is None
            else "its catalog is of other data"
        )
        raise ValueError(
            f"The model ranks {model.num_items} items, the sessions count {sessions.num_items}: "
            f"{way_out}."
        )
    return sessions


@contextmanager
def inference_mode(model: SessionModel, device: torch.device | str | None) -> Iterator[None]:
    """A context with the model in evaluation mode on the device, without gradients.

    Raises:
        ValueError: If the device is not available.
    """
    chosen = None if device is None else device_of(device)
    home = model.device
    try:
        if chosen is not None:
            model.to(chosen)
        with inference(model):
            yield
    finally:
        if chosen is not None:
            model.to(home)
