"""The table of families and their properties, read from their classes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from graphseq.models.base import SessionModel
from graphseq.models.registry import MODELS


def table() -> pd.DataFrame:
    """One row per family of :data:`graphseq.models.MODELS`, indexed by name.

    Columns: ``architecture``, ``parallel_over_time`` (whether all clicks of a session are computed
    at once in training), ``range`` (the clicks it uses), ``side_features``, ``keeps_state``
    (whether a live session continues from a state of fixed size, or from its newest clicks),
    ``samples`` (the kind of training samples), ``causal`` (whether one pass over a session
    evaluates all its prefixes; an argument of a model may change that) and ``best_for``. Everything
    comes from the classes, so that each family is described in one place.
    """
    rows = {name: _row(family) for name, family in MODELS.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def _row(family: type[SessionModel]) -> dict[str, Any]:
    traits = family.traits
    return {
        "architecture": None if traits is None else traits.architecture,
        "parallel_over_time": None if traits is None else traits.parallel,
        "range": None if traits is None else traits.reach,
        "side_features": None if traits is None else traits.side_features,
        "keeps_state": family.keeps_state,
        "samples": family.samples,
        "causal": family.causal,
        "best_for": None if traits is None else traits.best_for,
    }
