"""GRU4Rec against the authors' code, click by click, and as a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.loading.session_parallel import SessionParallelLoader
from graphseq.data.sessions.sessions import Sessions
from graphseq.models.sequence.gru4rec import GRU4Rec
from graphseq.training.fit import fit
from graphseq.training.objectives.loss_choice import SampledLoss

FIXTURE = Path(__file__).parents[2] / "fixtures" / "gru4rec_published_a.npz"
FORMS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3},
    {"embedding": "separate"},
    {"embedding": "separate", "embedding_channels": 4, "num_layers": 2},
    {"lower_channels": [9, 3]},
    {"lower_channels": [2], "num_layers": 2, "embedding": "separate", "embedding_channels": 5},
]
SESSIONS = [[0, 1, 2, 1, 3], [4], [5, 5, 5], [6, 5, 4, 3, 2, 1, 0], [3, 0]]
LOG = Sessions.from_lists([[0, 1, 2, 1, 3], [4, 6], [5, 5, 5], [6, 5, 4, 3, 2, 1, 0], [3, 0, 2]])


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


def layers_of(model: GRU4Rec) -> list[list[Tensor]]:
    """Weights of every layer, the lowest first."""
    places = [(layer, 0) for layer in model.lower] + [
        (model.gru, i) for i in range(model.num_layers)
    ]
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [[getattr(layer, f"{kind}_l{i}") for kind in kinds] for layer, i in places]


def cell_states(model: GRU4Rec, clicks: list[int]) -> Tensor:
    """The equations of the paper's GRU, one click at a time, states [num_clicks, d]."""
    table = model.items if model.input_embedding is None else model.input_embedding
    layers = layers_of(model)
    states = [torch.zeros(w_hh.size(1)) for _, w_hh, _, _ in layers]
    out = []
    for item in clicks:
        x = table.weight[item]
        for layer, (w_ih, w_hh, b_ih, b_hh) in enumerate(layers):
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
    scores = model.items.scores(states).unflatten(0, sequences.shape).transpose(0, 1)
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


@pytest.mark.parametrize("arguments", FORMS)
def test_gru4rec_batch_equals_the_cell_click_by_click(arguments: dict[str, Any]) -> None:
    model = small_model(**arguments)
    expected = torch.cat([cell_states(model, s) for s in SESSIONS])
    actual = model.click_states(batch_of(SESSIONS))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=9), min_size=1, max_size=6),
    st.sampled_from(FORMS),
)
@settings(max_examples=25)
def test_gru4rec_streamed_click_by_click_equals_whole_session_from_scratch(
    sessions: list[list[int]], arguments: dict[str, Any]
) -> None:
    model = small_model(**arguments).eval()
    states = model.click_states(batch_of(sessions)).split([len(s) for s in sessions])
    for session, from_scratch in zip(sessions, states, strict=True):
        state = model.initial_state()
        for item, expected in zip(session, from_scratch, strict=True):
            state = model.update_state(state, item)
            torch.testing.assert_close(state[-1][:6], expected, rtol=1e-5, atol=1e-6)
            scores = model.items.scores(expected.view(1, -1)).view(-1)
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


@pytest.mark.parametrize("arguments", FORMS)
def test_gru4rec_empty_batch_gives_no_states(arguments: dict[str, Any]) -> None:
    model = small_model(**arguments)
    batch = build_session_graphs(torch.empty(0, dtype=torch.long), torch.tensor([0]))
    assert model.click_states(batch).shape == (0, 6)
    assert model(batch).shape == (0, 6)


