"""GRU4Rec against the authors' program, click by click, and as a stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.session_graph import build_session_graphs
from graphseq.models.gru4rec import GRU4Rec

FIXTURE = Path(__file__).parent.parent / "fixtures" / "gru4rec_published_a.npz"
SESSIONS = [[0, 1, 2, 1, 3], [4], [5, 5, 5], [6, 5, 4, 3, 2, 1, 0], [3, 0]]


@pytest.fixture
def published() -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURE))


def published_model(published: dict[str, np.ndarray]) -> GRU4Rec:
    parameters = {k.removeprefix("param."): v for k, v in published.items() if "param." in k}
    return GRU4Rec.from_published(parameters)


def batch_of(sessions: list[list[int]]) -> Batch:
    ptr = torch.tensor([0, *np.cumsum([len(s) for s in sessions])], dtype=torch.long)
    return build_session_graphs(torch.tensor(sum(sessions, []), dtype=torch.long), ptr)


def small_model(**arguments: object) -> GRU4Rec:
    torch.manual_seed(0)
    model = GRU4Rec(7, 6, **arguments)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def cell_states(model: GRU4Rec, clicks: list[int]) -> Tensor:
    """The equations of the paper's GRU, one click at a time, states [num_clicks, d]."""
    table = model.item_embedding if model.input_embedding is None else model.input_embedding
    states = [torch.zeros(model.hidden_channels) for _ in range(model.num_layers)]
    out = []
    for item in clicks:
        x = table.weight[item]
        for layer in range(model.num_layers):
            w_ih, w_hh, b_ih, b_hh = (
                getattr(model.gru, f"{kind}_l{layer}")
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h = states[layer]
            (i_r, i_z, i_n), (h_r, h_z, h_n) = (
                (w_ih @ x + b_ih).chunk(3),
                (w_hh @ h + b_hh).chunk(3),
            )
            r, z = (i_r + h_r).sigmoid(), (i_z + h_z).sigmoid()
            n = (i_n + r * h_n).tanh()
            x = states[layer] = n + z * (h - n)
        out.append(x)
    return torch.stack(out)


def test_gru4rec_published_weights_give_published_scores_after_every_click(
    published: dict[str, np.ndarray],
) -> None:
    model = published_model(published)
    sequences = torch.from_numpy(published["sequences"])
    states = model.click_states(batch_of(sequences.tolist()))
    scores = model.score_vectors(states).unflatten(0, sequences.shape).transpose(0, 1)
    expected = torch.from_numpy(published["step_scores"])
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


def test_gru4rec_published_weights_streamed_in_lanes_give_published_scores(
    published: dict[str, np.ndarray],
) -> None:
    model = published_model(published)
    sequences = torch.from_numpy(published["sequences"])
    state = model.initial_state(num_sessions=sequences.size(0))
    for step, expected in enumerate(torch.from_numpy(published["step_scores"])):
        state = model.update_state(state, sequences[:, step])
        torch.testing.assert_close(model.score_state(state), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("embedding", ["constrained", "separate"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_gru4rec_batch_equals_the_cell_click_by_click(embedding: str, num_layers: int) -> None:
    model = small_model(num_layers=num_layers, embedding=embedding)
    expected = torch.cat([cell_states(model, s) for s in SESSIONS])
    actual = model.click_states(batch_of(SESSIONS))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=9), min_size=1, max_size=6),
    st.integers(1, 2),
)
@settings(max_examples=25)
def test_gru4rec_streamed_click_by_click_equals_whole_session_from_scratch(
    sessions: list[list[int]], num_layers: int
) -> None:
    model = small_model(num_layers=num_layers).eval()
    states = model.click_states(batch_of(sessions)).split([len(s) for s in sessions])
    for session, from_scratch in zip(sessions, states, strict=True):
        state = model.initial_state()
        for item, expected in zip(session, from_scratch, strict=True):
            state = model.update_state(state, item)
            torch.testing.assert_close(state[-1], expected, rtol=1e-5, atol=1e-6)
            scores = model.score_vectors(expected.view(1, -1)).view(-1)
            torch.testing.assert_close(model.score_state(state), scores, rtol=1e-5, atol=1e-5)


def test_gru4rec_session_vector_is_the_state_of_its_last_click() -> None:
    model, batch = small_model(), batch_of(SESSIONS)
    last = [4, 5, 8, 15, 17]
    assert torch.equal(model(batch), model.click_states(batch)[last])


def test_gru4rec_prefixes_alone_equal_states_in_the_batch() -> None:
    model = small_model(num_layers=2)
    prefixes = [s[:stop] for s in SESSIONS for stop in range(1, len(s) + 1)]
    whole = model.click_states(batch_of(SESSIONS))
    for prefix, state in zip(prefixes, whole, strict=True):
        torch.testing.assert_close(model(batch_of([prefix]))[0], state, rtol=1e-5, atol=1e-6)


def test_gru4rec_later_click_changed_leaves_earlier_states() -> None:
    model = small_model()
    before = model.click_states(batch_of([[0, 1, 2, 3, 4]]))
    after = model.click_states(batch_of([[0, 1, 2, 6, 4]]))
    assert torch.equal(before[:3], after[:3])
    assert (before[3:] != after[3:]).any(dim=1).all()


def test_gru4rec_empty_batch_gives_no_states() -> None:
    model = small_model()
    batch = build_session_graphs(torch.empty(0, dtype=torch.long), torch.tensor([0]))
    assert model.click_states(batch).shape == (0, 6)
    assert model(batch).shape == (0, 6)


@pytest.mark.parametrize("embedding", ["constrained", "separate"])
def test_gru4rec_every_parameter_gets_a_gradient(embedding: str) -> None:
    model = small_model(num_layers=2, embedding=embedding, dropout=0.1, input_dropout=0.1)
    batch = batch_of(SESSIONS)
    scores = model.score_vectors(model.click_states(batch))
    torch.nn.functional.cross_entropy(scores, batch.click_item.roll(1)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("arguments", [{"dropout": 0.5}, {"input_dropout": 0.5}])
def test_gru4rec_dropout_acts_in_training_alone(arguments: dict[str, float]) -> None:
    model, batch = small_model(**arguments), batch_of(SESSIONS)
    assert not torch.equal(model.click_states(batch), model.click_states(batch))
    model.eval()
    assert torch.equal(model.click_states(batch), model.click_states(batch))
    assert torch.equal(model.click_states(batch), small_model().click_states(batch))


def test_gru4rec_candidates_score_as_in_all_items() -> None:
    model, batch = small_model(), batch_of(SESSIONS)
    items = torch.tensor([[1, 0], [2, 2], [6, 3], [4, 5], [0, 6]])
    expected = model.score(batch).gather(1, items)
    torch.testing.assert_close(model.score(batch, items), expected)
    state = model.update_state(model.initial_state(), 3)
    assert torch.equal(model.score_state(state, items[2]), model.score_state(state)[items[2]])


def test_gru4rec_start_is_uniform_as_in_the_program_with_zero_biases() -> None:
    torch.manual_seed(0)
    model = GRU4Rec(200, 40)
    weights = {
        model.item_embedding.weight: (6 / 240) ** 0.5,
        model.gru.weight_ih_l0: (6 / 80) ** 0.5,
        model.gru.weight_hh_l0: (6 / 80) ** 0.5,
    }
    for weight, bound in weights.items():
        assert 0.98 * bound < weight.abs().max() <= bound
    assert all(not p.any() for p in model.parameters() if p.dim() == 1)


def test_gru4rec_settings_build_the_same_model_again() -> None:
    model = GRU4Rec(9, 4, 2, embedding="separate", dropout=0.3, input_dropout=0.1)
    again = GRU4Rec(**model.settings)
    assert again.settings == model.settings
    assert again.state_dict().keys() == model.state_dict().keys()
    assert repr(again) == "GRU4Rec(9, 4, num_layers=2)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items must be at least 1, got 0"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"input_dropout": -0.1}, r"input_dropout must lie in \[0, 1\), got -0.1"),
        ({"embedding": "tied"}, "embedding is 'constrained' or 'separate', got 'tied'"),
    ],
)
def test_gru4rec_wrong_setting_raises_naming_it(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRU4Rec(**{"num_items": 5, **arguments})


def test_gru4rec_published_weights_incomplete_raises_naming_them(
    published: dict[str, np.ndarray],
) -> None:
    del published["param.Wy.weight"], published["param.G.0.bias_hh"]
    with pytest.raises(ValueError, match=r"lack G\.0\.bias_hh, Wy\.weight"):
        published_model(published)


def test_gru4rec_published_weights_of_other_form_raise_naming_them(
    published: dict[str, np.ndarray],
) -> None:
    published["param.GE.Wx0.weight"] = np.zeros((20, 24))
    with pytest.raises(ValueError, match=r"no place for GE\.Wx0\.weight"):
        published_model(published)


def test_gru4rec_published_separate_embedding_is_taken(published: dict[str, np.ndarray]) -> None:
    published["param.E.weight"] = np.ones((20, 8), dtype=np.float32)
    model = published_model(published)
    assert model.embedding == "separate"
    assert model.input_embedding is not None
    assert (model.input_embedding.weight == 1).all()


def test_gru4rec_published_layers_of_other_width_raise(published: dict[str, np.ndarray]) -> None:
    published["param.E.weight"] = np.ones((20, 5), dtype=np.float32)
    with pytest.raises(ValueError, match="All layers must be 8 wide"):
        published_model(published)


def test_gru4rec_state_with_items_of_other_shape_raises() -> None:
    model = small_model()
    with pytest.raises(ValueError, match=r"needs items of shape \[3\], got \[2\]"):
        model.update_state(model.initial_state(num_sessions=3), torch.tensor([0, 1]))
