"""BERT4Rec against its paper's equations, place by place, and the masks it is trained with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.sequence.bert4rec import BERT4Rec, draw_masks, whole_sessions
from graphseq.training.objectives.objective import step_generator

SESSIONS = [[0, 1, 2, 1, 3], [4], [5, 5, 5], [6, 5, 4, 3, 2, 1, 0, 2, 4, 6, 1], [3, 0]]
MASK = -1
"""A masked place in a row of the tests."""


def batch_of(sessions: list[list[int]], y: list[list[int]] | None = None) -> Batch:
    ptr = torch.tensor([0, *np.cumsum([len(s) for s in sessions])], dtype=torch.long)
    targets = None if y is None else torch.tensor(sum(y, []), dtype=torch.long)
    items = torch.tensor(sum(sessions, []), dtype=torch.long)
    return build_session_graphs(items, ptr, y=targets, y_ptr=None if y is None else ptr)


def training_batch(sessions: list[list[int]]) -> Batch:
    """All clicks but the last, and the click after each."""
    return batch_of([s[:-1] for s in sessions], [s[1:] for s in sessions])


def small_model(**arguments: object) -> BERT4Rec:
    """A model in evaluation whose weights are large enough for every click to matter."""
    torch.manual_seed(0)
    model = BERT4Rec(7, 8, **{"max_length": 5, **arguments}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Recorded(BERT4Rec):
    """The model, with the rows that its last step encoded."""

    def _encode(self, items: Tensor, masked: Tensor, ptr: Tensor, reads: Tensor) -> Tensor:
        shown = torch.where(masked, MASK, items)
        lengths = ptr.diff().tolist()
        self.rows = [row.tolist() for row in shown.split(lengths)]
        read = torch.zeros_like(masked)
        read[reads] = True
        self.read = [row.nonzero().view(-1).tolist() for row in read.split(lengths)]
        return super()._encode(items, masked, ptr, reads)


def recorded(num_items: int = 7, **arguments: object) -> Recorded:
    torch.manual_seed(0)
    return Recorded(num_items, 8, **{"max_length": 5, **arguments}).eval()


def layer_norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    centered = x - x.mean()
    return centered / torch.sqrt((centered**2).mean() + norm.eps) * norm.weight + norm.bias


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def plain_outputs(model: BERT4Rec, row: list[int]) -> Tensor:
    """The paper's equations for one row: layer by layer, place by place, head by head."""
    shift = model.max_length - len(row) if model.settings["positions"] == "end" else 0
    x = []
    for t, item in enumerate(row):
        what = model.mask_embedding if item == MASK else model.items.weight[item]
        what = what + model.positions.weight[t + shift]
        x.append(layer_norm(what, model.norm) if model.norm_input else what)
    width = model.hidden_channels // model.heads
    for block in model.blocks:
        attention, after = block.attention, []
        for t in range(len(row)):
            mixed = []
            for head in range(model.heads):
                part = slice(head * width, (head + 1) * width)
                q = (attention.lin_query.weight @ x[t] + attention.lin_query.bias)[part]
                logits, values = [], []
                for s in range(len(row)):
                    k = (attention.lin_key.weight @ x[s])[part]
                    logits.append(q @ k / math.sqrt(width))
                    values.append(attention.lin_value.weight @ x[s] + attention.lin_value.bias)
                share = torch.stack(logits).softmax(0)
                mixed.append(sum(a * v[part] for a, v in zip(share, values, strict=True)))
            out = attention.lin_out.weight @ torch.cat(mixed) + attention.lin_out.bias
            a = layer_norm(x[t] + out, block.norm_attention)
            inner = gelu(block.lin_in.weight @ a + block.lin_in.bias)
            f = block.lin_out.weight @ inner + block.lin_out.bias
            after.append(layer_norm(a + f, block.norm_feed_forward))
        x = after
    head = [gelu(model.lin_head.weight @ h + model.lin_head.bias) for h in x]
    return torch.stack([layer_norm(h, model.norm_head) for h in head])


