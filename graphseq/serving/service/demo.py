"""Three small models of the embedded e-shop, which the demonstration serves side by side."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphseq.data import Sessions, load_split
from graphseq.models import MODELS
from graphseq.serving.recommender import Recommender
from graphseq.training import fit

logger = logging.getLogger(__name__)

FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "srgnn": ({"hidden_channels": 64}, {"max_epochs": 1}),
    "gru4rec": ({"hidden_channels": 64}, {"max_epochs": 6}),
    "vsknn": ({}, {}),
}
"""Settings of model and training by family: a graph, a recurrence, and neighbors."""

CATEGORIES = {"A": "trousers", "B": "skirt", "C": "blouse", "P": "sale"}
"""What the first letter of an item says, in the publisher's description of the data."""

COLORS = (
    *("beige", "black", "blue", "brown", "burgundy", "gray", "green", "navy blue", "many colors"),
    *("olive", "pink", "red", "violet", "white"),
)
"""Colors by the publisher's number, from 1."""


def make_demo(folder: Path) -> list[Path]:
    """Trains the models of the demonstration, unless they are there; under a minute of one core.

    Args:
        folder: Where they are saved, each in a folder of its family's name.

    Returns:
        Their folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / name for name in FAMILIES]
    if all(each.exists() for each in made):
        logger.info("The models in %s are served as they are.", folder)
        return made
    train = with_titles(load_split("uci-eshop").train)
    for each in made:
        if each.exists():
            continue
        settings, training = FAMILIES[each.name]
        started = time.perf_counter()
        model = MODELS[each.name](train.num_items, **settings)
        fit(model, train, progress=False, **training)
        Recommender(model).save(each)
        logger.info("%s is trained: %.0f s.", each.name, time.perf_counter() - started)
    return made


def with_titles(sessions: Sessions) -> Sessions:
    """The e-shop with a title per item, made of its number, color and category."""
    ids = sessions.vocabulary.ids
    assert sessions.item_features is not None
    number = np.asarray(sessions.item_features["colour"], dtype=np.int64) - 1
    titles = [
        f"{item} {COLORS[color]} {CATEGORIES[item[0]]}"
        for item, color in zip(ids.tolist(), number.tolist(), strict=True)
    ]
    return sessions.with_item_features(pd.DataFrame({"title": titles}, index=ids))
