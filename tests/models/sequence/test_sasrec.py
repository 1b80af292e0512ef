"""SASRec against the authors' code, prefix by prefix, and beyond its longest window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models.sequence.sasrec import SASRec
from graphseq.nn import windows
from graphseq.nn.attention import position_angles
from graphseq.nn.ligr import LiGRLayers

FIXTURE = Path(__file__).parents[2] / "fixtures" / "sasrec_published_a.npz"
SESSIONS = [[0, 1, 2, 1, 3], [4], [5, 5, 5], [6, 5, 4, 3, 2, 1, 0, 2, 4, 6, 1], [3, 0]]
PREFIX_EQUAL = ["start", "rotary", "sinusoidal", "none"]
BLOCKS = ["pre_norm", "post_norm", "published"]


@pytest.fixture
def published() -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURE))


def published_model(published: dict[str, np.ndarray]) -> SASRec:
    parameters = {k.removeprefix("param."): v for k, v in published.items() if "param." in k}
    return SASRec.from_published(parameters, heads=int(published["num_heads"])).eval()


def batch_of(sessions: list[list[int]]) -> Batch:
    ptr = torch.tensor([0, *np.cumsum([len(s) for s in sessions])], dtype=torch.long)
    return build_session_graphs(torch.tensor(sum(sessions, []), dtype=torch.long), ptr)


def small_model(**arguments: object) -> SASRec:
    """A model in evaluation whose weights are large enough for every click to matter."""
    torch.manual_seed(0)
    model = SASRec(7, 8, **{"heads": 2, "max_length": 4, **arguments}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def test_sasrec_published_weights_give_published_states_and_scores(
    published: dict[str, np.ndarray],
) -> None:
    model = published_model(published)
    batch = build_session_graphs(
        torch.from_numpy(published["clicks"]) - 1, torch.from_numpy(published["ptr"])
    )
    for actual, name in ((model.click_states(batch), "hidden"), (model.score(batch), "scores")):
        expected = torch.from_numpy(published[name])
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_sasrec_published_weights_give_the_programs_settings(
    published: dict[str, np.ndarray],
) -> None:
    assert published_model(published).settings == {
        "num_items": 25,
        "hidden_channels": 8,
        "num_layers": 2,
        "heads": 2,
        "max_length": 10,
        "dropout": 0.2,
        "block": "published",
        "positions": "end",
        "expansion": 1,
        "normalize": False,
        "scale": 20.0,
    }


@pytest.mark.parametrize("positions", PREFIX_EQUAL)
@pytest.mark.parametrize("block", [*BLOCKS, "ligr"])
def test_sasrec_states_equal_vectors_of_prefixes_beyond_max_length(
    positions: str, block: str
) -> None:
    model = small_model(positions=positions, block=block)
    assert model.causal
    prefixes = [s[:stop] for s in SESSIONS for stop in range(1, len(s) + 1)]
    states = model.click_states(batch_of(SESSIONS))
    for prefix, state in zip(prefixes, states, strict=True):
        alone = model(batch_of([prefix]))[0]
        torch.testing.assert_close(alone, state, rtol=1e-4, atol=1e-5)


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=12), min_size=1, max_size=5),
    st.integers(1, 6),
)
@settings(max_examples=20)
def test_sasrec_states_of_any_sessions_equal_vectors_of_newest_clicks(
    sessions: list[list[int]], max_length: int
) -> None:
    model = small_model(max_length=max_length)
    windows = [
        s[max(0, stop - max_length) : stop] for s in sessions for stop in range(1, len(s) + 1)
    ]
    states = model.click_states(batch_of(sessions))
    torch.testing.assert_close(states, model(batch_of(windows)), rtol=1e-4, atol=1e-5)


def test_sasrec_windows_in_small_chunks_give_the_same_states(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = small_model(), batch_of(SESSIONS)
    at_once = model.click_states(batch)
    monkeypatch.setattr(windows, "CLICKS_AT_ONCE", 9)  # two windows of four
    torch.testing.assert_close(model.click_states(batch), at_once, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("positions", [*PREFIX_EQUAL, "end"])
@pytest.mark.parametrize("training", [True, False])
def test_sasrec_session_vector_is_the_state_of_its_last_click(
    positions: str, training: bool
) -> None:
    model, batch = small_model(positions=positions, dropout=0.0).train(training), batch_of(SESSIONS)
    last = model.click_states(batch)[[4, 5, 8, 19, 21]]
    torch.testing.assert_close(model(batch), last, rtol=1e-5, atol=1e-6)


def test_sasrec_in_training_cuts_sessions_from_their_end_into_windows() -> None:
    model = small_model(dropout=0.0)
    session = SESSIONS[3]  # 11 clicks: windows of 3, 4 and 4
    windows = batch_of([session[:3], session[3:7], session[7:]])
    expected = model.click_states(windows)
    model.train()
    batch = batch_of([session])
    batch.y = torch.arange(11) % 2
    vectors, targets, _ = model.training_rows(batch, torch.Generator())
    torch.testing.assert_close(vectors, expected)
    assert torch.equal(targets, batch.y)


def test_sasrec_positions_from_end_move_earlier_states_and_say_so() -> None:
    model = small_model(positions="end")
    assert not model.causal
    assert SASRec.causal
    longer, prefix = model.click_states(batch_of([[0, 1, 2]])), model(batch_of([[0, 1]]))
    assert not torch.allclose(longer[1], prefix[0], atol=1e-3)


@pytest.mark.parametrize("positions", [*PREFIX_EQUAL, "end"])
@pytest.mark.parametrize("block", [*BLOCKS, "ligr"])
def test_sasrec_later_click_changed_leaves_earlier_states(positions: str, block: str) -> None:
    model = small_model(positions=positions, block=block, max_length=6)
    before = model.click_states(batch_of([[0, 1, 2, 3, 4]]))
    after = model.click_states(batch_of([[0, 1, 2, 6, 4]]))
    torch.testing.assert_close(before[:3], after[:3])
    assert ((before[3:] - after[3:]).abs().amax(dim=1) > 1e-3).all()


def test_sasrec_without_positions_first_block_sees_a_set() -> None:
    model = small_model(positions="none", num_layers=1)
    one, other = model(batch_of([[0, 1, 2, 3], [2, 0, 1, 3]]))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    deeper = small_model(positions="none", num_layers=2)
    one, other = deeper(batch_of([[0, 1, 2, 3], [2, 0, 1, 3]]))
    assert not torch.allclose(one, other, atol=1e-3)  # what a click may see tells the order


@pytest.mark.parametrize("positions", [*PREFIX_EQUAL, "end"])
@pytest.mark.parametrize("block", BLOCKS)
def test_sasrec_attention_rebuilds_the_states_that_it_made(positions: str, block: str) -> None:
    model = small_model(positions=positions, block=block, num_layers=1)
    for session, weights in zip(
        SESSIONS, model(batch_of(SESSIONS), return_attention=True)[1], strict=True
    ):
        newest = session[-4:]
        length = len(newest)
        assert weights.shape == (1, 2, length, length)
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, length))
        assert not weights.triu(1).any()
        # The one block by its equations, with these weights in place of attention.
        only, place = model.blocks[0], torch.arange(length)
        x = model.items.weight[newest]
        if positions == "start":
            x = x + model.positions.weight[place]
        elif positions == "end":
            x = x + model.positions.weight[place + 4 - length]
        elif positions == "sinusoidal":
            angles = position_angles(place, 8)
            x = x * 8**0.5 + torch.cat([angles.sin(), angles.cos()], 1)
        q = x if block == "post_norm" else only.norm_attention(x)
        v = only.attention.lin_value(x if block == "published" else q).view(length, 2, 4)
        mixed = torch.einsum("htu,uhc->thc", weights[0], v).flatten(1)
        if block == "published":
            u = only.norm_feed_forward(q + mixed)
        else:
            u = x + only.attention.lin_out(mixed)
            u = only.norm_attention(u) if block == "post_norm" else u
        inner = only.norm_feed_forward(u) if block == "pre_norm" else u
        activation = torch.nn.functional.gelu if block == "pre_norm" else torch.relu
        y = u + only.lin_out(activation(only.lin_in(inner)))
        y = only.norm_feed_forward(y) if block == "post_norm" else y
        expected = model(batch_of([session]))[0]
        torch.testing.assert_close(model.norm(y)[-1], expected, rtol=1e-4, atol=1e-5)


def test_sasrec_ligr_is_embeddings_then_ligr_layers_then_a_norm() -> None:
    model = small_model(positions="start", block="ligr")
    layers = LiGRLayers(8, 2, 2)
    layers.blocks = model.blocks
    for session in SESSIONS:
        newest = session[-4:]
        x = model.items.weight[newest]
        x = x + model.positions.weight[: len(newest)]
        expected = model.norm(layers(x, torch.tensor([0, len(newest)])))[-1]
        state = model(batch_of([session]))[0]
        torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-5)


def test_sasrec_attention_of_each_layer_and_head_is_its_own() -> None:
    model = small_model(num_layers=3)
    _, (weights,) = model(batch_of([[0, 1, 2, 3]]), return_attention=True)
    rows = weights.flatten(0, 1).flatten(1)
    assert weights.shape == (3, 2, 4, 4)
    assert all(not torch.allclose(rows[i], rows[j]) for i in range(6) for j in range(i))
    both = batch_of(SESSIONS[:1] + [[0, 1, 2, 3]])
    states, attention = model(both, return_attention=True)
    torch.testing.assert_close(attention[1], weights)
    assert torch.equal(states, model(both))
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_sasrec_attention_of_an_empty_batch_is_empty() -> None:
    batch = build_session_graphs(torch.empty(0, dtype=torch.long), torch.tensor([0]))
    states, attention = small_model()(batch, return_attention=True)
    assert len(states) == 0
    assert attention == []


@pytest.mark.parametrize("positions", ["start", "rotary", "sinusoidal", "end"])
def test_sasrec_order_of_clicks_matters_to_the_session_vector(positions: str) -> None:
    model = small_model(positions=positions)
    one, other = model(batch_of([[0, 1, 2, 3], [1, 0, 2, 3]]))
    assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("positions", [*PREFIX_EQUAL, "end"])
def test_sasrec_session_alone_equals_itself_in_a_batch(positions: str) -> None:
    model = small_model(positions=positions)
    together = model.click_states(batch_of(SESSIONS))
    alone = torch.cat([model.click_states(batch_of([session])) for session in SESSIONS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_sasrec_empty_batch_gives_no_states() -> None:
    batch = build_session_graphs(torch.empty(0, dtype=torch.long), torch.tensor([0]))
    model = small_model()
    assert model.click_states(batch).shape == (0, 8)
    assert model(batch).shape == (0, 8)


def test_sasrec_streamed_click_by_click_equals_whole_session_beyond_max_length() -> None:
    model, session = small_model(), SESSIONS[3]
    scores = model.items.scores(model.click_states(batch_of([session])))
    candidates = torch.tensor([6, 0])
    state = model.initial_state()
    for item, expected in zip(session, scores, strict=True):
        state = model.update_state(state, item)
        torch.testing.assert_close(model.score_state(state), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            model.score_state(state, candidates), expected[candidates], rtol=1e-4, atol=1e-5
        )
    assert state.items.tolist() == session[-4:]


def test_sasrec_stream_without_a_click_raises() -> None:
    model = small_model()
    with pytest.raises(ValueError, match="no state before the first click"):
        model.score_state(model.initial_state())


@pytest.mark.parametrize("positions", [*PREFIX_EQUAL, "end"])
@pytest.mark.parametrize("block", BLOCKS)
def test_sasrec_every_parameter_gets_a_gradient(positions: str, block: str) -> None:
    model = small_model(positions=positions, block=block, dropout=0.1).train()
    batch = batch_of(SESSIONS)
    scores = model.items.scores(model.click_states(batch))
    torch.nn.functional.cross_entropy(scores, batch.click_item.roll(1)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 1e-6, name


def test_sasrec_loss_on_a_click_gives_no_gradient_to_items_clicked_later_alone() -> None:
    model = small_model(max_length=6)
    model.click_states(batch_of([[0, 1, 2, 3]]))[1].sum().backward()
    touched = model.items.weight.grad.abs().sum(dim=1) > 0
    assert touched.tolist() == [True, True, False, False, False, False, False]


def test_sasrec_dropout_acts_in_training_alone() -> None:
    model, batch = small_model(dropout=0.5), batch_of(SESSIONS)
    assert torch.equal(model.click_states(batch), model.click_states(batch))
    assert torch.equal(model.click_states(batch), small_model(dropout=0.0).click_states(batch))
    model.train()
    assert not torch.equal(model.click_states(batch), model.click_states(batch))


def test_sasrec_embeddings_are_dropped_in_training_before_the_first_block() -> None:
    batch = batch_of([[0, 1, 2, 3], [4, 5]])
    model = small_model(dropout=0.5)
    read: list[torch.Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda block, given: read.append(given[0].detach()))
    model.eval()(batch)
    torch.manual_seed(0)
    model.train()(batch)
    whole, dropped = read
    kept = dropped != 0
    assert 0.2 < kept.float().mean() < 0.8
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])


@pytest.mark.parametrize("block", [*BLOCKS, "ligr"])
def test_sasrec_blocks_drop_the_same_share_and_have_the_same_expansion(block: str) -> None:
    model = small_model(block=block, dropout=0.3, expansion=3, num_layers=3)
    assert len(model.blocks) == 3
    for each in model.blocks:
        assert each.drop.share == each.attention.dropout == 0.3
        assert (each.attention.heads, each.lin_in.out_features) == (2, 24)


def test_sasrec_start_is_normal_with_small_deviation_and_plain_norms() -> None:
    torch.manual_seed(0)
    model = SASRec(500, 32, 1)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
        else:
            assert (parameter == float("norm" in name and "weight" in name)).all(), name


def test_sasrec_settings_build_the_same_model_again() -> None:
    model = SASRec(9, 8, 1, heads=2, max_length=7, positions="rotary", block="post_norm")
    again = SASRec(**model.settings)
    assert again.settings == model.settings
    assert again.state_dict().keys() == model.state_dict().keys()
    assert repr(again) == "SASRec(9, 8, num_layers=1)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items must be at least 1, got 0"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"expansion": 0}, "expansion must be at least 1, got 0"),
        ({"heads": 3}, "heads must divide hidden_channels, got 3 heads for 64"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"block": "post"}, "'pre_norm', 'post_norm', 'published' or 'ligr', got 'post'"),
        ({"positions": "middle"}, "'sinusoidal' or 'none', got 'middle'"),
        ({"positions": "sinusoidal", "hidden_channels": 5}, "needs an even width, got 5"),
        ({"positions": "rotary", "heads": 64}, "needs an even width, got 1"),
        ({"positions": "rotary", "heads": 0}, "heads must be at least 1, got 0"),
    ],
)
def test_sasrec_wrong_setting_raises_naming_it(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SASRec(**{"num_items": 5, **arguments})


def test_sasrec_published_weights_incomplete_raises_naming_them(
    published: dict[str, np.ndarray],
) -> None:
    del published["param.seq_norm.bias"], published["param.transformer_blocks.1.dense2.bias"]
    with pytest.raises(ValueError, match=r"lack seq_norm\.bias, transformer_blocks\.1\.dense2\.b"):
        published_model(published)


def test_sasrec_normalized_scores_are_scaled_cosines_of_the_plain_states() -> None:
    model, plain = small_model(normalize=True, scale=5.0), small_model()
    batch = batch_of(SESSIONS)
    table = plain.items.weight
    for vectors, expected in (
        (model(batch), plain(batch)),
        (model.click_states(batch), plain.click_states(batch)),
    ):
        cosine = torch.nn.functional.cosine_similarity(expected[:, None], table[None], dim=2)
        torch.testing.assert_close(model.items.scores(vectors), 5.0 * cosine)
        items = torch.tensor([3, 0])
        torch.testing.assert_close(model.items.scores(vectors, items), 5.0 * cosine[:, items])


def test_sasrec_normalized_rows_are_rows_of_the_table_in_value_and_gradient() -> None:
    model = small_model(normalize=True)
    items, gradient = torch.tensor([2, 0, 2]), torch.randn(3, 8)
    rows, whole = model.items.rows(items), model.items.rows()[items]
    torch.testing.assert_close(rows, whole)
    weight = model.items.weight
    (one,) = torch.autograd.grad(rows, weight, gradient)
    (other,) = torch.autograd.grad(whole, weight, gradient)
    torch.testing.assert_close(one, other)


def test_sasrec_published_weights_of_an_inner_width_that_is_no_multiple_are_unsupported(
    published: dict[str, np.ndarray],
) -> None:
    given = {k.removeprefix("param."): v for k, v in published.items() if "param." in k}
    name = "transformer_blocks.0.dense1.weight"
    width = given[name].shape[1]
    given[name] = np.ones((width + 1, width))
    message = f"an inner width of {width + 1}, which is no multiple of the width {width}"
    with pytest.raises(ValueError, match=message):
        SASRec.from_published(given)
