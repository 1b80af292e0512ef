"""Content kNN: cosines of features, summed over the newest clicks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models import ContentKNN

TABLE = pd.DataFrame(
    {
        "kind": ["a", "a", "b", None],
        "tags": ["x|y", "y", "", "x"],
        "text": [np.array(v) for v in ([3.0, 4.0], [0.0, 2.0], [-1.0, 0.0], [np.nan, np.nan])],
    }
)
WANTED = ["kind", {"name": "tags", "kind": "multi_hot", "separator": "|"}, "text"]


def log():
    made = gs.Sessions.from_lists([[0, 1, 2], [1, 0], [1]], vocabulary=gs.data.Vocabulary(range(4)))
    return replace(made, item_features=TABLE)


def specs():
    return gs.data.feature_specs(log(), item=WANTED)["item_features"]


def rows():
    """f_j of every item by hand: each feature of length one, then all of it."""
    kind = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], float)
    tags = np.array([[1, 1], [0, 1], [0, 0], [1, 0]], float)
    text = np.array([[3, 4], [0, 2], [-1, 0], [0, 0]], float)

    def unit(part):
        length = np.linalg.norm(part, axis=1, keepdims=True)
        return np.divide(part, length, out=np.zeros_like(part), where=length > 0)

    return unit(np.hstack([unit(kind), unit(tags), unit(text)]))


def test_scores_are_decayed_sums_of_cosines_and_popularity():
    model = ContentKNN(4, specs(), last_clicks=2, decay=0.5, backoff=0.01)
    gs.fit(model, log())
    cosine = np.maximum(0, [rows()[2] @ rows().T + 0.5 * rows()[1] @ rows().T])
    share = np.array([2, 3, 1, 0]) / 6
    batch = build_session_graphs(torch.tensor([0, 1, 2]), torch.tensor([0, 3]))
    np.testing.assert_allclose(model.score(batch).numpy(), cosine + 0.01 * share, rtol=1e-6)


def test_without_features_it_is_popularity():
    model = gs.models.ContentKNN(4)
    gs.fit(model, log())
    assert [item for item, _ in model.recommend([[0]], k=4, exclude_seen=False)[0]][:3] == [1, 0, 2]


def test_an_item_without_a_click_is_found_by_what_it_is():
    found = ContentKNN(4, specs(), last_clicks=1, backoff=0)
    gs.fit(found, log())
    assert 3 in [item for item, _ in found.recommend([[0]], k=3)[0]]  # it shares the tag x


def test_loaded_again_it_scores_the_same(tmp_path):
    model = ContentKNN(4, specs())
    gs.fit(model, log())
    model.save(tmp_path / "model")
    assert gs.load(tmp_path / "model").recommend([[0, 2]]) == model.recommend([[0, 2]])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"last_clicks": 0}, "last_clicks must be at least 1"),
        ({"decay": 0.0}, "decay must lie in"),
        ({"backoff": -1.0}, "backoff must be a finite number"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        ContentKNN(4, **arguments)


def test_missing_features_are_named():
    with pytest.raises(ValueError, match="'kind', but the catalog has none"):
        gs.fit(ContentKNN(4, specs()), replace(log(), item_features=None))
