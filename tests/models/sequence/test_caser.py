"""Caser against the authors' code and a loop over windows, filters and places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.generate import generate_sessions
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation import evaluate
from graphseq.models.published.caser import NAMES
from graphseq.models.sequence import caser
from graphseq.models.sequence.caser import Caser
from graphseq.training import fit
from graphseq.training.objectives.loss_choice import SampledLoss

FIXTURE = Path(__file__).parents[2] / "fixtures" / "caser_published_a.npz"
SESSIONS = [[0, 1, 2, 1, 3], [4], [5, 5, 5], [6, 5, 4, 3, 2, 1, 0, 2, 4, 6, 1], [3, 0]]
USERS = [2, 0, -1, 1, 2]
KINDS = {
    "default": {},
    "textbook": {"heights": [2, 3, 4]},
    "tallest-alone": {"heights": [4]},
    "horizontal": {"num_vertical": 0},
    "vertical": {"num_horizontal": 0},
    "one-click": {"max_length": 1},
    "long": {"max_length": 7, "heights": [1, 4]},
    "users": {"num_users": 3},
}
ALL_KINDS = KINDS | {"tied": {"embedding": "tied"}}


@pytest.fixture
def published() -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURE))


def published_model(published: dict[str, np.ndarray]) -> Caser:
    parameters = {k.removeprefix("param."): v for k, v in published.items() if "param." in k}
    return Caser.from_published(parameters).eval()


def batch_of(sessions: list[list[int]], users: list[int] | None = None) -> Batch:
    ptr = torch.tensor([0, *np.cumsum([len(s) for s in sessions])], dtype=torch.long)
    items = torch.tensor(sum(sessions, []), dtype=torch.long)
    fields = None if users is None else {"user": torch.tensor(users)}
    return build_session_graphs(items, ptr, session_fields=fields)


def small_model(**arguments: object) -> Caser:
    """A model in evaluation whose weights are large enough for every click to matter."""
    torch.manual_seed(0)
    model = Caser(7, 6, **{"max_length": 4, "num_horizontal": 3, "num_vertical": 2, **arguments})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def naive_scores(model: Caser, session: list[int], user: int = -1) -> Tensor:
    """The paper's equations for one session: click by click, filter by filter, place by place."""
    table = (model.input_embedding or model.items).weight
    length, d = model.max_length, model.hidden_channels
    image = torch.zeros(length, d)
    newest = session[-length:]
    for row, item in enumerate(newest, start=length - len(newest)):
        image[row] = table[item]
    features = []
    if model.vertical is not None:
        for weight, bias in zip(model.vertical.weight, model.vertical.bias, strict=True):
            for channel in range(d):
                features.append(sum(weight[i] * image[i, channel] for i in range(length)) + bias)
    if model.horizontal is not None:
        bias = iter(model.horizontal.bias)
        for filters in model.horizontal.weights:
            height = filters.size(1)
            for one in filters:
                b = next(bias)
                values = [
                    ((one * image[top : top + height]).sum() + b).relu()
                    for top in range(length - height + 1)
                    if top + height > length - len(newest)  # ends at a click
                ]
                features.append(torch.stack(values).max())
    z = (model.lin.weight @ torch.stack(features) + model.lin.bias).relu()
    if model.user_embedding is not None:
        p = torch.zeros(d) if user < 0 else model.user_embedding.weight[user]
        z = torch.cat([z, p])
    return model.items.weight @ z + model.items.bias


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_caser_published_weights_give_published_scores(published: dict[str, np.ndarray]) -> None:
    model = published_model(published)
    batch = batch_of(published["sequence"].tolist(), published["user"].tolist())
    expected = torch.from_numpy(published["scores"])
    torch.testing.assert_close(model.score(batch), expected, rtol=1e-5, atol=1e-5)
    states = model.click_states(batch)[batch.click_ptr[1:] - 1]
    torch.testing.assert_close(model.items.scores(states), expected, rtol=1e-5, atol=1e-5)


