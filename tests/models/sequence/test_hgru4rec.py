"""HGRU4Rec against the paper's equations click by click, as a stream, and on joined sessions."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import graphseq as gs
from graphseq.data.graphs.dataset import NO_TARGET, SessionGraphDataset
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models import GRU4Rec, HGRU4Rec

NUM_ITEMS = 7
USERS = [
    [[0, 1, 2], [3], [1, 1, 4]],
    [[5]],
    [[6, 0], [2, 3, 4, 5]],
    [[1], [2], [3], [4, 4]],
]
KINDS = [
    {},
    {"variant": "all"},
    {"user_channels": 3, "embedding": "separate"},
    {"user_channels": 3, "variant": "all", "embedding": "separate"},
]


def model_of(**arguments):
    torch.manual_seed(0)
    model = HGRU4Rec(NUM_ITEMS, 5, **arguments).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def batch_of(users, marked=True):
    items = [item for sessions in users for session in sessions for item in session]
    number = [n for sessions in users for n, session in enumerate(sessions) for _ in session]
    lengths = [sum(map(len, sessions)) for sessions in users]
    ptr = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.long)
    fields = {"click_session": torch.tensor(number, dtype=torch.long)} if marked else None
    return build_session_graphs(torch.tensor(items, dtype=torch.long), ptr, click_fields=fields)


def gru(x, h, w_ih, w_hh, b_ih, b_hh):
    """One step of a GRU, gate by gate."""
    i_r, i_z, i_n = (w_ih @ x + b_ih).chunk(3)
    h_r, h_z, h_n = (w_hh @ h + b_hh).chunk(3)
    r, z = (i_r + h_r).sigmoid(), (i_z + h_z).sigmoid()
    n = (i_n + r * h_n).tanh()
    return (1 - z) * n + z * h


def naive_states(model, sessions):
    """The paper's equations for one user, a click at a time: [num_clicks, d]."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    session_cell = [getattr(model.session_gru, f"{kind}_l0") for kind in kinds]
    user_cell = [getattr(model.user_gru, kind) for kind in kinds]
    table = model.items if model.input_embedding is None else model.input_embedding
    c = torch.zeros(model.user_gru.hidden_size)
    s = torch.zeros(model.hidden_channels)
    out = []
    for m, session in enumerate(sessions):
        if m:
            c = gru(s, c, *user_cell)
            s = (model.lin_init.weight @ c + model.lin_init.bias).tanh()
        for item in session:
            x = table.weight[item]
            x = torch.cat([x, c]) if model.variant == "all" else x
            s = gru(x, s, *session_cell)
            out.append(s)
    return torch.stack(out)


@pytest.mark.parametrize("kind", KINDS)
def test_hgru4rec_states_of_a_batch_equal_the_equations_click_by_click(kind):
    model = model_of(**kind)
    expected = torch.cat([naive_states(model, sessions) for sessions in USERS])
    torch.testing.assert_close(model.click_states(batch_of(USERS)), expected)
    last = torch.stack([naive_states(model, sessions)[-1] for sessions in USERS])
    scores = last @ model.items.weight.T + model.items.bias
    torch.testing.assert_close(model.score(batch_of(USERS)), scores)


@given(
    st.lists(
        st.lists(
            st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=3), min_size=1, max_size=4
        ),
        min_size=1,
        max_size=4,
    )
)
def test_hgru4rec_any_histories_equal_the_equations(users):
    model = model_of(variant="all")
    expected = torch.cat([naive_states(model, sessions) for sessions in users])
    torch.testing.assert_close(model.click_states(batch_of(users)), expected)


def test_hgru4rec_many_sessions_and_many_clicks_equal_the_equations():
    rng = np.random.default_rng(0)
    users = [
        [rng.integers(0, NUM_ITEMS, 5).tolist() for _ in range(100)],
        [rng.integers(0, NUM_ITEMS, 2_000).tolist()],
    ]
    model = model_of()
    expected = torch.cat([naive_states(model, sessions) for sessions in users])
    torch.testing.assert_close(model.click_states(batch_of(users)), expected, rtol=1e-4, atol=1e-5)


def test_hgru4rec_first_sessions_are_those_of_gru4rec():
    model = model_of()
    plain = GRU4Rec(NUM_ITEMS, 5)
    weights = {k.replace("session_gru", "gru"): v for k, v in model.state_dict().items()}
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    batch = batch_of(USERS, marked=False)
    torch.testing.assert_close(model.score(batch), plain.score(batch))
    assert not torch.allclose(model.score(batch_of(USERS)), plain.score(batch))


def test_hgru4rec_empty_batch_has_no_states():
    assert model_of().click_states(batch_of([])).shape == (0, 5)
    assert model_of().score(batch_of([])).shape == (0, NUM_ITEMS)


