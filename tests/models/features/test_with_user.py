"""A user's vector on top of any family: added where it belongs, and nowhere else."""

import logging

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.models import MODELS, SRGNN, CountingModel, GRU4Rec, SessionModel, WithUser
from graphseq.models.features.around import AroundBase

USERS = [2, -1, 0]


def batch_of(users=USERS):
    items, ptr = torch.tensor([1, 4, 1, 0, 3, 2]), torch.tensor([0, 3, 4, 6])
    fields = None if users is None else {"user": torch.tensor(users)}
    return build_session_graphs(items, ptr, session_fields=fields)


def model_of(base, num_users=4, **arguments):
    torch.manual_seed(0)
    model = WithUser(5, num_users, base, arguments={"hidden_channels": 6, **arguments}).eval()
    torch.nn.init.normal_(model.user_embedding.weight)
    return model


def user_rows(model, users=USERS):
    """p_u of each session, written out one by one."""
    p = model.user_embedding.weight.detach()
    return torch.stack([p[user] if user >= 0 else torch.zeros(p.size(1)) for user in users])


@pytest.mark.parametrize("base", ["sasrec", "gru4rec", "srgnn", "bert4rec", "caser", "hgru4rec"])
def test_with_user_scores_are_those_of_the_base_plus_the_users(base):
    model, batch = model_of(base), batch_of()
    expected = model.inner.score(batch) + user_rows(model) @ model.items.rows().T
    torch.testing.assert_close(model.score(batch), expected)


@pytest.mark.parametrize("users", [None, [-1, -1, -1]])
def test_with_user_without_a_known_user_is_the_base(users):
    model, batch = model_of("gru4rec"), batch_of(users)
    assert torch.equal(model.score(batch), model.inner.score(batch))
    assert torch.equal(model.click_states(batch), model.inner.click_states(batch))


def test_with_user_new_model_scores_as_its_base():
    model = WithUser(5, 4, "srgnn", arguments={"hidden_channels": 6})
    assert torch.equal(model.score(batch_of()), model.inner.score(batch_of()))


def test_with_user_every_click_of_a_session_gets_its_user():
    model, batch = model_of("gru4rec"), batch_of()
    expected = model.inner.click_states(batch) + user_rows(model)[[0, 0, 0, 1, 2, 2]]
    torch.testing.assert_close(model.click_states(batch), expected)


@pytest.mark.parametrize(("base", "samples"), [("gru4rec", "sessions"), ("srgnn", "prefixes")])
def test_with_user_training_vectors_belong_to_the_user_of_their_session(base, samples):
    model = model_of(base)
    sessions = Sessions.from_lists([[0, 1, 2, 1], [3, 4], [4, 0, 2]], users=["u", "v", "u"])
    graphs = SessionGraphDataset(sessions, samples)
    batch = graphs.batch(range(len(graphs)))
    vectors, targets, _ = model.training_rows(batch, torch.Generator())
    inner, same, _ = model.inner.training_rows(batch, torch.Generator())
    assert torch.equal(targets, same)
    users = [0, 0, 0, 1, 0, 0]  # of the six targets, in order, for both kinds of samples
    torch.testing.assert_close(vectors - inner, user_rows(model, users))


def test_with_user_lanes_go_on_as_those_of_the_base():
    sessions = favorites(20)
    graphs = SessionGraphDataset(sessions, "sessions")
    model = WithUser(sessions.num_items, 5, "gru4rec", arguments={"hidden_channels": 6})
    torch.nn.init.normal_(model.user_embedding.weight)
    for batch in gs.data.SessionParallelLoader(graphs, 4):
        vectors, _, _ = model.training_rows(batch, torch.Generator())
        state = model.training_state()["lanes"][-1][batch.lane]
        torch.testing.assert_close(vectors - user_rows(model, batch.user.tolist()), state)


def test_with_user_masked_clicks_belong_to_the_user_of_their_session():
    # Items tell the session of a row: 0-2 are u's, 3-4 are v's.
    sessions = Sessions.from_lists([[0, 1, 2, 1, 0], [3, 4, 3], [2, 0]], users=["u", "v", "u"])
    graphs = SessionGraphDataset(sessions, "sessions")
    model = model_of("bert4rec", max_length=3)
    batch = graphs.batch([0, 1, 2])
    vectors, targets, _ = model.training_rows(batch, torch.Generator().manual_seed(0))
    inner, same, _ = model.inner.training_rows(batch, torch.Generator().manual_seed(0))
    assert torch.equal(targets, same)
    users = (targets >= 3).long().tolist()
    assert set(users) == {0, 1}
    torch.testing.assert_close(vectors - inner, user_rows(model, users))


def test_with_user_base_that_does_not_tell_the_session_of_its_vectors_is_refused():
    class Odd(GRU4Rec):
        def training_vectors(self, batch, generator):
            vectors, targets = super().training_vectors(batch, generator)
            return vectors[:-1], targets[:-1]

    model = model_of("gru4rec")
    model.inner = Odd(5, 6)
    batch = batch_of()
    batch.y = torch.zeros(6, dtype=torch.long)
    with pytest.raises(ValueError, match="Odd trains on 5 vectors for 3 sessions of 6 clicks"):
        model.training_rows(batch, torch.Generator())