def test_caser_published_weights_give_the_programs_settings(
    published: dict[str, np.ndarray],
) -> None:
    assert published_model(published).settings == {
        "num_items": 20,
        "hidden_channels": 8,
        "max_length": 5,
        "num_horizontal": 3,
        "num_vertical": 2,
        "heights": None,
        "dropout": 0.5,
        "num_users": 6,
        "num_targets": 1,
        "embedding": "separate",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_caser_weights_under_the_programs_names_give_the_same_model(kind: str) -> None:
    model = small_model(**KINDS[kind])
    theirs = {ours: name for name, ours in NAMES.items()}
    theirs |= {"user_embedding.weight": "user_embeddings.weight"}
    theirs |= {"vertical.weight": "conv_v.weight", "vertical.bias": "conv_v.bias"}
    parameters = {}
    for ours, value in model.state_dict().items():
        if ours == "vertical.weight":
            value = value.view(len(value), 1, -1, 1)
        if ours.startswith("horizontal.weights"):
            parameters[f"conv_h.{ours[-1]}.weight"] = value.unsqueeze(1).numpy()
        elif ours == "horizontal.bias":
            for i, bias in enumerate(value.split(3)):
                parameters[f"conv_h.{i}.bias"] = bias.numpy()
        else:
            parameters[theirs[ours]] = value.numpy()
    parameters["b2.weight"] = parameters["b2.weight"].reshape(-1, 1)
    again = Caser.from_published(parameters).eval()
    close(again.score(batch_of(SESSIONS, USERS)), model.score(batch_of(SESSIONS, USERS)))
    assert again.settings | {"dropout": 0, "heights": 0} == model.settings | {
        "dropout": 0,
        "heights": 0,
        # Without such filters the authors' weights do not tell any more.
        "max_length": again.max_length,
    }


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_caser_scores_equal_a_loop_over_places_in_sessions_of_any_length(kind: str) -> None:
    model = small_model(**ALL_KINDS[kind])
    scores = model.score(batch_of(SESSIONS, USERS))
    for session, user, row in zip(SESSIONS, USERS, scores, strict=True):
        close(row, naive_scores(model, session, user))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sessions", [[[4], [2]], [[3, 0], [1]], [[1, 6, 1]]])
def test_caser_scores_of_short_sessions_alone_equal_a_loop_over_whole_windows(
    kind: str, sessions: list[list[int]]
) -> None:
    model = small_model(**KINDS[kind])
    for session, row in zip(sessions, model.score(batch_of(sessions)), strict=True):
        close(row, naive_scores(model, session))


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=12), min_size=1, max_size=5),
    st.sampled_from(sorted(KINDS)),
)
@settings(max_examples=25)
def test_caser_states_of_any_sessions_equal_vectors_of_prefixes(
    sessions: list[list[int]], kind: str
) -> None:
    model = small_model(**KINDS[kind])
    prefixes = [s[:stop] for s in sessions for stop in range(1, len(s) + 1)]
    users = [1 for _ in sessions]
    states = model.click_states(batch_of(sessions, users))
    close(states, model(batch_of(prefixes, [1 for _ in prefixes])))


def test_caser_states_in_small_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = small_model(), batch_of(SESSIONS)
    at_once = model.click_states(batch)
    for clicks in (1, 2, 3, 5, 22, 23):
        monkeypatch.setattr(caser, "CLICKS_AT_ONCE", clicks)
        torch.testing.assert_close(model.click_states(batch), at_once, rtol=1e-5, atol=1e-6)


def test_caser_of_2000_clicks_sees_the_newest_alone() -> None:
    model = small_model()
    session = torch.randint(7, (2000,), generator=torch.Generator().manual_seed(1)).tolist()
    states = model.click_states(batch_of([session]))
    assert states.shape == (2000, 6)
    close(states[-1:], model(batch_of([session])))
    close(states[-1:], model(batch_of([session[-4:]])))
    close(model.items.scores(states[1234:1235])[0], naive_scores(model, session[:1235]))


def test_caser_horizontal_filter_with_a_large_bias_does_not_fire_on_padding() -> None:
    # A filter whose response falls with every click: of padding alone only its bias would be left.
    model = Caser(7, 1, max_length=4, heights=[1], num_horizontal=1, num_vertical=0)
    with torch.no_grad():
        model.input_embedding.weight.fill_(1.0)
        model.horizontal.weights[0].fill_(-1.0)
        model.horizontal.bias.fill_(3.0)
    assert after_clicks(model, 1).item() == after_clicks(model, 4).item() == 2.0