@pytest.mark.parametrize("kind", KINDS)
def test_hgru4rec_streaming_equals_the_whole_history(kind):
    model = model_of(**kind)
    for sessions in USERS:
        state, streamed = model.initial_state(), []
        for session in sessions:
            state = model.start_session(state)
            for item in session:
                state = model.update_state(state, item)
                streamed.append(model.score_state(state))
        states = model.click_states(batch_of([sessions]))
        torch.testing.assert_close(torch.stack(streamed), model.items.scores(states))
    some = torch.tensor([3, 0])
    torch.testing.assert_close(model.score_state(state, some), streamed[-1][some])


def test_hgru4rec_streams_of_several_users_go_side_by_side():
    model = model_of(variant="all")
    state = model.initial_state(2)
    state = model.update_state(state, torch.tensor([1, 2]))
    state = model.update_state(model.start_session(state), torch.tensor([3, 3]))
    alone = batch_of([[[1], [3]], [[2], [3]]])
    torch.testing.assert_close(model.score_state(state), model.score(alone))
    each = torch.tensor([[0, 4], [5, 6]])
    torch.testing.assert_close(model.score_state(state, each), model.score(alone).gather(1, each))
    with pytest.raises(ValueError, match=r"has the state of 2 here, got shape \[3\]"):
        model.update_state(state, torch.tensor([1, 2, 3]))


def test_hgru4rec_session_without_clicks_is_none():
    model = model_of()
    zero = model.initial_state()
    assert torch.equal(model.start_session(zero), zero)
    once = model.start_session(model.update_state(zero, 3))
    assert torch.equal(model.start_session(once), once)
    assert not torch.equal(model.score_state(once), model.score_state(zero))


def test_hgru4rec_trains_within_sessions_alone():
    sessions = Sessions.from_lists([[0, 1, 2], [3, 4], [5, 6], [1, 1]], users=["u", "u", "v", "u"])
    graphs = SessionGraphDataset(gs.data.join_sessions(sessions), "sessions")
    batch = graphs.batch([0, 1])
    model = model_of()
    vectors, targets, _ = model.training_rows(batch, torch.Generator())
    none = NO_TARGET
    assert batch.y.tolist() == [1, 2, 3, 4, 1, 1, 6]
    assert targets.tolist() == [1, 2, none, 4, none, 1, 6]
    assert torch.equal(vectors, model.click_states(batch))


def test_hgru4rec_trained_without_histories_warns_once(caplog):
    model, batch = model_of(), batch_of(USERS, marked=False)
    batch.y = torch.zeros(batch.click_index.numel(), dtype=torch.long)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            model.training_rows(batch, torch.Generator())
    assert caplog.text.count("train it on gs.data.join_sessions") == 1


def test_hgru4rec_unknown_first_click_leaves_sessions_apart():
    sessions = Sessions.from_lists(
        [[0, 1], ["new", 2, 3]], users=["u", "u"], vocabulary=Vocabulary(list(range(NUM_ITEMS)))
    )
    joined = gs.data.with_history(sessions.select([1]), sessions.select([0]))
    model = model_of()
    batch = SessionGraphDataset(joined).batch([1])  # 0 1 | 2, of which the third target is asked
    expected = naive_states(model, [[0, 1], [2]])
    torch.testing.assert_close(model.click_states(batch), expected)


def remembered(num_users=120, seed=0):
    """Two sessions per user: only the first one determines the last item of the second."""
    rng = np.random.default_rng(seed)
    lists, users = [], []
    for user in range(num_users):
        favorite = int(rng.integers(0, 5))
        lists += [[int(rng.integers(5, 9)), favorite], [int(rng.integers(9, 14)), favorite]]
        users += [user, user]
    return Sessions.from_lists(lists, users=users)


def test_hgru4rec_learns_what_only_an_earlier_session_tells():
    sessions = remembered()
    options = {"max_epochs": 15, "batch_size": 30, "learning_rate": 0.05, "progress": False}
    torch.manual_seed(0)
    models = HGRU4Rec(sessions.num_items, 12), GRU4Rec(sessions.num_items, 12)
    gs.fit(models[0], gs.data.join_sessions(sessions), **options)
    gs.fit(models[1], sessions, **options)
    second = np.arange(1, sessions.num_sessions, 2)
    histories = gs.data.with_history(sessions, None).select(second)
    assert gs.evaluate(models[0], histories, ks=(1,)).metrics["hr@1"] > 0.9
    assert gs.evaluate(models[1], sessions.select(second), ks=(1,)).metrics["hr@1"] < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"user_channels": 0}, "user_channels must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"user_dropout": -0.1}, r"user_dropout must lie in \[0, 1\), got -0.1"),
        ({"variant": "some"}, "variant is 'init' or 'all', got 'some'"),
        ({"embedding": "shared"}, "embedding is 'tied' or 'separate', got 'shared'"),
    ],
)
def test_hgru4rec_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HGRU4Rec(NUM_ITEMS, **arguments)