@pytest.mark.parametrize("positions", ["start", "end"])
@pytest.mark.parametrize("norm_input", [True, False])
@pytest.mark.parametrize("heads", [1, 2])
def test_bert4rec_scores_equal_the_papers_equations_with_a_mask_appended(
    positions: str, norm_input: bool, heads: int
) -> None:
    model = small_model(positions=positions, norm_input=norm_input, heads=heads)
    for session, scores in zip(SESSIONS, model.score(batch_of(SESSIONS)), strict=True):
        vector = plain_outputs(model, [*session[-4:], MASK])[-1]
        expected = model.items.weight @ vector + model.items.bias
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["start", "end"])
@pytest.mark.parametrize("masking", ["mask", "80_10_10"])
def test_bert4rec_training_vectors_equal_the_papers_equations_at_masked_places(
    positions: str, masking: str
) -> None:
    model = recorded(positions=positions, masking=masking, mask_prob=0.4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    sessions = [s for s in SESSIONS if len(s) > 1]
    vectors, _, _ = model.training_rows(training_batch(sessions), seeded())
    expected = [
        plain_outputs(model, row)[read]
        for row, reads in zip(model.rows, model.read, strict=True)
        for read in reads
    ]
    torch.testing.assert_close(vectors, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_bert4rec_training_rows_are_windows_from_the_end_then_last_items() -> None:
    model = recorded()
    session = SESSIONS[3]  # 11 clicks: windows of 1 (left out), 5 and 5
    _, targets, _ = model.training_rows(training_batch([session, [3, 0]]), seeded(3))
    full = [session[1:6], session[6:], [3, 0], session[6:], [3, 0]]
    assert [len(row) for row in model.rows] == [len(row) for row in full]
    found = []
    for row, reads, whole in zip(model.rows, model.read, full, strict=True):
        assert reads == [place for place, item in enumerate(row) if item == MASK]
        assert [row[t] for t in range(len(row)) if t not in reads] == [
            whole[t] for t in range(len(row)) if t not in reads
        ]
        found += [whole[t] for t in reads]
    assert targets.tolist() == found
    assert model.rows[3:] == [[*session[6:-1], MASK], [3, MASK]]
    assert all(
        1 <= len(reads) < len(row) for row, reads in zip(model.rows, model.read, strict=True)
    )


@given(st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=17), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_bert4rec_every_session_has_a_row_with_nothing_but_its_last_item_masked(
    sessions: list[list[int]],
) -> None:
    model = recorded()
    _, targets, _ = model.training_rows(training_batch(sessions), seeded())
    last = [[*s[-5:-1], MASK] for s in sessions]
    assert model.rows[-len(sessions) :] == last
    assert targets[-len(sessions) :].tolist() == [s[-1] for s in sessions]


def test_bert4rec_windows_of_two_thousand_clicks_lose_none_of_them() -> None:
    model = recorded(mask_prob=0.999)
    session = torch.randint(7, (2000,), generator=seeded()).tolist()
    _, targets, _ = model.training_rows(training_batch([session]), seeded())
    assert [len(row) for row in model.rows] == [5] * 401
    restored, target = [], iter(targets.tolist())
    for row in model.rows[:-1]:
        restored += [next(target) if item == MASK else item for item in row]
    assert restored == session
    vectors = model(batch_of([session, [1]]))
    torch.testing.assert_close(vectors[:1], model(batch_of([session[-4:]])))


def test_draw_masks_follow_their_probability_at_every_place() -> None:
    n, share = 50_000, 0.3
    ptr = torch.arange(n + 1) * 10
    may = torch.ones(10 * n, dtype=torch.bool)
    masked = draw_masks(may, ptr, share, torch.rand(len(may), generator=seeded())).view(n, 10)
    # A row that draws no mask gets one anywhere: it moves from none to one.
    none = (1 - share) ** 10
    expected = share + none / 10
    deviation = math.sqrt(expected * (1 - expected) / n)
    assert (masked.float().mean(0) - expected).abs().max() < 4.5 * deviation
    binomial = [math.comb(10, k) * share**k * (1 - share) ** (10 - k) for k in range(10)]
    binomial[0], binomial[1] = 0.0, binomial[1] + none
    for count, chance in zip(torch.bincount(masked.sum(1), minlength=10), binomial, strict=True):
        assert abs(int(count) / n - chance) < 4.5 * math.sqrt(chance / n) + 1e-5


def test_bert4rec_masks_their_share_of_clicks() -> None:
    model = recorded(max_length=10, mask_prob=0.3)
    sessions = [[0, 1, 2, 3, 4, 5, 6, 0, 1, 2]] * 2_000
    model.training_rows(training_batch(sessions), seeded())
    masked = sum(map(len, model.read[:2_000])) / 20_000
    assert abs(masked - 0.3 - 0.7**10 / 10) < 4.5 * math.sqrt(0.21 / 20_000)


def test_bert4rec_80_10_10_replaces_masked_clicks_in_these_shares_but_no_last_item() -> None:
    model = recorded(100, max_length=10, mask_prob=0.3, masking="80_10_10")
    sessions = [list(range(first, first + 10)) for first in range(90)] * 40
    _, targets, _ = model.training_rows(training_batch(sessions), seeded())
    shown = torch.tensor(
        [row[t] for row, reads in zip(model.rows, model.read, strict=True) for t in reads]
    )
    assert shown[-len(sessions) :].eq(MASK).all()
    shown, targets = shown[: -len(sessions)], targets[: -len(sessions)]
    n = len(shown)
    assert n > 10_000
    other = shown[(shown != MASK) & (shown != targets)]
    for count, share in [
        (shown.eq(MASK).sum(), 0.8),
        (shown.eq(targets).sum(), 0.1 + 0.1 / 100),
        (len(other), 0.1 * 99 / 100),
    ]:
        assert abs(int(count) / n - share) < 4.5 * math.sqrt(share * (1 - share) / n)
    assert len(other.unique()) == 100


def test_bert4rec_masks_are_a_function_of_seed_epoch_and_step() -> None:
    model, batch = recorded(masking="80_10_10", mask_prob=0.5), training_batch([SESSIONS[3]] * 9)

    def rows(*key: int) -> list[list[int]]:
        model.training_rows(batch, step_generator(*key))
        return model.rows

    first = rows(0, 1, 2)
    torch.manual_seed(5)
    assert rows(0, 1, 2) == first
    assert all(rows(*key) != first for key in [(1, 1, 2), (0, 2, 2), (0, 1, 3)])


def test_bert4rec_item_of_a_masked_place_reaches_no_vector() -> None:
    model = recorded(mask_prob=0.4)
    sessions = torch.randint(6, (8, 5), generator=seeded()).tolist()
    before, _, _ = model.training_rows(training_batch(sessions), seeded())
    rows, read = model.rows, model.read
    windows = sum(map(len, read[:8]))
    # Other items in masked places only: the windows' vectors stay, though not those of the rows
    # with the last item masked, which show these places.
    other = [
        [6 if row[t] == MASK else item for t, item in enumerate(session)]
        for row, session in zip(rows[:8], sessions, strict=True)
    ]
    after, targets, _ = model.training_rows(training_batch(other), seeded())
    assert model.read == read
    assert torch.equal(after[:windows], before[:windows])
    assert targets[:windows].eq(6).all()
    swapped = [[*session[:-1], 6] for session in sessions]
    last, _, _ = model.training_rows(training_batch(swapped), seeded())
    assert torch.equal(last[windows:], before[windows:])


def test_bert4rec_loss_gives_no_gradient_to_an_item_that_is_masked_alone() -> None:
    model = recorded(mask_prob=0.01)
    vectors, _, _ = model.training_rows(training_batch([[0, 1, 2, 3]]), seeded())
    vectors[-1, 0].backward()
    touched = model.items.weight.grad.abs().sum(1) > 0
    assert touched.tolist() == [True, True, True, False, False, False, False]


def test_bert4rec_clicks_before_the_first_target_are_seen_but_never_masked() -> None:
    model = recorded(max_length=20, mask_prob=0.9)
    batch = batch_of([[0, 1, 2, 3, 4]] * 50, [[-100, -100, 3, 4, 5]] * 50)
    model.training_rows(batch, seeded())
    assert all(row[:3] == [0, 1, 2] for row in model.rows)
    masked = [{t for t in range(6) if row[t] == MASK} for row in model.rows[:50]]
    assert set().union(*masked) == {3, 4, 5}
    assert model.rows[50:] == [[0, 1, 2, 3, 4, MASK]] * 50


def test_bert4rec_windows_before_the_first_target_are_left_out() -> None:
    model = recorded()
    clicks, y = [0, 1, 2, 3, 4, 5, 6, 0, 1], [-100] * 7 + [1, 2]
    model.training_rows(batch_of([clicks], [y]), seeded())
    assert [len(row) for row in model.rows] == [5, 5]
    assert all(row[:3] == [5, 6, 0] for row in model.rows)


def test_bert4rec_unknown_final_target_leaves_the_last_known_click_as_the_last() -> None:
    model = recorded()
    batch = batch_of([[0, 1, 2], [3, 4], [5], [6]], [[1, 2, -1], [-1, 0], [-1], [0]])
    _, targets, _ = model.training_rows(batch, seeded())
    assert model.rows[3:] == [[0, 1, MASK], [3, 4, MASK], [6, MASK]]
    assert targets[-3:].tolist() == [2, 0, 0]


def test_whole_sessions_by_hand_put_final_targets_back() -> None:
    items, ptr = torch.tensor([0, 1, 2, 3, 4, 5]), torch.tensor([0, 3, 4, 6])
    y = torch.tensor([-100, 2, -1, 9, -1, 8])
    whole, pointer, may = whole_sessions(items, ptr, y)
    assert whole.tolist() == [0, 1, 2, 3, 9, 4, 5, 8]
    assert pointer.tolist() == [0, 3, 5, 8]
    # 1 lies before the first target, and so does 0; 5 follows an unknown click.
    assert may.tolist() == [False, False, True, True, True, True, True, True]


@given(
    st.lists(st.lists(st.booleans(), min_size=2, max_size=6).filter(any), min_size=1, max_size=6),
    st.sampled_from([0.01, 0.3, 0.99]),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_draw_masks_any_rows_masks_one_at_least_and_never_all(
    rows: list[list[bool]], share: float, seed: int
) -> None:
    ptr = torch.tensor([0, *np.cumsum([len(row) for row in rows])])
    may = torch.tensor(sum(rows, []))
    masked = draw_masks(may, ptr, share, torch.rand(len(may), generator=seeded(seed)))
    for row, drawn in zip(rows, masked.split(ptr.diff().tolist()), strict=True):
        assert 1 <= int(drawn.sum()) < len(row)
        assert all(may for may, is_masked in zip(row, drawn, strict=True) if is_masked)


@pytest.mark.parametrize("chosen", [[0, 1, 7, 15], [0, 4]], ids=["several", "one_click_each"])
@pytest.mark.parametrize("joined_by_pyg", [False, True])
def test_bert4rec_batch_of_prefixes_masks_the_one_target_each(
    chosen: list[int], joined_by_pyg: bool
) -> None:
    model = small_model()
    sessions = gs.Sessions.from_lists(SESSIONS, vocabulary=Vocabulary(np.arange(7)))
    dataset = gs.SessionGraphDataset(sessions, "prefixes")
    batch = dataset.batch(chosen)
    if joined_by_pyg:
        batch = Batch.from_data_list([dataset[number] for number in chosen])
    vectors, targets, _ = model.training_rows(batch, seeded())
    assert torch.equal(vectors, model(batch))
    assert torch.equal(targets, batch.y)


def test_bert4rec_ranking_keeps_the_newest_clicks_and_the_first_of_a_short_session() -> None:
    model = small_model(max_length=5)

    def changed(session: list[int], place: int) -> bool:
        other = [*session[:place], 6, *session[place + 1 :]]
        one, two = model(batch_of([session, other]))
        return not torch.allclose(one, two, atol=1e-4)

    assert [changed([0, 1, 2, 3], t) for t in range(4)] == [True] * 4
    assert [changed([0, 1, 2, 3, 4], t) for t in range(5)] == [False] + [True] * 4
    assert [changed([0], 0), changed([0, 0, 0, 0, 0, 0, 1], 2)] == [True, False]


def test_bert4rec_order_of_clicks_matters() -> None:
    one, other = small_model()(batch_of([[0, 1, 2, 3], [1, 0, 2, 3]]))
    assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("positions", ["start", "end"])
def test_bert4rec_session_alone_equals_itself_in_a_padded_batch(positions: str) -> None:
    model = small_model(positions=positions, max_length=12)
    together = model(batch_of(SESSIONS))
    alone = torch.cat([model(batch_of([session])) for session in SESSIONS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_bert4rec_empty_batch_gives_no_vectors() -> None:
    none = torch.empty(0, dtype=torch.long)
    batch, model = build_session_graphs(none, torch.tensor([0])), small_model()
    assert model(batch).shape == (0, 8)


def test_bert4rec_batch_without_anything_to_predict_gives_no_vectors() -> None:
    vectors, targets, _ = small_model().training_rows(batch_of([[3], [4]], [[-1], [-1]]), seeded())
    assert vectors.shape == (0, 8)
    assert targets.shape == (0,)


def test_bert4rec_streamed_click_by_click_equals_whole_sessions_beyond_max_length() -> None:
    model, session = small_model(), SESSIONS[3]
    candidates = torch.tensor([6, 0])
    state = model.initial_state()
    for n, item in enumerate(session, start=1):
        state = model.update_state(state, item)
        expected = model.score(batch_of([session[:n]]))[0]
        torch.testing.assert_close(model.score_state(state), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            model.score_state(state, candidates), expected[candidates], rtol=1e-4, atol=1e-5
        )
    assert state.items.tolist() == session[-5:]


def test_bert4rec_stream_without_a_click_raises() -> None:
    model = small_model()
    with pytest.raises(ValueError, match="no state before the first click"):
        model.score_state(model.initial_state())


def test_bert4rec_state_of_every_click_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="BERT4Rec has no state for every click"):
        small_model().click_states(batch_of(SESSIONS))


@pytest.mark.parametrize("masking", ["mask", "80_10_10"])
def test_bert4rec_every_parameter_gets_a_gradient_in_training(masking: str) -> None:
    model = small_model(masking=masking, dropout=0.1).train()
    sessions = [s for s in SESSIONS if len(s) > 1]
    vectors, targets, _ = model.training_rows(training_batch(sessions), seeded())
    torch.nn.functional.cross_entropy(model.items.scores(vectors), targets).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 1e-6, name


def test_bert4rec_dropout_acts_in_training_alone() -> None:
    model, batch = small_model(dropout=0.5), batch_of(SESSIONS)
    assert torch.equal(model(batch), small_model(dropout=0.0)(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


@pytest.mark.parametrize(("masking", "positions"), [("mask", "start"), ("80_10_10", "end")])
def test_bert4rec_learns_the_ring_that_popularity_misses(masking: str, positions: str) -> None:
    generator = np.random.default_rng(0)
    lists = [
        [(start + step) % 12 for step in range(length)]
        for start, length in zip(
            generator.integers(12, size=600), generator.integers(2, 9, size=600), strict=True
        )
    ]
    split = gs.session_split(
        gs.Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(12))), test_fraction=0.2
    )
    torch.manual_seed(0)
    model = BERT4Rec(
        12, 16, heads=2, max_length=6, dropout=0.0, masking=masking, positions=positions
    )
    gs.fit(model, split, max_epochs=20, batch_size=32, learning_rate=0.004, progress=False)
    assert gs.evaluate(model, split.test, ks=(1,)).metrics["hr@1"] > 0.95


def test_bert4rec_start_is_normal_with_plain_norms_and_projections_that_keep_their_scale() -> None:
    torch.manual_seed(0)
    model = BERT4Rec(500, 32, 1)
    for name, parameter in model.named_parameters():
        if "embedding" in name or name in ("items.weight", "positions.weight"):
            assert parameter.std().item() == pytest.approx(0.02, rel=0.3), name
        elif parameter.dim() == 2:
            assert parameter.std().item() == pytest.approx(parameter.size(1) ** -0.5, rel=0.1), name
        else:
            assert (parameter == float("norm" in name and "weight" in name)).all(), name


def test_bert4rec_repr_is_one_line() -> None:
    assert repr(BERT4Rec(9, 8, 1)) == "BERT4Rec(9, 8, num_layers=1)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items must be at least 1, got 0"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"expansion": 0}, "expansion must be at least 1, got 0"),
        ({"max_length": 1}, "at least 2, a click and the masked one, got 1"),
        ({"heads": 3}, "heads must divide hidden_channels, got 3 heads for 64"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"mask_prob": 0.0}, r"mask_prob must lie in \(0, 1\), got 0.0"),
        ({"mask_prob": 1.0}, r"mask_prob must lie in \(0, 1\), got 1.0"),
        ({"masking": "bert"}, "masking is 'mask' or '80_10_10', got 'bert'"),
        ({"positions": "middle"}, "positions is 'start' or 'end', got 'middle'"),
    ],
)
def test_bert4rec_wrong_setting_raises_naming_it(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BERT4Rec(**{"num_items": 5, **arguments})