def after_clicks(model: Caser, clicks: int) -> Tensor:
    view = caser.WindowView(torch.arange(clicks), model.max_length)
    blocks = view.blocks(model.input_embedding(torch.zeros(clicks, dtype=torch.long)))
    return model.horizontal(blocks, view)[view.window[-1]]


def test_caser_later_click_changed_leaves_earlier_states() -> None:
    model = small_model()
    before = model.click_states(batch_of([[0, 1, 2, 3, 4, 0, 1]]))
    after = model.click_states(batch_of([[0, 1, 6, 3, 4, 0, 1]]))
    torch.testing.assert_close(before[:2], after[:2])
    assert ((before[2:6] - after[2:6]).abs().amax(dim=1) > 1e-3).all()
    torch.testing.assert_close(before[6:], after[6:])  # the window has moved on


def test_caser_order_of_clicks_matters_to_the_session_vector() -> None:
    one, other = small_model()(batch_of([[0, 1, 2, 3], [1, 0, 2, 3]]))
    assert not torch.allclose(one, other, atol=1e-3)


def test_caser_unknown_user_and_batch_without_users_have_the_zero_vector() -> None:
    model = small_model(num_users=3)
    known, unknown = model(batch_of([[0, 1], [0, 1]], [2, -1]))
    without = model(batch_of([[0, 1]]))[0]
    assert torch.equal(known[6:], model.user_embedding.weight[2])
    assert not unknown[6:].any()
    close(unknown, without)
    close(known[:6], unknown[:6])


def test_caser_users_of_states_are_those_of_their_sessions() -> None:
    model = small_model(num_users=3)
    states = model.click_states(batch_of(SESSIONS, USERS))
    table = torch.cat([model.user_embedding.weight, torch.zeros(1, 6)])
    session = [number for number, clicks in enumerate(SESSIONS) for _ in clicks]
    assert torch.equal(states[:, 6:], table[[USERS[number] for number in session]])


def test_caser_loss_on_an_unknown_user_moves_no_user() -> None:
    model = small_model(num_users=3)
    model(batch_of([[0, 1], [2]], [-1, 1])).square().sum().backward()
    touched = model.user_embedding.weight.grad.abs().sum(dim=1) > 0
    assert touched.tolist() == [False, True, False]


def test_caser_catalog_of_more_users_raises_naming_both() -> None:
    sessions = Sessions.from_lists([[0, 1], [1, 2], [2, 0]], users=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"has 2 users, the catalog 3: build the .* num_users=3"):
        Caser(3, num_users=2).attach(sessions.catalog())
    model = Caser(3, num_users=3)
    model.attach(sessions.catalog())
    assert model.catalog is not None


def training_batch(sessions: list[list[int]]) -> Batch:
    vocabulary = Vocabulary(range(7))
    dataset = SessionGraphDataset(Sessions.from_lists(sessions, vocabulary=vocabulary), "sessions")
    return dataset.batch(range(len(dataset)))


def test_caser_several_targets_are_the_next_clicks_of_the_same_session() -> None:
    model, batch = small_model(num_targets=3), training_batch([[0, 1, 2, 3, 4], [5, 6]])
    vectors, items, _ = model.training_rows(batch, torch.Generator())
    states = model.click_states(batch)
    expected = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4), (4, 6)]
    assert items.tolist() == [item for _, item in expected]
    assert torch.equal(vectors, states[[click for click, _ in expected]])


def test_caser_one_target_is_the_next_click() -> None:
    model, batch = small_model(), training_batch([[0, 1, 2, 3, 4], [5, 6]])
    vectors, items, _ = model.training_rows(batch, torch.Generator())
    assert items.tolist() == [1, 2, 3, 4, 6]
    assert torch.equal(vectors, model.click_states(batch))


