"""HSTU: its use of time, and one pass against prefixes. Its layers: tests/nn/test_hstu.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data import Sessions, build_session_graphs, session_split
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation import evaluate
from graphseq.models import HSTU
from graphseq.training import fit

NUM_ITEMS = 9
ITEMS = [[3, 5, 3, 0], [7], [2, 2, 2], [8, 1, 4, 1, 8, 1, 6, 0]]
TIMES = [[0, 7, 7, 300], [5], [1, 2, 900], [0, 1, 2, 3, 500, 9000, 9001, 9900]]
REQUEST = [350, 6, 901, 99000]


def batch_of(items: list[list[int]], times: list[list[int]], request: list[int] | None) -> Batch:
    ptr = torch.tensor([0, *map(len, items)]).cumsum(0)
    fields = {} if request is None else {"request_time": torch.tensor(request).double()}
    return build_session_graphs(
        torch.tensor(sum(items, [])),
        ptr,
        click_fields={"click_time": torch.tensor(sum(times, [])).double()},
        session_fields=fields,
    )


def build(**options: object) -> HSTU:
    torch.manual_seed(0)
    model = HSTU(NUM_ITEMS, 8, **{"heads": 2, **options})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def states_of_prefixes(model: HSTU, request: list[int] | None) -> Tensor:
    """The vector of each prefix, whose request is the next click."""
    items, times, asked = [], [], []
    for session, time, last in zip(ITEMS, TIMES, request or REQUEST, strict=True):
        for end in range(1, len(session) + 1):
            items.append(session[:end])
            times.append(time[:end])
            asked.append([*time, last][end])
    return model(batch_of(items, times, None if request is None else asked))


@pytest.mark.parametrize("max_length", [3, 20])
@pytest.mark.parametrize("time", ["clicks", "request", "none"])
def test_hstu_states_equal_prefixes_whatever_it_knows_of_time(time: str, max_length: int) -> None:
    model = build(time=time, max_length=max_length)
    request = REQUEST if time == "request" else None
    states = model.click_states(batch_of(ITEMS, TIMES, request))
    torch.testing.assert_close(states, states_of_prefixes(model, request), rtol=1e-5, atol=1e-4)


def test_hstu_session_equals_its_equations() -> None:
    model = build()
    items, times = torch.tensor(ITEMS[3]), torch.tensor(TIMES[3]).double()
    x = model.hidden_channels**0.5 * model.items.weight[items]
    x = x + model.positions.weight[: len(items)]
    h = model.layers(x, torch.tensor([0, len(items)]), times)[-1]
    e = model.items.weight
    expected = 20.0 * (e @ h) / (e.norm(dim=1) * h.norm())
    batch = batch_of(ITEMS, TIMES, None)
    torch.testing.assert_close(model.score(batch)[3], expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        model.score(batch, torch.tensor([4, 1]))[3], expected[[4, 1]], rtol=1e-5, atol=1e-4
    )


def test_hstu_not_normalized_scores_are_inner_products() -> None:
    model = build(normalize=False)
    batch = batch_of(ITEMS, TIMES, None)
    expected = model(batch) @ model.items.weight.T
    torch.testing.assert_close(model.score(batch), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model(batch).norm(dim=1), torch.tensor(20.0), rtol=0.1)


def test_hstu_time_of_the_target_changes_scores_only_where_asked_for() -> None:
    later = [number + 5000 for number in REQUEST]
    now, then = batch_of(ITEMS, TIMES, REQUEST), batch_of(ITEMS, TIMES, later)
    assert torch.equal(build().score(now), build().score(then))
    model = build(time="request")
    assert not torch.allclose(model.score(now), model.score(then))


@pytest.mark.parametrize("time", ["clicks", "request", "none"])
def test_hstu_is_causal_where_no_state_knows_a_later_time(time: str) -> None:
    model = build(time=time)
    later = [*TIMES[3][:-1], TIMES[3][-1] + 5000]
    states = model.click_states(batch_of([ITEMS[3]], [TIMES[3]], None))
    other = model.click_states(batch_of([ITEMS[3]], [later], None))
    assert model.causal == torch.equal(states[:-1], other[:-1]) == (time != "request")


def test_hstu_dropout_is_of_embeddings_and_of_every_layer() -> None:
    model, batch = build(dropout=0.5), batch_of(ITEMS, TIMES, None)
    assert [model.drop.share, *(layer.drop.share for layer in model.layers.layers)] == [0.5] * 3
    assert torch.equal(model(batch), model(batch))
    model.train()
    for layer in model.layers.layers:
        layer.drop.share = 0.0
    assert not torch.equal(model(batch), model(batch))


def test_hstu_start_is_that_of_the_authors_code() -> None:
    torch.manual_seed(0)
    model = HSTU(500, 64, 1, max_length=100)
    assert model.items.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.positions.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert model.layers.layers[0].weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_hstu_time_of_clicks_changes_scores_unless_none() -> None:
    other = [[3 * t for t in time] for time in TIMES]
    now, then = batch_of(ITEMS, TIMES, None), batch_of(ITEMS, other, None)
    model = build(time="none")
    assert torch.equal(model.score(now), model.score(then))
    assert not torch.allclose(build().score(now), build().score(then))


def test_hstu_training_cuts_long_sessions_into_windows() -> None:
    model = build(max_length=3, dropout=0.0).train()
    batch = batch_of([ITEMS[3]], [TIMES[3]], None)
    batch.y = torch.zeros(len(ITEMS[3]), dtype=torch.long)
    states, _, _ = model.training_rows(batch, torch.Generator())
    windows = [(ITEMS[3][a:b], TIMES[3][a:b]) for a, b in ((0, 2), (2, 5), (5, 8))]
    parts = [model.click_states(batch_of([item], [time], None)) for item, time in windows]
    torch.testing.assert_close(states, torch.cat(parts), rtol=1e-5, atol=1e-5)


def test_hstu_without_times_has_no_bias_of_time_unless_trained_on_them() -> None:
    ptr = torch.tensor([0, 3])
    timeless = build_session_graphs(torch.tensor([1, 2, 3]), ptr)
    model = build()
    plain = build(time="none")
    weights = {k: v for k, v in model.state_dict().items() if "time_bias" not in k}
    plain.load_state_dict(weights)
    assert torch.equal(model.score(timeless), plain.score(timeless))
    assert model.knows_time == -1
    log = Sessions.from_lists([[0, 1], [2, 3]])
    model.attach(None, log)
    assert model.knows_time == 0
    timed = batch_of([[1, 2, 3]], [[0.0, 5.0, 50.0]], None)
    assert torch.equal(model.score(timed), plain.score(timeless))  # its biases were never trained
    model.prepare(Sessions(log.items, log.ptr, log.vocabulary, time=torch.arange(4.0).numpy()))
    assert model.knows_time == 1
    with pytest.raises(ValueError, match="trained with time='clicks', but this batch has no click"):
        model.score(timeless)


def test_hstu_asked_without_the_requests_time_is_asked_at_the_last_click() -> None:
    model, last = build(time="request"), [time[-1] for time in TIMES]
    without, told = batch_of(ITEMS, TIMES, None), batch_of(ITEMS, TIMES, last)
    assert torch.equal(model.score(without), model.score(told))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"heads": 3}, "heads must divide hidden_channels, got 3 heads for 8"),
        ({"time": "target"}, "time is 'clicks', 'request' or 'none', got 'target'"),
        ({"scale": 0.0}, "scale must be positive, got 0.0"),
        ({"scale": float("inf")}, "scale must be finite, got inf"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_hstu_wrong_argument_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HSTU(NUM_ITEMS, 8, **arguments)


def test_hstu_repr_names_its_sizes() -> None:
    assert repr(HSTU(9, 8)) == "HSTU(9, 8, num_layers=2, time='clicks')"


@pytest.mark.parametrize(("time", "low", "high"), [("request", 0.9, 1.0), ("clicks", 0.0, 0.5)])
def test_hstu_fit_and_evaluated_knows_the_targets_time_only_where_asked_for(
    time: str, low: float, high: float
) -> None:
    generator = np.random.default_rng(0)
    items = generator.integers(0, 4, 1200)
    seconds = np.cumsum(10.0 ** (2 * items))  # the pause before an item tells which one it is
    ptr = np.arange(0, 1201, 6)
    log = Sessions.from_ragged(items, ptr, time=seconds, vocabulary=Vocabulary(np.arange(4)))
    split = session_split(log, test_fraction=0.2, seed=0)
    torch.manual_seed(0)
    model = HSTU(4, 16, heads=4, dropout=0.0, time=time)
    assert model.reads_request_time == (time == "request")
    fit(model, split, max_epochs=12, batch_size=32, learning_rate=0.02, progress=False)
    assert low <= evaluate(model, split.test, ks=(1,)).metrics["hr@1"] <= high
    assert model.knows_time == 1