@pytest.mark.parametrize("arguments", FORMS)
def test_gru4rec_every_parameter_gets_a_gradient(arguments: dict[str, Any]) -> None:
    model = small_model(**arguments, dropout=0.1, input_dropout=0.1)
    batch = batch_of(SESSIONS)
    scores = model.items.scores(model.click_states(batch))
    torch.nn.functional.cross_entropy(scores, batch.click_item.roll(1)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("share", ["dropout", "input_dropout"])
@pytest.mark.parametrize("arguments", FORMS)
def test_gru4rec_dropout_acts_in_training_alone(arguments: dict[str, Any], share: str) -> None:
    model, batch = small_model(**arguments, **{share: 0.5}), batch_of(SESSIONS)
    assert not torch.equal(model.click_states(batch), model.click_states(batch))
    model.eval()
    assert torch.equal(model.click_states(batch), model.click_states(batch))
    assert torch.equal(model.click_states(batch), small_model(**arguments).click_states(batch))


def test_gru4rec_candidates_score_as_in_all_items() -> None:
    model, batch = small_model(), batch_of(SESSIONS)
    items = torch.tensor([[1, 0], [2, 2], [6, 3], [4, 5], [0, 6]])
    expected = model.score(batch).gather(1, items)
    torch.testing.assert_close(model.score(batch, items), expected)
    state = model.update_state(model.initial_state(), 3)
    everything = model.score_state(state)
    torch.testing.assert_close(model.score_state(state, items[2]), everything[items[2]])


def test_gru4rec_normalized_scores_are_scaled_cosines_of_the_plain_states_and_the_bias() -> None:
    model, plain = small_model(normalize=True, scale=5.0), small_model()
    model.load_state_dict(plain.state_dict())
    batch = batch_of(SESSIONS)
    table, bias = plain.items.weight, plain.items.bias
    for vectors, states in (
        (model(batch), plain(batch)),
        (model.click_states(batch), plain.click_states(batch)),
    ):
        cosine = torch.nn.functional.cosine_similarity(states[:, None], table[None], dim=2)
        torch.testing.assert_close(model.items.scores(vectors), 5.0 * cosine + bias)
        items = torch.tensor([3, 0])
        expected = 5.0 * cosine[:, items] + bias[items]
        torch.testing.assert_close(model.items.scores(vectors, items), expected)


def test_gru4rec_normalized_streamed_equals_whole_sessions() -> None:
    model = small_model(normalize=True, num_layers=2)
    state = model.initial_state()
    for item in SESSIONS[0]:
        state = model.update_state(state, item)
    whole = model.score(batch_of(SESSIONS[:1]))[0]
    torch.testing.assert_close(model.score_state(state), whole)


def test_gru4rec_start_is_uniform_as_in_the_program_with_zero_biases() -> None:
    torch.manual_seed(0)
    model = GRU4Rec(200, 40)
    weights = {
        model.items.weight: (6 / 240) ** 0.5,
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
        ({"embedding": "shared"}, "embedding is 'tied' or 'separate', got 'shared'"),
        ({"lower_channels": [4, 0]}, "lower_channels must be at least 1, got 0"),
        ({"embedding_channels": 0}, "embedding_channels must be at least 1, got 0"),
        ({"scale": 0}, "scale must be positive, got 0"),
        ({"embedding_channels": 3}, "embedding_channels is 3 and hidden_channels 100"),
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


def test_gru4rec_published_weights_of_other_name_raise_naming_them(
    published: dict[str, np.ndarray],
) -> None:
    published["param.GX.weight"] = np.zeros((20, 24))
    with pytest.raises(ValueError, match=r"hold GX\.weight, which"):
        published_model(published)


def test_gru4rec_published_separate_embedding_is_taken(published: dict[str, np.ndarray]) -> None:
    published["param.E.weight"] = np.ones((20, 8), dtype=np.float32)
    model = published_model(published)
    assert model.embedding == "separate"
    assert model.input_embedding is not None
    assert (model.input_embedding.weight == 1).all()


def test_gru4rec_published_weights_that_do_not_fit_raise(published: dict[str, np.ndarray]) -> None:
    published["param.E.weight"] = np.ones((20, 5), dtype=np.float32)
    with pytest.raises(ValueError, match=r"G\.0\.weight_ih .* \[24, 8\], .*: \[24, 5\] would"):
        published_model(published)
    del published["param.E.weight"]
    published["param.Wy.weight"] = np.ones((20, 6), dtype=np.float32)
    with pytest.raises(ValueError, match=r"of GRU4Rec's published weights has shape"):
        published_model(published)


def program_weights(layers: list[int], embedding: int | None = None) -> dict[str, Tensor]:
    """Random weights as the authors' code has them; without an embedding, constrained."""
    torch.manual_seed(0)
    width = layers[-1] if embedding is None else embedding
    weights = {"Wy.weight": torch.randn(7, layers[-1]), "By.weight": torch.randn(7, 1)}
    if embedding is not None:
        weights["E.weight"] = torch.randn(7, embedding)
    for number, hidden in enumerate(layers):
        weights[f"G.{number}.weight_ih"] = 0.5 * torch.randn(3 * hidden, width)
        weights[f"G.{number}.weight_hh"] = 0.5 * torch.randn(3 * hidden, hidden)
        weights[f"G.{number}.bias_ih"] = torch.randn(3 * hidden)
        weights[f"G.{number}.bias_hh"] = torch.randn(3 * hidden)
        width = hidden
    return weights


def program_states(weights: dict[str, Tensor], clicks: list[int]) -> Tensor:
    """The authors' layers written down with torch's own GRUCell, [num_clicks, d]."""
    cells = []
    while f"G.{len(cells)}.weight_ih" in weights:
        prefix = f"G.{len(cells)}."
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        cell = torch.nn.GRUCell(own["weight_ih"].size(1), own["weight_hh"].size(1))
        cell.load_state_dict(own)
        cells.append(cell)
    states = [torch.zeros(1, cell.hidden_size) for cell in cells]
    first = None
    out = []
    for item in clicks:
        if "GE.Wh0" in weights:  # its first layer takes the gates' inputs from a table
            h = torch.zeros(1, len(weights["GE.Wh0"])) if first is None else first
            x_n, x_r, x_z = (weights["GE.Wx0.weight"][[item]] + weights["GE.Bh0"]).chunk(3, 1)
            h_n, h_r, h_z = (h @ weights["GE.Wh0"]).chunk(3, 1)
            z = torch.sigmoid(x_z + h_z)
            first = (1 - z) * h + z * torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
            x = first
        else:
            x = weights.get("E.weight", weights["Wy.weight"])[[item]]
        for number, cell in enumerate(cells):
            x = states[number] = cell(x, states[number])
        out.append(x)
    return torch.cat(out)


@pytest.mark.parametrize("embedding", [None, 3, 4])
@pytest.mark.parametrize("layers", [[4], [4, 4], [5, 4], [4, 6, 4], [2, 3, 4, 4]])
def test_gru4rec_published_layers_of_any_width_equal_the_programs(
    layers: list[int], embedding: int | None
) -> None:
    weights = program_weights(layers, embedding)
    model = GRU4Rec.from_published(weights)
    expected = torch.cat([program_states(weights, s) for s in SESSIONS])
    states = model.click_states(batch_of(SESSIONS))
    torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-6)
    scores = expected @ weights["Wy.weight"].t() + weights["By.weight"].view(-1)
    torch.testing.assert_close(model.items.scores(states), scores, rtol=1e-5, atol=1e-5)
    assert GRU4Rec(**model.settings).state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("layers", [[4], [5, 4], [4, 4]])
def test_gru4rec_published_one_hot_input_equals_the_programs(layers: list[int]) -> None:
    weights = program_weights(layers)
    hidden = layers[0]
    for number in range(len(layers)):  # the layer over one-hot items is not among the others
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            moved = weights.pop(f"G.{number}.{kind}")
            if number:
                weights[f"G.{number - 1}.{kind}"] = moved
    weights["GE.Wx0.weight"] = torch.randn(7, 3 * hidden)
    weights["GE.Wh0"] = 0.5 * torch.randn(hidden, 3 * hidden)
    weights["GE.Bh0"] = torch.randn(3 * hidden)
    model = GRU4Rec.from_published(weights)
    expected = torch.cat([program_states(weights, s) for s in SESSIONS])
    torch.testing.assert_close(
        model.click_states(batch_of(SESSIONS)), expected, rtol=1e-5, atol=1e-6
    )


def test_gru4rec_state_with_items_of_other_shape_raises() -> None:
    model = small_model()
    with pytest.raises(ValueError, match=r"GRU4Rec has the state of 3 here, got shape \[2\]"):
        model.update_state(model.initial_state(num_sessions=3), torch.tensor([0, 1]))


def lanes_of(num_lanes: int, **options: Any) -> SessionParallelLoader:
    return SessionParallelLoader(SessionGraphDataset(LOG, "sessions"), num_lanes, **options)


def walked(model: GRU4Rec, loader: SessionParallelLoader) -> tuple[Tensor, Tensor, Tensor]:
    """Item, vector and target of every click of an epoch, without an update of the weights."""
    generator = torch.Generator()
    parts = []
    for batch in loader:
        vectors, targets, _ = model.training_rows(batch, generator)
        parts.append((batch.click_item, vectors.detach(), targets))
    items, vectors, targets = zip(*parts, strict=True)
    return torch.cat(items), torch.cat(vectors), torch.cat(targets)


@pytest.mark.parametrize("arguments", FORMS)
@pytest.mark.parametrize(("num_lanes", "shuffle"), [(1, False), (3, False), (3, True), (50, True)])
def test_gru4rec_lanes_give_the_states_of_packed_whole_sessions(
    arguments: dict[str, Any], num_lanes: int, shuffle: bool
) -> None:
    model = small_model(**arguments).train()
    loader = lanes_of(num_lanes, shuffle=shuffle)
    whole = SessionGraphDataset(LOG, "sessions")
    graphs = whole.batch(range(len(whole)))
    states, y, _ = model.training_rows(graphs, torch.Generator())
    expected = sorted_rows(graphs.click_item, states.detach(), y)
    for _ in range(2):  # the second epoch starts from nothing, too
        rows = sorted_rows(*walked(model, loader))
        torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)