def test_caser_rows_with_several_targets_tell_their_session() -> None:
    model, batch = small_model(num_targets=3), training_batch([[0, 1, 2, 3, 4], [5, 6]])
    vectors, targets, session = model.training_rows(batch, torch.Generator())
    same, those, _ = model.training_rows(batch, torch.Generator())
    assert torch.equal(vectors, same)
    assert torch.equal(targets, those)
    assert session.tolist() == [0 if item < 5 else 1 for item in targets.tolist()]


def test_caser_several_targets_of_a_batch_of_prefixes_raise() -> None:
    model, batch = small_model(num_targets=2), batch_of(SESSIONS)
    batch.y = torch.tensor([1, 2, 3, 4, 5])
    with pytest.raises(
        ValueError, match=r"num_targets=2 needs a target for every click, .* 5 for 22"
    ):
        model.training_rows(batch, torch.Generator())


def test_caser_trained_on_prefixes_compares_session_vectors() -> None:
    model, batch = small_model(), batch_of(SESSIONS)
    batch.y = torch.tensor([1, 2, 3, 4, 5])
    vectors, items, _ = model.training_rows(batch, torch.Generator())
    assert torch.equal(vectors, model(batch))
    assert items is batch.y


@pytest.mark.parametrize("users", [None, -1, 2])
def test_caser_streamed_click_by_click_equals_whole_session_beyond_max_length(
    users: int | None,
) -> None:
    session = SESSIONS[3]
    model = small_model(num_users=None if users is None else 3)
    user = -1 if users is None else users
    scores = model.items.scores(model.click_states(batch_of([session], [user])))
    candidates = torch.tensor([6, 0])
    state = model.initial_state(user=user)
    for item, expected in zip(session, scores, strict=True):
        state = model.update_state(state, item)
        close(model.score_state(state), expected)
        close(model.score_state(state, candidates), expected[candidates])
    assert (state.items.tolist(), state.user.tolist()) == (session[-4:], [user])


def test_caser_stream_of_an_unnamed_user_is_that_of_an_unknown_one() -> None:
    model = small_model(num_users=3)
    assert model.initial_state() == model.initial_state(user=-1)


def test_caser_stream_without_a_click_raises() -> None:
    model = small_model()
    with pytest.raises(ValueError, match="no state before the first click"):
        model.score_state(model.initial_state())


def test_caser_empty_batch_gives_no_states() -> None:
    batch = build_session_graphs(torch.empty(0, dtype=torch.long), torch.tensor([0]))
    assert small_model().click_states(batch).shape == (0, 6)
    assert small_model()(batch).shape == (0, 6)
    assert small_model(num_users=2)(batch).shape == (0, 12)


def test_caser_dropout_acts_in_training_alone() -> None:
    model, batch = small_model(dropout=0.5), batch_of(SESSIONS)
    assert torch.equal(model.click_states(batch), small_model(dropout=0.0).click_states(batch))
    model.train()
    assert not torch.equal(model.click_states(batch), model.click_states(batch))


def test_caser_start_is_the_programs() -> None:
    torch.manual_seed(0)
    model = Caser(500, 32, num_users=500, num_horizontal=64, num_vertical=64)
    assert model.input_embedding.weight.std().item() == pytest.approx(1 / 32, rel=0.05)
    assert model.user_embedding.weight.std().item() == pytest.approx(1 / 32, rel=0.05)
    assert model.items.weight.std().item() == pytest.approx(1 / 64, rel=0.05)
    assert not model.items.bias.any()
    for height, weight in enumerate(model.horizontal.weights, start=1):
        assert weight.abs().max().item() == pytest.approx((32 * height) ** -0.5, rel=0.05)
    assert model.vertical.weight.abs().max().item() == pytest.approx(5**-0.5, rel=0.05)


def test_caser_start_of_a_constrained_table_is_wider_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    model = Caser(500, 32, embedding="tied")
    assert model.items.rows() is model.items.weight
    assert model.items.rows().std().item() == pytest.approx(32**-0.5, rel=0.05)
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    assert len(biases) == 4
    assert not any(bias.any() for bias in biases)


@pytest.fixture(scope="module")
def walks() -> tuple[Sessions, Sessions]:
    """Sessions whose next click is known from the last two and unknown from the last one."""
    sessions = generate_sessions(600, 60, pattern=1.0, loops=0.0, num_categories=5, seed=3)
    return sessions.select(range(500)), sessions.select(range(500, 600))