@pytest.mark.parametrize("base", ["sasrec", "gru4rec", "srgnn"])
def test_with_user_streaming_equals_the_whole_session(base):
    model = model_of(base)
    state, unknown = model.initial_state(user=2), model.initial_state()
    for item in [1, 4, 1]:
        state, unknown = model.update_state(state, item), model.update_state(unknown, item)
    scores = model.score(batch_of())[0]
    torch.testing.assert_close(model.score_state(state), scores)
    some = torch.tensor([3, 0])
    torch.testing.assert_close(model.score_state(state, some), scores[some])
    torch.testing.assert_close(model.score_state(unknown), model.score(batch_of(None))[0])


@pytest.mark.parametrize("base", ["srgnn", "sasrec"])
def test_with_user_is_trained_and_evaluated_as_its_base(base):
    model = model_of(base)
    assert model.samples == model.inner.samples
    assert model.causal == model.inner.causal
    assert not model_of("sasrec", positions="end").causal
    assert model.max_length == model.inner.max_length
    assert model_of("caser").shares_windows == MODELS["caser"].shares_windows


def test_with_user_hands_every_hook_of_a_model_on_to_its_base():
    hooks = {"attach", "forward", "click_states", "training_rows"}
    hooks |= {"training_state", "load_training_state"}
    assert all(hasattr(SessionModel, hook) for hook in hooks)
    assert hooks <= {*vars(AroundBase), *vars(WithUser)}


def test_with_user_base_that_reads_all_sessions_is_given_them():
    sessions = favorites(40)
    model = WithUser(sessions.num_items, base="gcegnn", arguments={"hidden_channels": 6})
    base = MODELS["gcegnn"](sessions.num_items, hidden_channels=6)
    model.attach(None, sessions)
    base.attach(None, sessions)
    prepared = dict(base.named_buffers())
    assert prepared
    for name, buffer in model.inner.named_buffers():
        assert torch.equal(buffer, prepared[name]), name


def favorites(num_sessions=300, seed=0):
    """Sessions of any item, then the user's favorite, which clicks alone cannot predict."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 5, num_sessions)
    lists = [[int(rng.integers(5, 12)), int(user)] for user in users]
    return Sessions.from_lists(lists, users=[f"user {user}" for user in users])


def test_with_user_learns_what_only_the_user_tells():
    sessions = favorites()
    options = {"max_epochs": 8, "batch_size": 32, "learning_rate": 0.02, "progress": False}
    torch.manual_seed(0)
    base = GRU4Rec(sessions.num_items, 8)
    model = WithUser(sessions.num_items, base="gru4rec", arguments={"hidden_channels": 8})
    for each in (base, model):
        gs.fit(each, sessions, **options)
    assert model.num_users == 5
    assert gs.evaluate(base, sessions, ks=(1,)).metrics["hr@1"] < 0.4
    assert gs.evaluate(model, sessions, ks=(1,)).metrics["hr@1"] > 0.9
    item, other = (model.recommend([[7]], k=1, users=[f"user {u}"])[0][0][0] for u in (1, 3))
    assert (item, other) == (1, 3)


def test_with_user_sized_by_its_catalog_is_saved_and_loaded(tmp_path):
    sessions = favorites(40)
    model = WithUser(sessions.num_items, base="srgnn", arguments={"hidden_channels": 6})
    model.attach(sessions.catalog())
    torch.nn.init.normal_(model.user_embedding.weight)
    model.save(tmp_path / "model")
    loaded = gs.load(tmp_path / "model")
    assert loaded.settings == model.settings
    assert loaded.settings["num_users"] == 5
    assert torch.equal(loaded.score(batch_of()), model.eval().score(batch_of()))


def test_with_user_of_a_trained_model_starts_from_its_scores_and_leaves_it_alone():
    sessions = favorites(40)
    base = SRGNN(sessions.num_items, 6).eval()
    base.attach(sessions.catalog())
    model = WithUser.from_model(base)
    before = base.score(batch_of())
    assert model.num_users == 5
    assert not any(module.training for module in model.modules())  # as the base: no dropout
    assert torch.equal(model.score(batch_of()), before)
    torch.nn.init.zeros_(model.inner.items.weight)
    assert torch.equal(base.score(batch_of()), before)


def test_with_user_another_number_of_users_is_refused():
    catalog = favorites(40).catalog()
    with pytest.raises(ValueError, match="has 4 users, the catalog 5"):
        WithUser(catalog.num_items, 4).attach(catalog)


def test_with_user_sessions_without_users_are_warned_of(caplog):
    sessions = Sessions.from_lists([[0, 1], [2, 1]])
    model = WithUser(3, arguments={"hidden_channels": 4})
    with caplog.at_level(logging.WARNING):
        model.attach(sessions.catalog())
    assert "name no users" in caplog.text
    batch = build_session_graphs(torch.tensor([0, 2]), torch.tensor([0, 2]))
    assert torch.equal(model.eval().score(batch), model.inner.score(batch))


@pytest.mark.parametrize("base", ["markov", "popularity", "with_user", "nothing"])
def test_with_user_base_that_takes_no_user_is_refused(base):
    with pytest.raises(ValueError, match=f"base is one of .*srgnn, .*gru4rec, .*got '{base}'"):
        WithUser(5, 2, base)


def test_with_user_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="num_users must be at least 1, got 0"):
        WithUser(5, 0)
    with pytest.raises(ValueError, match="heads must divide"):
        WithUser(5, 2, arguments={"heads": 3})

    class Own(CountingModel):
        pass

    with pytest.raises(ValueError, match="Own is not a family of MODELS"):
        WithUser.from_model(Own(5))