def sorted_rows(items: Tensor, vectors: Tensor, targets: Tensor) -> Tensor:
    rows = torch.cat([torch.stack([items, targets], 1).float(), vectors], dim=1)
    keys = [rows[:, column].mul(1e3).round() for column in (2, 1, 0)]
    order = torch.arange(len(rows))
    for key in keys:
        order = order[key[order].argsort(stable=True)]
    return rows[order]


def test_gru4rec_lanes_gradient_ends_at_the_click_itself() -> None:
    model = small_model(embedding="separate")
    for step, batch in enumerate(lanes_of(3)):
        model.zero_grad()
        model.training_rows(batch, torch.Generator())[0].square().sum().backward()
        touched = model.input_embedding.weight.grad.any(dim=1).nonzero().view(-1)
        assert touched.tolist() == sorted(set(batch.click_item.tolist())), step


def test_gru4rec_lanes_dropout_falls_on_the_state_carried_on() -> None:
    torch.manual_seed(0)
    model = small_model(dropout=0.5, num_layers=2, lower_channels=[9]).train()
    first, second, *_ = lanes_of(3)
    vectors, _, _ = model.training_rows(first, torch.Generator())
    carried = model.training_state()["lanes"]
    torch.testing.assert_close(carried[-1, :, :6], vectors)
    for layer, width in enumerate((9, 6, 6)):
        share = (carried[layer, :, :width] == 0).float().mean().item()
        assert 0.1 < share < 0.9
    # The next click goes on from the state as it was dropped, zeros and all.
    model.eval()
    goes_on = ~second.starts_session
    expected = model.update_state(carried[:, second.lane[goes_on]], second.click_item[goes_on])
    actual, _, _ = model.training_rows(second, torch.Generator())
    torch.testing.assert_close(actual[goes_on], expected[-1, :, :6])
    assert goes_on.sum() == 2