@pytest.mark.parametrize("loss", ["cross_entropy", SampledLoss("sampled_softmax", 64)])
def test_caser_learns_a_pattern_of_two_clicks(
    walks: tuple[Sessions, Sessions], loss: str | SampledLoss
) -> None:
    train, test = walks
    torch.manual_seed(0)
    model = Caser(train.num_items, 32, dropout=0.1)
    fit(model, train, loss=loss, max_epochs=12, batch_size=32, learning_rate=0.01, progress=False)
    assert evaluate(model, test, ks=(1, 5)).metrics["hr@1"] > 0.6


@pytest.mark.parametrize("loss", ["cross_entropy", SampledLoss("bce", 3, alpha=0)])
def test_caser_with_several_targets_and_users_is_trained_by_fit(loss: str | SampledLoss) -> None:
    lists = [[(start + step) % 7 for step in range(5)] for start in range(7)] * 8
    users = [number % 4 for number in range(len(lists))]
    sessions = Sessions.from_lists(lists, users=users, vocabulary=Vocabulary(range(7)))
    torch.manual_seed(0)
    model = Caser(7, 16, num_users=4, num_targets=3, dropout=0.0)
    how = {"max_epochs": 30, "batch_size": 16, "learning_rate": 0.02, "progress": False}
    fit(model, sessions, loss=loss, **how)
    ranked = model.score(batch_of([[2, 3], [6]])).topk(3).indices.sort().values
    assert ranked.tolist() == [[4, 5, 6], [0, 1, 2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items must be at least 1, got 0"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"num_targets": 0}, "num_targets must be at least 1, got 0"),
        ({"num_users": 0}, "num_users must be at least 1, got 0"),
        ({"num_horizontal": -1}, "must not be negative, nor both be 0, got -1 and 4"),
        ({"num_horizontal": 0, "num_vertical": 0}, "nor both be 0, got 0 and 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"embedding": "shared"}, "embedding is 'separate' or 'tied', got 'shared'"),
        ({"embedding": "tied", "num_users": 2}, "got num_users=2: take 'separate'"),
        ({"heights": []}, r"heights must rise within 1..5, the max_length, got \[\]"),
        ({"heights": [0, 1]}, r"within 1..5, the max_length, got \[0, 1\]"),
        ({"heights": [2, 6]}, r"within 1..5, the max_length, got \[2, 6\]"),
        ({"heights": [3, 2]}, r"got \[3, 2\]"),
        ({"heights": [2, 2]}, r"got \[2, 2\]"),
    ],
)
def test_caser_wrong_setting_raises_naming_it(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Caser(**{"num_items": 5, **arguments})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fc1.bias": None}, r"lack fc1\.bias"),
        ({"conv_h.2.bias": None, "W2.weight": None}, r"lack W2\.weight, conv_h\.2\.bias"),
        ({"conv_h.1.weight": None}, r"lack conv_h\.1\.weight"),
        ({"conv_h.4.weight": None}, r"hold conv_h\.4\.bias, which"),
        ({"fc2.weight": np.zeros((2, 2))}, r"hold fc2\.weight, which"),
        (
            {"user_embeddings.weight": None},
            r"W2\.weight of Caser's .* has shape \[20, 16\], .* the others: \[20, 8\] would",
        ),
    ],
)
def test_caser_published_weights_that_do_not_fit_raise_naming_them(
    published: dict[str, np.ndarray], changes: dict, message: str
) -> None:
    for name, value in changes.items():
        if value is None:
            del published[f"param.{name}"]
        else:
            published[f"param.{name}"] = value
    with pytest.raises(ValueError, match=message):
        published_model(published)


def test_caser_repr_names_its_sizes() -> None:
    model = small_model(heights=[1, 3])
    assert repr(model) == "Caser(7, 6, max_length=4)"
    assert repr(model.horizontal) == "HorizontalConv(heights=[1, 3], num_filters=3)"
    assert repr(model.vertical) == "VerticalConv(2, length=4)"
