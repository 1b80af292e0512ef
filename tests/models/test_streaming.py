"""Click by click, in every family: equal to a full computation, with codes or with ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models import MODELS, CountingModel, SessionModel
from graphseq.models.live_clicks import LiveClicks

NUM_ITEMS = 9
LETTERS = list("abcdefghi")
LOG = [[0, 3, 5, 3], [5, 3], [7, 0], [1, 1, 1, 2], [8, 0, 3], [4, 8, 6, 0], [2, 2, 5]]
SESSION = [3, 5, 3, 0, 7, 7, 1, 2]


def built(name: str, *, ids: bool = False) -> SessionModel:
    """A model of each family, which knows its items as codes, or as letters."""
    torch.manual_seed(0)
    vocabulary = gs.data.Vocabulary(LETTERS if ids else range(NUM_ITEMS))
    rows = [[LETTERS[item] for item in row] for row in LOG] if ids else LOG
    log = gs.Sessions.from_lists(rows, vocabulary=vocabulary)
    family = MODELS[name]
    sizes: dict[str, Any] = {} if issubclass(family, CountingModel) else {"hidden_channels": 8}
    sizes |= {"heads": 2} if name in ("sasrec", "bert4rec") else {}
    if name.startswith("with_"):
        sizes = {"arguments": {"hidden_channels": 8}}
    if name == "with_user":
        sizes |= {"num_users": 3}
    if name in ("sasrec", "gcegnn"):
        sizes |= {"max_length": 4}
    model: SessionModel = family(NUM_ITEMS, **sizes)
    if isinstance(model, CountingModel):
        return model.fit_counts(log)
    model.attach(log.catalog(), log)
    return model.eval()


def fresh(model: SessionModel, *sessions: list[int], user: int = -1) -> Tensor:
    ptr = torch.tensor([0, *np.cumsum([len(session) for session in sessions])])
    items = torch.tensor([item for session in sessions for item in session])
    users = {"user": torch.full((len(sessions),), user)}
    return model.score(build_session_graphs(items, ptr, session_fields=users))


def same(one: Any, other: Any) -> bool:
    return one == other if isinstance(one, LiveClicks) else torch.equal(one, other)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_every_click_gives_the_scores_of_the_whole_session(name: str) -> None:
    model, state = built(name), None
    state = model.initial_state()
    candidates = torch.tensor([6, 0, 6])
    for n, item in enumerate(SESSION, start=1):
        before, state = state, model.update_state(state, item)
        assert not same(before, state)  # nothing is changed in place
        scores = model.score_state(state)
        assert scores.shape == (NUM_ITEMS,)
        expected = fresh(model, SESSION[:n])[0]
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
        some = model.score_state(state, candidates)
        torch.testing.assert_close(some, expected[candidates], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", ["lru", "linear_attention"])
@torch.no_grad()
def test_state_of_half_precision_gives_about_the_scores_of_the_whole_session(layer: str) -> None:
    torch.manual_seed(0)
    model = gs.models.LRURec(NUM_ITEMS, 8, layer=layer).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    long = 50 * SESSION  # a state of 16 bits would round each small change away
    whole, model = fresh(model, long)[0], model.bfloat16()
    state = model.initial_state()
    for item in long:
        state = model.update_state(state, item)
    half = model.score_state(state).float()
    assert (half - whole).abs().max() < 0.03 * whole.abs().max()


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_sessions_side_by_side_have_the_scores_of_each_alone(name: str) -> None:
    model = built(name)
    state = model.initial_state(3)
    clicks = [[3, 7, 1], [5, -1, 2], [3, 0, -1]]
    for step in clicks:
        state = model.update_state(state, step)
    scores = model.score_state(state)
    expected = fresh(model, [3, 5, 3], [7, 0], [1, 2])
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
    each = torch.tensor([[0, 4], [5, 6], [8, 8]])
    some = model.score_state(state, each)
    torch.testing.assert_close(some, expected.gather(1, each), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_ids_are_taken_as_codes_are(name: str) -> None:
    model = built(name, ids=True)
    by_code, by_id = model.initial_state(), model.initial_state()
    for code in SESSION[:3]:
        by_code = model.update_state(by_code, code)
        by_id = model.update_state(by_id, LETTERS[code])
    assert same(by_code, by_id)
    unknown = model.update_state(by_id, "unheard of")
    assert same(unknown, by_id)
    several = model.update_state(model.initial_state(2), ["a", "unheard of"])
    assert same(several, model.update_state(model.initial_state(2), [0, -1]))


def test_whole_numbers_are_codes_unless_ids_are_asked_for() -> None:
    log = gs.Sessions.from_lists([[100, 200], [200, 300]])
    model = gs.models.MarkovChain(3).fit_counts(log)
    start = model.initial_state()
    assert model.update_state(start, 2) == model.update_state(start, 300, ids=True)
    assert model.update_state(start, 999, ids=True) == start
    with pytest.raises(ValueError, match=r"go with ids=True\), got 300"):
        model.update_state(start, 300)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_an_unknown_click_leaves_the_state(name: str) -> None:
    model = built(name)
    state = model.update_state(model.initial_state(), 4)
    skipped = model.update_state(state, -1)
    assert same(skipped, state)
    later = [model.update_state(each, np.int64(2)) for each in (state, skipped)]
    assert same(*later)
    first = model.update_state(model.update_state(model.initial_state(), -1), torch.tensor(4))
    assert same(first, state)
    assert torch.equal(model.score_state(first), model.score_state(state))


@pytest.mark.parametrize("name", ["gru4rec", "hgru4rec", "sasrec", "srgnn", "markov", "with_user"])
@pytest.mark.parametrize(
    ("item", "message"),
    [
        (NUM_ITEMS, r"item must be the code of an item in 0\.\.8, or -1 .*, got 9\."),
        (-2, r"item must be the code of an item in 0\.\.8, or -1 .*, got -2\."),
        (1.0, r"a whole number in 0\.\.8, or -1 for an unknown one, got 1\.0: model.catalog"),
        (True, r"a whole number in 0\.\.8, .* got True"),
        (None, r"a whole number in 0\.\.8, .* got None"),
        (torch.tensor(1.0), r"a whole number in 0\.\.8, .* got tensor\(1\.\)"),
        ([1, 2], r"got shape \[2\]"),
    ],
)
def test_what_is_no_click_is_refused(name: str, item: Any, message: str) -> None:
    model = built(name)
    with pytest.raises(ValueError, match=message):
        model.update_state(model.initial_state(), item)


def test_text_without_a_catalog_is_refused() -> None:
    model = MODELS["gru4rec"](NUM_ITEMS, 8)
    with pytest.raises(ValueError, match=r"a whole number in 0\.\.8, .* got 'shoe'"):
        model.update_state(model.initial_state(), "shoe")


# -- users, fields, nothing clicked yet ----------------------------------------------------------


@torch.no_grad()
def test_users_are_codes_or_ids_one_per_session() -> None:
    log = gs.Sessions.from_lists(LOG, users=["u", "v", "w", "u", "v", "w", "u"])
    model = gs.models.Caser(log.num_items, 8, num_users=3)
    model.attach(log.catalog())
    model.eval()
    states = [model.initial_state(user=user) for user in ("v", 1)]
    assert states[0] == states[1]
    state = model.update_state(model.initial_state(2, user=["w", "nobody"]), [3, 3])
    expected = torch.cat([fresh(model, [3], user=2), fresh(model, [3])])
    torch.testing.assert_close(model.score_state(state), expected)
    with pytest.raises(ValueError, match=r"user must be the code of a user in 0\.\.2, .* got 3"):
        model.initial_state(user=3)
    with pytest.raises(ValueError, match=r"user must be one per session.* got shape \[3\]"):
        model.initial_state(2, user=[0, 1, 2])
    with pytest.raises(ValueError, match="user must be the code of a user, a whole number"):
        model.initial_state(user=1.0)


@torch.no_grad()
def test_times_of_clicks_go_along() -> None:
    model = gs.models.SRGNN(NUM_ITEMS, 8, edge_weight="decayed", half_life=2.0).eval()
    state = model.initial_state()
    for item, time in [(3, 0.0), (5, 1.0), (3, 9.0), (5, 9.5)]:
        state = model.update_state(state, item, time=time)
    items, ptr = torch.tensor([3, 5, 3, 5]), torch.tensor([0, 4])
    times = torch.tensor([0.0, 1.0, 9.0, 9.5])
    batch = build_session_graphs(items, ptr, click_fields={"click_time": times})
    torch.testing.assert_close(model.score_state(state), model.score(batch)[0])
    with pytest.raises(ValueError, match="clicks before have these fields: click_time; this one"):
        model.update_state(state, 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("srgnn", {"edge_weight": "decayed", "half_life": 30.0}),
        ("bst", {"positions": "time"}),
        ("hstu", {}),
    ],
)
@torch.no_grad()
def test_unix_times_given_as_floats_are_not_rounded(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = MODELS[name](NUM_ITEMS, 8, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    clicks = [3, 5, 3, 1]  # of two transitions from 3, one is older
    times = [1_700_000_000.0 + second for second in (0, 1, 40, 41)]
    state = model.initial_state()
    for item, time in zip(clicks, times, strict=True):
        state = model.update_state(state, item, time=time)
    fields = {"click_time": torch.tensor(times, dtype=torch.float64)}
    batch = build_session_graphs(torch.tensor(clicks), torch.tensor([0, 4]), click_fields=fields)
    torch.testing.assert_close(model.score_state(state), model.score(batch)[0])


@pytest.mark.parametrize(
    "times", [(0.9, 5), (5, 0.9), (1, np.float32(0.5)), (2, torch.tensor(0.25))]
)
def test_times_of_several_types_keep_their_values(times: tuple[Any, ...]) -> None:
    model = built("sasrec")
    state = model.initial_state()
    for time in times:
        state = model.update_state(state, 3, time=time)
    assert state.fields["click_time"].tolist() == [float(time) for time in times]


@torch.no_grad()
def test_sessions_without_a_click_get_what_is_popular() -> None:
    model = built("srgnn")
    state = model.update_state(model.initial_state(2), [-1, 3])
    scores = model.score_state(state)
    counts = torch.bincount(torch.tensor(sum(LOG, [])), minlength=NUM_ITEMS)
    torch.testing.assert_close(scores[0], counts / counts.sum())
    torch.testing.assert_close(scores[1], fresh(model, [3])[0])
    model.catalog = None
    for empty in (state, model.initial_state()):
        with pytest.raises(ValueError, match="SRGNN has no state before the first click"):
            model.score_state(empty)


def test_a_number_of_sessions_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="num_sessions must be at least 1, got 0"):
        built("sasrec").initial_state(0)


def test_a_model_that_keeps_no_state_owes_no_step() -> None:
    with pytest.raises(NotImplementedError, match="SASRec keeps no state from click to click"):
        built("sasrec").step(None, torch.tensor([1]))
