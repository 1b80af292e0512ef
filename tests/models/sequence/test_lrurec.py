"""LRURec: whole sessions at a linear cost, live sessions at a fixed one."""

import pytest
import torch

import graphseq as gs
from graphseq.models import LRURec


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
