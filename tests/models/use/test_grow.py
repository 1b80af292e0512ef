"""Growing models: initial rows of new items by hand, users, codes of another log, and errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from graphseq.data.sessions.sessions import Sessions
from graphseq.models import (
    BST,
    GCEGNN,
    SRGNN,
    BERT4Rec,
    Caser,
    MarkovChain,
    SASRec,
    SessionModel,
    WithUser,
    grow,
    in_model_codes,
)
from graphseq.models.use.persistence import load

OLD = ["a", "b", "c", "d"]


def old_log(**fields: Any) -> Sessions:
    return replace(Sessions.from_lists([OLD, ["b", "d"], ["c", "a"]]), **fields)


def known(model: SessionModel, log: Sessions | None = None) -> SessionModel:
    model.attach((old_log() if log is None else log).catalog())
    return model.eval()


def rows(model: SessionModel, *ids: str) -> Tensor:
    """The output rows of items, by their ids."""
    assert model.catalog is not None
    return model.items.rows()[torch.from_numpy(model.catalog.items.encode(list(ids)))].detach()


def test_new_rows_by_mean_equal_the_mean_of_all_known_ones() -> None:
    model = known(BERT4Rec(4, 8))
    torch.nn.init.normal_(model.items.bias)  # type: ignore[arg-type]
    grown = grow(model, Sessions.from_lists([["e", "b", "f"]]))
    expected = model.items.rows().mean(0).expand(2, -1)
    torch.testing.assert_close(rows(grown, "e", "f"), expected.detach())
    bias, before = grown.items.bias, model.items.bias
    assert bias is not None
    assert before is not None
    torch.testing.assert_close(bias[4:], before.mean().expand(2))
    assert torch.equal(grown.mask_embedding, model.mask_embedding)  # type: ignore[arg-type]


def test_new_rows_by_neighbors_are_weighted_by_how_often_they_stand_near() -> None:
    model = known(SRGNN(4, 8))
    log = Sessions.from_lists([["e", "b"], ["b", "e", "d"], ["e", "f", "f", "f", "a"], ["g", "h"]])
    grown = grow(model, log, initial="neighbors")
    a, b, d = rows(model, "a", "b", "d")
    # Four clicks apart, a is no neighbor of e; that of f three times; g and h have none known.
    torch.testing.assert_close(rows(grown, "e")[0], (2 * b + d) / 3)
    torch.testing.assert_close(rows(grown, "f")[0], a)
    torch.testing.assert_close(rows(grown, "g")[0], model.items.rows().mean(0).detach())


def test_new_rows_by_features_are_the_mean_of_the_means_of_their_values() -> None:
    table = pd.DataFrame({"kind": ["x", "x", "y", None], "brand": ["p", "q", "q", "q"]})
    model = known(SRGNN(4, 8), old_log(item_features=table))
    log = Sessions.from_lists([["e", "f", "g", "a"]])
    new = pd.DataFrame({"kind": ["x", "z", None, "y"], "brand": ["p", "q", "new", "q"]})
    grown = grow(model, replace(log, item_features=new), initial="features")
    a, b, c, d = rows(model, *OLD)
    torch.testing.assert_close(rows(grown, "e")[0], ((a + b) / 2 + a) / 2)
    torch.testing.assert_close(rows(grown, "f")[0], (b + c + d) / 3)
    torch.testing.assert_close(rows(grown, "g")[0], (a + b + c + d) / 4)  # shares nothing
    assert grown.catalog is not None
    assert grown.catalog.item_features is not None
    kinds = grown.catalog.item_features["kind"]
    assert kinds.iloc[:3].tolist() == ["x", "x", "y"]  # a known item keeps the features it had
    assert kinds.iloc[4:6].tolist() == ["x", "z"]


def test_new_rows_by_vectors_are_those_of_the_nearest_by_cosine(monkeypatch) -> None:
    monkeypatch.setattr("graphseq.models.use.grow.NEAREST", 2)
    monkeypatch.setattr("graphseq.models.use.grow.ROWS_AT_ONCE", 1)
    told = [[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], None]
    table = pd.DataFrame({"text": told, "kind": ["x", "y", "y", "y"]})
    log = Sessions.from_lists([["e", "f", "g", "h"]])
    new = pd.DataFrame({"text": [[2.0, 1.0], [-2.0, 0.0], None, [0.0, 0.0]]})
    for columns, kind in ((["text"], None), (["text", "kind"], "x")):
        model = known(SRGNN(4, 8), old_log(item_features=table[columns]))
        more = new if kind is None else new.assign(kind=[kind, None, None, None])
        grown = grow(model, replace(log, item_features=more), initial="features")
        a, b, c, d = rows(model, *OLD)
        near = (2 * a + b) / 3  # cosines 2 and 1, over the root of 5; that with c is below 0
        expected = near if kind is None else (near + a) / 2  # kind x is a alone
        torch.testing.assert_close(rows(grown, "e")[0], expected)
        torch.testing.assert_close(rows(grown, "f")[0], c)
        for nothing in "gh":  # no vector, and one without a direction
            torch.testing.assert_close(rows(grown, nothing)[0], (a + b + c + d) / 4)


def test_new_rows_by_features_share_lists_and_joined_texts_value_by_value() -> None:
    spec = {"name": "tags", "kind": "multi_hot", "values": ["s", "t", "u"], "separator": "|"}
    table = pd.DataFrame({"tags": ["s|t", "t", "u", ""]})
    model = known(BST(4, 8, item_features=[spec]), old_log(item_features=table))
    log = Sessions.from_lists([["e", "a"]])
    log = replace(log, item_features=pd.DataFrame({"tags": ["t|u", "s"]}))
    grown = grow(model, log, initial="features")
    before = model.items.weight.detach()  # type: ignore[union-attr]
    after = grown.items.weight.detach()  # type: ignore[union-attr]
    torch.testing.assert_close(after[4], ((before[0] + before[1]) / 2 + before[2]) / 2)
    # The features themselves are there too: the same embedding with the same tags is one vector.
    vectors = grown.items.rows()
    assert not torch.allclose(vectors[4], vectors[0])


def test_grown_model_knows_new_users_as_unknown_ones_and_old_ones_as_before() -> None:
    lists = [OLD, ["b", "d"], ["c", "a"]]
    log = Sessions.from_lists(lists, users=["u", "v", "u"])
    later = Sessions.from_lists([["e", "a"], ["b", "c"]], users=["w", "v"])
    for model in (
        WithUser(4, base="sasrec", arguments={"hidden_channels": 8}),
        Caser(4, 8, num_users=2),
        BST(4, 8, num_users=2),
        WithUser(4, 2, "bst", arguments={"hidden_channels": 8, "num_users": 2}),
    ):
        known(model, log)
        torch.nn.init.normal_(model.user_embedding.weight)  # type: ignore[union-attr, arg-type]
        grown = grow(model, later)
        assert grown.catalog is not None
        assert grown.catalog.users is not None
        assert grown.catalog.users.ids.tolist() == ["u", "v", "w"]
        old: Tensor = model.user_embedding.weight  # type: ignore[union-attr, assignment]
        new: Tensor = grown.user_embedding.weight  # type: ignore[union-attr, assignment]
        assert torch.equal(new[:2], old)
        assert torch.equal(new[2], torch.zeros_like(new[2]))
        answers = [
            m.recommend([["a", "b"]] * 2, k=4, users=["u", "v"], allow=OLD) for m in (model, grown)
        ]
        for before, after in zip(*answers, strict=True):
            assert dict(before) == pytest.approx(dict(after), abs=1e-5)


def test_grown_gcegnn_knows_new_items_neighbors_and_keeps_those_of_known_ones() -> None:
    model = known(GCEGNN(4, 8, num_neighbors=2))
    model.attach(None, old_log())
    grown = grow(model, Sessions.from_lists([["e", "b"], ["e", "b"], ["a", "b"]]))
    weight: Tensor = grown.neighbor_weight  # type: ignore[assignment]
    assert torch.equal(weight[:4], model.neighbor_weight)  # type: ignore[arg-type]
    torch.testing.assert_close(weight[4], torch.tensor([2.0, 0.0]).log1p())
    assert int(grown.neighbors[4, 0]) == 1  # type: ignore[index]


def test_grown_model_is_saved_and_loaded_as_any(tmp_path: Path) -> None:
    grown = grow(known(SASRec(4, 8)), Sessions.from_lists([["e", "a"]]))
    grown.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.recommend([["e", "a"]], k=5) == grown.recommend([["e", "a"]], k=5)


def test_model_that_lacks_nothing_stays_as_it_is() -> None:
    model = known(SASRec(4, 8))
    same = grow(model, Sessions.from_lists([["b", "a"]]))
    for key, value in model.state_dict().items():
        assert torch.equal(same.state_dict()[key], value)
    assert same.catalog is not None
    assert same.catalog.counts.tolist() == [1, 1, 0, 0]  # those of the new log


def test_growing_keeps_precision_mode_and_the_callers_random_state() -> None:
    model = known(SASRec(4, 8)).double().train()
    state = torch.get_rng_state()
    grown = grow(model, Sessions.from_lists([["e", "a"]]).catalog())
    assert torch.equal(torch.get_rng_state(), state)
    assert grown.training
    assert {p.dtype for p in grown.parameters()} == {torch.float64}


def test_sessions_in_the_codes_of_a_model_keep_its_features_where_they_tell_none() -> None:
    table = pd.DataFrame({"kind": ["x", "y", "z", "w"]})
    model = known(SRGNN(4, 8), old_log(item_features=table))
    log = Sessions.from_lists([["d", "a"]])
    recoded = in_model_codes(model, replace(log, item_features=pd.DataFrame({"kind": ["v", "x"]})))
    assert recoded.items.tolist() == [3, 0]
    assert recoded.item_features is not None
    assert recoded.item_features["kind"].tolist() == ["x", "y", "z", "v"]


def test_sessions_beyond_a_model_are_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 items .* 'e' .* gs\.grow\(model, sessions\)"):
        in_model_codes(known(SRGNN(4, 8)), Sessions.from_lists([["a", "e"]]))
    log = Sessions.from_lists([OLD], users=["u"])
    model = known(Caser(4, 8, num_users=1), log)
    with pytest.raises(ValueError, match="1 of 1 users of these sessions, 'w'"):
        in_model_codes(model, Sessions.from_lists([["b", "a"]], users=["w"]))


def test_growing_says_what_is_missing() -> None:
    log = Sessions.from_lists([["e", "a"]])
    with pytest.raises(ValueError, match=r"does not know the ids .* model\.attach"):
        grow(SRGNN(4, 8), log)
    model = known(SRGNN(4, 8))
    with pytest.raises(ValueError, match="initial is 'mean', 'neighbors' or 'features', got 'x'"):
        grow(model, log, initial="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pass sessions"):
        grow(model, log.catalog(), initial="neighbors")
    with pytest.raises(ValueError, match="give the sessions item_features"):
        grow(model, log, initial="features")
    counting = MarkovChain(4).fit_counts(old_log())
    with pytest.raises(ValueError, match="counts sessions, a catalog has none: pass the log"):
        grow(counting, log.catalog())


def test_table_that_is_not_one_row_an_item_is_refused() -> None:
    class Wide(SessionModel):
        def __init__(self, num_items: int) -> None:
            super().__init__(num_items)
            self.pairs = torch.nn.Parameter(torch.zeros(num_items, num_items))

    with pytest.raises(ValueError, match=r"pairs of Wide has shape \[4, 4\] .* one row per item"):
        grow(known(Wide(4)), Sessions.from_lists([["e", "a"]]))


def test_counts_of_the_grown_catalog_are_those_of_the_new_log() -> None:
    grown = grow(known(SRGNN(4, 8)), Sessions.from_lists([["e", "a", "e"]]))
    assert grown.catalog is not None
    np.testing.assert_array_equal(grown.catalog.counts, [1, 0, 0, 0, 2])


def test_new_items_without_a_shared_feature_value_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = pd.DataFrame({"kind": ["x", "x", "y", "z"]})
    model = known(SRGNN(4, 8), old_log(item_features=table))
    log = replace(
        Sessions.from_lists([["p", "q"]]), item_features=pd.DataFrame({"kind": ["v", "x"]})
    )
    grown = grow(model, log, initial="features")
    assert "initial='features': 1 of 2 new items share no feature value" in caplog.text
    table_of = grown.items.rows()
    torch.testing.assert_close(table_of[4], table_of[:4].mean(0))
