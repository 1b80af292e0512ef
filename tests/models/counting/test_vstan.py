"""VSTAN: its weights by hand, STAN as a special case, and its arguments."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.counting.vstan import VSTAN

NUM_ITEMS = 6


def test_vstan_by_hand_decays_in_the_session_and_in_the_neighbor() -> None:
    train = Sessions.from_lists([[0, 1, 2, 3]], vocabulary=Vocabulary(np.arange(NUM_ITEMS)))
    model = VSTAN(NUM_ITEMS, click_decay=2.0, match_decay=4.0, place_decay=8.0, backoff=0)
    model.fit_counts(train)
    # In the session 1, 5 only item 1 is in common: of age 2, at place 2 of the neighbor.
    scores = model.score(build_session_graphs(torch.tensor([1, 5]), torch.tensor([0, 2])))[0]
    weight = math.exp(-1 / 2)
    similarity = weight / math.sqrt((1 + weight**2) * 4) * math.exp(-1 / 4)
    expected = [similarity * math.exp(-d / 8) for d in (1, 0, 1, 2)] + [-math.inf, -math.inf]
    torch.testing.assert_close(scores.tolist(), expected)


def test_vstan_distance_counts_from_the_neighbors_last_item_in_common() -> None:
    train = Sessions.from_lists([[0, 2, 1, 3, 0, 4]], vocabulary=Vocabulary(np.arange(NUM_ITEMS)))
    model = VSTAN(NUM_ITEMS, place_decay=1.0, backoff=0).fit_counts(train)
    scores = model.score(build_session_graphs(torch.tensor([0, 1]), torch.tensor([0, 2])))[0]
    distance = torch.tensor([0.0, 2.0, 3.0, 1.0, 1.0]).double()  # item 0 was clicked last at 5
    torch.testing.assert_close(scores[:5] / scores[0], torch.exp(-distance))


def test_vstan_without_decays_is_the_cosine_of_sets() -> None:
    train = Sessions.from_lists([[0, 1, 2]], vocabulary=Vocabulary(np.arange(NUM_ITEMS)))
    model = VSTAN(NUM_ITEMS, click_decay=None, match_decay=None, place_decay=None, backoff=0)
    scores = model.fit_counts(train).score(
        build_session_graphs(torch.tensor([0, 1, 4, 5]), torch.tensor([0, 4]))
    )
    torch.testing.assert_close(scores[0, 2].item(), 2 / math.sqrt(4 * 3))


@pytest.mark.parametrize("argument", ["click_decay", "match_decay", "place_decay"])
def test_vstan_decay_out_of_range_is_refused(argument: str) -> None:
    options: dict[str, Any] = {argument: 0.0}
    with pytest.raises(ValueError, match=f"{argument} must be positive and finite, or None, got 0"):
        VSTAN(NUM_ITEMS, **options)


def test_vstan_repr_names_its_settings() -> None:
    assert repr(VSTAN(NUM_ITEMS, 5, 9)).startswith("VSTAN(6, k=5, sample_size=9, click_decay=")


@pytest.mark.data
def test_vstan_on_diginetica_gives_its_row(data_root: Path) -> None:
    # Ages are counted in sessions: these files have no times.
    split = gs.load_split("diginetica", data_root)
    model = VSTAN(split.num_items, half_life=100_000.0).fit_counts(split.train)
    metrics = gs.evaluate(model, split.test, ks=(20,), progress=False).metrics
    assert 100 * metrics["hr@20"] == pytest.approx(52.93, abs=0.006)
    assert 100 * metrics["mrr@20"] == pytest.approx(18.86, abs=0.006)
