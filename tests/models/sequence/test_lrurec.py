"""LRURec: whole sessions at a linear cost, live sessions at a fixed one."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, gelu

import graphseq as gs
from graphseq.models import LRURec
from graphseq.nn.ragged import DenseView

ITEMS, PTR = torch.tensor([3, 5, 3, 0, 7, 1]), torch.tensor([0, 5, 6])


class Twice(torch.nn.Module):
    """Stands where a dropout does, and shows what passes through it."""

    def forward(self, x):
        return 2 * x


@pytest.mark.parametrize("layer", ["lru", "linear_attention"])
@pytest.mark.parametrize("doubled", [False, True])
def test_scores_equal_the_equations(layer, doubled):
    """Embeddings and the output of every branch pass through a dropout, and nothing else."""
    torch.manual_seed(0)
    model = LRURec(20, 8, layer=layer, heads=2, expansion=3).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    if doubled:
        model.drop = Twice()
        for block in model.blocks:
            block.drop = Twice()
    factor, view = (2.0 if doubled else 1.0), DenseView(PTR)
    x = factor * model.items.weight[ITEMS]
    for block in model.blocks:
        x = x + factor * block.recurrence(block.norm_recurrence(x), view)
        inner = gelu(block.lin_in(block.norm_feed_forward(x)))
        assert inner.size(1) == 24
        x = x + factor * block.lin_out(inner)
    expected = model.norm(x) @ model.items.weight.t()
    batch = gs.data.build_session_graphs(ITEMS, PTR)
    torch.testing.assert_close(model.items.scores(model.click_states(batch)), expected)
    torch.testing.assert_close(model.score(batch), expected[PTR[1:] - 1])
    state = model.initial_state()
    for item in ITEMS[:5].tolist():
        state = model.update_state(state, item)
    torch.testing.assert_close(model.score_state(state), expected[4])


def test_normalized_scores_are_cosines_times_scale():
    torch.manual_seed(0)
    model, plain = LRURec(20, 8, normalize=True, scale=5.0).eval(), LRURec(20, 8).eval()
    plain.load_state_dict(model.state_dict())
    batch = gs.data.build_session_graphs(ITEMS, PTR)
    cosine = cosine_similarity(plain(batch)[:, None], plain.items.weight[None], dim=2)
    torch.testing.assert_close(model.score(batch), 5.0 * cosine, rtol=1e-5, atol=1e-5)


def test_dropout_works_in_training_alone():
    model, batch = LRURec(20, 8, dropout=0.5), gs.data.build_session_graphs(ITEMS, PTR)
    assert [model.drop.share, *(block.drop.share for block in model.blocks)] == [0.5] * 3
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


@pytest.mark.parametrize("layer", ["lru", "linear_attention"])
def test_long_live_session_equals_the_whole_one_at_every_click(layer):
    torch.manual_seed(0)
    model = LRURec(20, 8, layer=layer, heads=2).eval()
    items = torch.randint(20, (300,), generator=torch.Generator().manual_seed(1))
    batch = gs.data.build_session_graphs(items, torch.tensor([0, 300]))
    with torch.no_grad():
        expected = model.items.scores(model.click_states(batch))
        state = model.initial_state()
        size = state.numel()
        for t in range(300):
            state = model.update_state(state, int(items[t]))
            torch.testing.assert_close(model.score_state(state), expected[t], atol=1e-5, rtol=1e-4)
    assert state.numel() == size


def test_order_is_learned_without_positions():
    """The next item is known from the last two clicks together, and from neither alone."""
    train = gs.generate_sessions(1000, 24, num_categories=4, pattern=1.0, loops=0.0, seed=0)
    test = gs.generate_sessions(60, 24, num_categories=4, pattern=1.0, loops=0.0, seed=1)
    torch.manual_seed(0)
    model, markov = LRURec(24, 32, 1, dropout=0.0), gs.models.MarkovChain(24)
    gs.fit(model, train, max_epochs=30, learning_rate=0.005, batch_size=64, seed=0)
    gs.fit(markov, train)
    found = []
    for each in (model, markov):
        report = gs.evaluate(each, test, ks=(1,))
        found.append(report.values("hr@1")[report.ranks["position"].to_numpy() >= 2].mean())
    assert found[0] > 0.7
    assert found[1] < 0.4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"layer": "s4"}, "layer is"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"layer": "linear_attention", "heads": 3}, "heads must divide"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        LRURec(5, 8, **arguments)
