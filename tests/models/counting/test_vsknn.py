"""V-SKNN: its weights by hand, its arguments, and its number on Diginetica."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.counting.vsknn import VSKNN

NUM_ITEMS = 5


def test_vsknn_by_hand_sums_similarities_of_neighbors() -> None:
    train = Sessions.from_lists([[0, 1, 3], [1, 2], [4]], vocabulary=Vocabulary(np.arange(5)))
    model = VSKNN(NUM_ITEMS, idf_weight=0, backoff=0).fit_counts(train)
    # Session 0, 1: weights 1/2 and 1, so that the neighbours' similarities are 3/4 and 1/2; both
    # have its newest item.
    scores = model.score(build_session_graphs(torch.tensor([0, 1]), torch.tensor([0, 2])))
    expected = [[0.75, 1.25, 0.5, 0.75, -torch.inf]]
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.double))


def test_vsknn_neighbor_with_older_items_alone_counts_less() -> None:
    train = Sessions.from_lists([[0, 3], [1, 2]], vocabulary=Vocabulary(np.arange(5)))
    model = VSKNN(NUM_ITEMS, decay="same", idf_weight=0, backoff=0).fit_counts(train)
    scores = model.score(build_session_graphs(torch.tensor([0, 1]), torch.tensor([0, 2])))[0]
    torch.testing.assert_close(scores[2].item(), 0.5)
    torch.testing.assert_close(scores[3].item(), 0.25)


@pytest.mark.parametrize("argument", ["decay", "match_decay"])
def test_vsknn_unknown_decay_is_refused(argument: str) -> None:
    options: dict[str, Any] = {argument: "exponential"}
    with pytest.raises(ValueError, match=f"{argument} is .*, got 'exponential'"):
        VSKNN(NUM_ITEMS, **options)


def test_vsknn_repr_names_its_settings() -> None:
    expected = (
        "VSKNN(5, k=100, sample_size=1000, decay='div', match_decay='div', half_life=None, "
        "idf_weight=1.0, last_clicks=None, backoff=0.001)"
    )
    assert repr(VSKNN(NUM_ITEMS)) == expected


@pytest.mark.data
def test_vsknn_on_diginetica_gives_its_row(data_root: Path) -> None:
    # Published: 52.0 / 18.4 on another split of the same data (Ludewig et al., 2021).
    split = gs.load_split("diginetica", data_root)
    model = VSKNN(split.num_items).fit_counts(split.train)
    metrics = gs.evaluate(model, split.test, ks=(20,), progress=False).metrics
    assert 100 * metrics["hr@20"] == pytest.approx(51.66, abs=0.006)
    assert 100 * metrics["mrr@20"] == pytest.approx(18.30, abs=0.006)
