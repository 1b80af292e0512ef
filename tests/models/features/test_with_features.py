"""Rows of ids and features: what they are made of, and what new items get."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models import MODELS, WithFeatures
from graphseq.nn import EncodedItemTable

SPECS = [
    {"name": "kind", "kind": "categorical", "size": 3},
    {"name": "image", "kind": "vector", "size": 2},
]
TABLE = pd.DataFrame(
    {
        "kind": [0, 1, 2, -1, 1],
        "image": [np.array(v) for v in ([1.0, 2.0], [0.5, -1.0], [0.0, 3.0], [2.0, 2.0])]
        + [np.array([np.nan, np.nan])],
    }
)
LISTS = [[0, 1, 0, 3], [2, 1], [0, 2, 3]]  # item 4 is never clicked


def sessions():
    made = gs.Sessions.from_lists(LISTS, vocabulary=gs.data.Vocabulary(range(5)))
    return replace(made, item_features=TABLE)


def table_of(fusion, **options):
    torch.manual_seed(0)
    table = EncodedItemTable(5, 4, SPECS, feature_channels=3, fusion=fusion, **options)
    if fusion == "gate":
        torch.nn.init.normal_(table.gate_weight)
        torch.nn.init.normal_(table.gate_bias)
    table.fill(sessions().catalog(), "A table")
    return table.eval()


def naive_row(table, item):
    """v_j written out part by part; an absent part is ``None``."""
    kind, image = table.features.embedding.parts
    parts = [None, None, table.weight[item] if item < 4 else None]
    if TABLE["kind"][item] >= 0:
        parts[0] = table.lins[0](kind.weight[TABLE["kind"][item]])
    if not np.isnan(TABLE["image"][item]).any():
        parts[1] = table.lins[1](image(torch.tensor(TABLE["image"][item]).float()))
    there = [k for k, part in enumerate(parts) if part is not None]
    if table.fusion == "sum":
        return sum(parts[k] for k in there)
    logits = [
        table.gate_bias[k] + (0 if k == 2 else table.gate_weight[k] @ parts[k]) for k in there
    ]
    shares = torch.stack(logits).softmax(0)
    return sum(share * parts[k] for share, k in zip(shares, there, strict=True))


@pytest.mark.parametrize("fusion", ["sum", "gate"])
def test_encoded_rows_are_the_sum_or_the_gated_sum_of_what_an_item_has(fusion):
    table = table_of(fusion)
    expected = torch.stack([naive_row(table, item) for item in range(5)])
    torch.testing.assert_close(table.rows(), expected)
    wanted = torch.tensor([[4, 0], [3, 3]])
    torch.testing.assert_close(table.rows(wanted), expected[wanted])
    torch.testing.assert_close(table(wanted), expected[wanted])


@pytest.mark.parametrize("fusion", ["sum", "gate"])
def test_encoded_item_without_id_and_features_is_zero(fusion):
    table = table_of(fusion)
    table.clicked[:] = False
    catalog = replace(
        sessions(), item_features=TABLE.assign(kind=-1, image=[np.full(2, np.nan)] * 5)
    )
    table.features.fill(catalog.item_features)
    assert torch.equal(table.rows(), torch.zeros(5, 4))


def test_encoded_rows_keep_the_options_of_the_table():
    table = table_of("sum", normalize=True, scale=5.0, bias=True)
    torch.testing.assert_close(table.rows().norm(dim=1), torch.ones(5))
    assert table.bias.shape == (5,)


def test_id_dropout_leaves_out_whole_ids_in_training_alone():
    table = table_of("sum", id_dropout=0.5).train()
    with_id = table.eval().rows(torch.zeros(4000, dtype=torch.long))[0]
    without = with_id - table.weight[0]
    rows = table.train()(torch.zeros(4000, dtype=torch.long))
    kept = torch.isclose(rows, with_id, atol=1e-6).all(1)
    dropped = torch.isclose(rows, without, atol=1e-6).all(1)
    assert bool((kept ^ dropped).all())
    assert 0.45 < float(dropped.float().mean()) < 0.55


def test_item_without_a_click_has_no_gradient_to_its_id():
    model = WithFeatures(5, SPECS, arguments={"hidden_channels": 4}).eval()
    model.attach(sessions().catalog())
    batch = build_session_graphs(torch.tensor([0, 4, 1]), torch.tensor([0, 3]))
    model.score(batch).sum().backward()
    gradient = model.items.weight.grad
    assert torch.equal(gradient[4], torch.zeros(4))
    assert bool((gradient[:4] != 0).any(1).all())


@pytest.mark.parametrize("base", ["sasrec", "gru4rec", "srgnn", "core", "sgnnhn"])
def test_without_features_it_is_the_base(base):
    torch.manual_seed(0)
    model = WithFeatures(5, None, base, arguments={"hidden_channels": 4}).eval()
    torch.manual_seed(0)
    alone = MODELS[base](5, hidden_channels=4).eval()
    batch = build_session_graphs(torch.tensor([0, 4, 1]), torch.tensor([0, 3]))
    assert torch.equal(model.score(batch), alone.score(batch))


@pytest.mark.parametrize("base", ["sasrec", "gru4rec", "srgnn", "bert4rec", "caser", "core"])
def test_the_table_of_every_base_keeps_its_options(base):
    options = {"sasrec": {"normalize": True, "scale": 7.0}}.get(base, {})
    model = WithFeatures(5, SPECS, base, arguments={"hidden_channels": 4, **options})
    alone = MODELS[base](5, hidden_channels=4, **options).items
    for name in ("normalize", "center", "scale", "channels"):
        assert getattr(model.items, name) == getattr(alone, name)
    assert (model.items.bias is None) == (alone.bias is None)


def test_from_model_keeps_what_was_learned():
    base = gs.models.SASRec(5, 4)
    made = WithFeatures.from_model(base, SPECS)
    assert torch.equal(made.items.weight, base.items.weight)
    assert torch.equal(made.inner.norm.weight, base.norm.weight)


@pytest.mark.parametrize("training", [True, False])
def test_from_model_keeps_the_mode_of_the_model(training):
    base = gs.models.SASRec(5, 4).train(training)
    made = WithFeatures.from_model(base, SPECS)
    assert {module.training for module in made.modules()} == {training}


def test_saved_and_loaded_it_scores_the_same(tmp_path):
    model = WithFeatures(5, SPECS, fusion="gate", arguments={"hidden_channels": 4})
    gs.fit(model, sessions(), max_epochs=1)
    model.save(tmp_path / "model")
    loaded = gs.load(tmp_path / "model")
    assert loaded.recommend([[0, 2]], k=5) == model.recommend([[0, 2]], k=5)
    assert torch.equal(loaded.items.clicked, torch.tensor([True] * 4 + [False]))


def test_grown_by_features_new_items_have_features_alone_until_fit():
    log = gs.Sessions.from_lists(LISTS)
    log = replace(log, item_features=TABLE.iloc[[0, 1, 3, 2]].reset_index(drop=True))
    model = WithFeatures(4, SPECS, arguments={"hidden_channels": 4})
    gs.fit(model, log, max_epochs=1)
    more = gs.Sessions.from_lists([["new", 0], [2, "new"]])
    more = replace(
        more, item_features=pd.DataFrame({"kind": [1, 0, 2], "image": [TABLE["image"][0]] * 3})
    )
    grown = gs.grow(model, more, initial="features")
    assert grown.items.clicked.tolist() == [True] * 4 + [False]
    before = grown.items.rows().detach().clone()
    with torch.no_grad():
        grown.items.weight[4] += 1
    assert torch.equal(grown.items.rows(), before)
    torch.testing.assert_close(before[:4], model.eval().items.rows())
    gs.fit(grown, gs.models.in_model_codes(grown, more), max_epochs=1)
    assert bool(grown.items.clicked[4])


def test_a_planted_modality_is_used_and_a_useless_one_is_not_needed():
    """Sessions stay within a kind that only the vectors tell; items of the test are new."""
    rng = np.random.default_rng(0)
    kind, old = np.arange(60) % 6, np.arange(60) < 48
    lists = [rng.choice(np.flatnonzero((kind == k) & old), 5) for k in rng.integers(0, 6, 400)]
    told = np.eye(6)[kind] + 0.1 * rng.normal(size=(60, 6))
    noise = rng.normal(size=(60, 3))
    log = replace(
        gs.Sessions.from_lists(
            [each.tolist() for each in lists], vocabulary=gs.data.Vocabulary(range(60))
        ),
        item_features=pd.DataFrame({"told": list(told), "noise": list(noise)}),
    )
    specs = gs.data.feature_specs(log, item=["told", "noise"])["item_features"]
    torch.manual_seed(0)
    model = WithFeatures(
        60, specs, fusion="gate", id_dropout=0.3, arguments={"hidden_channels": 16}
    )
    gs.fit(model, log, max_epochs=8, learning_rate=0.01, seed=0)
    new = np.arange(48, 60)
    batch = build_session_graphs(
        torch.tensor(kind.tolist())[:6].repeat_interleave(1), torch.arange(7)
    )
    scores = model.eval().score(batch, torch.from_numpy(new))
    best = kind[new[scores.argmax(1).numpy()]]
    assert (best == kind[:6]).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"base": "markov"}, "base is one of"),
        ({"base": "with_user"}, "base is one of"),
        ({"id_dropout": 1.0}, "id_dropout"),
        ({"fusion": "product"}, "fusion is"),
        ({"feature_channels": 0}, "feature_channels must be at least 1"),
        ({"item_features": [{"name": "a", "kind": "colour"}]}, "kind of feature 'a'"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        WithFeatures(5, **{"item_features": SPECS, **arguments})


def test_missing_features_are_named():
    model = WithFeatures(5, SPECS, arguments={"hidden_channels": 4})
    batch = build_session_graphs(torch.tensor([0, 1]), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="has no values of it: call"):
        model.score(batch)
    with pytest.raises(ValueError, match="'image', but the catalog has 'kind'"):
        model.attach(replace(sessions(), item_features=TABLE[["kind"]]).catalog())
    wide = TABLE.assign(image=[np.zeros(3)] * 5)
    with pytest.raises(ValueError, match="image"):
        model.attach(replace(sessions(), item_features=wide).catalog())