def test_gru4rec_lanes_restored_go_on_as_if_never_stopped() -> None:
    model, loader = small_model(), lanes_of(3, shuffle=True, seed=1)
    _, expected, _ = walked(model, loader)
    interrupted, generator = lanes_of(3, shuffle=True, seed=1), torch.Generator()
    before = []
    for _, batch in zip(range(2), interrupted, strict=False):
        before.append(model.training_rows(batch, generator)[0].detach())
    fresh, rest = small_model(), lanes_of(3, shuffle=True, seed=1)
    rest.load_state_dict(interrupted.state_dict())
    fresh.load_training_state(model.training_state())
    assert torch.equal(torch.cat([*before, walked(fresh, rest)[1]]), expected)


def test_gru4rec_lanes_without_their_states_are_refused() -> None:
    batch = list(lanes_of(3))[1]
    with pytest.raises(ValueError, match="whose state is not here: start with the first batch"):
        small_model().training_rows(batch, torch.Generator())


def test_gru4rec_lanes_states_are_no_weights() -> None:
    model = small_model()
    names = set(model.state_dict())
    walked(model, lanes_of(3))
    assert set(model.state_dict()) == names
    assert model.training_state()["lanes"].requires_grad is False


@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy",
        SampledLoss(num_negatives=4, alpha=0.5, in_batch=True),
        SampledLoss("bpr_max", 0, in_batch=True, options={"regularization": 0.1, "elu": 0.5}),
    ],
)
def test_gru4rec_trained_in_lanes_learns_a_pattern_over_two_clicks(loss: str | SampledLoss) -> None:
    # After 0 1 comes 2, after 4 1 comes 5: the last click alone cannot tell.
    lists = [[0, 1, 2, 3], [4, 1, 5, 6]] * 20
    sessions = Sessions.from_lists(lists)
    torch.manual_seed(0)
    model = GRU4Rec(sessions.num_items, 12)
    loader = SessionParallelLoader(SessionGraphDataset(sessions, "sessions"), 8, shuffle=True)
    fit(model, loader, loss=loss, max_epochs=12, learning_rate=0.03, progress=False)
    scores = model.score(batch_of([[0, 1], [4, 1], [0, 1, 2], [4, 1, 5]]))
    assert scores.argmax(dim=1).tolist() == [2, 5, 3, 6]


def test_gru4rec_trained_in_lanes_twice_with_one_seed_is_equal() -> None:
    models = [small_model(dropout=0.3) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        loader = lanes_of(4, shuffle=True, seed=seed)
        fit(model, loader, loss="sampled_softmax", max_epochs=2, seed=seed, progress=False)
    one, same, other = (torch.cat([p.flatten() for p in m.parameters()]) for m in models)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_gru4rec_trained_in_lanes_and_resumed_equals_one_that_never_stopped(tmp_path: Path) -> None:
    whole, halves, resumed = (small_model(dropout=0.3) for _ in range(3))
    options: dict[str, Any] = {"loss": "sampled_softmax", "progress": False}
    fit(whole, lanes_of(4, shuffle=True), max_epochs=4, **options)
    fit(halves, lanes_of(4, shuffle=True), max_epochs=2, out=tmp_path, **options)
    options |= {"out": tmp_path, "resume": True}
    fit(resumed, lanes_of(4, shuffle=True), max_epochs=4, **options)
    for name, weight in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name
    assert not torch.equal(whole.state_dict()["items.bias"], halves.state_dict()["items.bias"])
