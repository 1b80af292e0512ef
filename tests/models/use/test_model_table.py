"""The table of families agrees with their classes."""

import pandas as pd
import pytest

import graphseq as gs
from graphseq.models import MODELS, SessionModel, Traits


def test_table_has_one_row_a_family_and_no_gap():
    frame = gs.models.table()
    assert list(frame.index) == list(MODELS)
    assert list(frame) == [
        "architecture",
        "parallel_over_time",
        "range",
        "side_features",
        "keeps_state",
        "samples",
        "causal",
        "best_for",
    ]
    assert not frame.isna().any().any()


@pytest.mark.parametrize("name", MODELS)
def test_table_row_is_what_the_class_says(name):
    family, row = MODELS[name], gs.models.table().loc[name]
    assert row["range"] == family.traits.reach
    assert row["side_features"] == family.traits.side_features
    assert row["samples"] == family.samples
    assert row["causal"] == family.causal
    assert row["keeps_state"] == family.keeps_state


def test_table_follows_a_family_that_is_added(monkeypatch):
    class Mine(SessionModel):
        """Declares that it keeps its state."""

        traits = Traits("a guess", True, "none", True, "nothing")
        samples = "pairs"
        keeps_state = True

    class Bare(SessionModel):
        """Has no traits."""

    monkeypatch.setitem(MODELS, "mine", Mine)
    monkeypatch.setitem(MODELS, "bare", Bare)
    frame = gs.models.table()
    expected = ["a guess", True, "none", True, True, "pairs", False, "nothing"]
    assert frame.loc["mine"].tolist() == expected
    assert pd.isna(frame.loc["bare", "architecture"])
    assert not frame.loc["bare", "keeps_state"]
