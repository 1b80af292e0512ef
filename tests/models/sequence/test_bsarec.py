"""BSARec against the authors' recorded scores and against equations window by window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu
from torch_geometric.data import Batch

from graphseq.data import build_session_graphs
from graphseq.models import BSARec

FIXTURES = Path(__file__).parents[2] / "fixtures"
NUM_ITEMS = 9
SESSIONS = [[3, 5, 3, 0], [7], [2, 2, 2], [8, 1, 4, 1, 8, 1, 6, 0, 3, 5, 5]]


@pytest.fixture(params=["a", "b"])
def published(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURES / f"bsarec_published_{request.param}.npz"))


def parameters(published: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k.removeprefix("param."): v for k, v in published.items() if k.startswith("param.")}


def batch_of(sessions: list[list[int]]) -> Batch:
    ptr = torch.tensor([0, *map(len, sessions)]).cumsum(0)
    return build_session_graphs(torch.tensor(sum(sessions, [])), ptr)


def build(**options: object) -> BSARec:
    torch.manual_seed(0)
    model = BSARec(NUM_ITEMS, 8, **{"heads": 2, "max_length": 6, "c": 3, **options})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def from_published(published: dict[str, np.ndarray]) -> BSARec:
    return BSARec.from_published(
        parameters(published),
        heads=int(published["num_heads"]),
        c=int(published["c"]),
        alpha=float(published["alpha"]),
    )


def test_bsarec_published_weights_give_published_scores(published: dict[str, np.ndarray]) -> None:
    model = from_published(published)
    batch = build_session_graphs(
        torch.from_numpy(published["clicks"]) - 1, torch.from_numpy(published["ptr"])
    )
    expected = torch.from_numpy(published["scores"])
    torch.testing.assert_close(model.score(batch), expected, rtol=1e-5, atol=1e-5)
    # The authors' loss has its padding row as one more class.
    table = torch.from_numpy(published["param.item_embeddings.weight"])
    loss = torch.nn.functional.cross_entropy(
        model(batch) @ table.T, torch.from_numpy(published["target"])
    )
    assert loss.item() == pytest.approx(float(published["loss_with_padding_class"]), abs=1e-5)


def test_bsarec_published_session_keeps_its_newest_clicks(
    published: dict[str, np.ndarray],
) -> None:
    model = from_published(published)
    long = list(range(2, 2 + model.max_length))
    torch.testing.assert_close(
        model.score(batch_of([[0, 1, 1, *long]])), model.score(batch_of([long]))
    )


def test_bsarec_published_weights_missing_are_refused(published: dict[str, np.ndarray]) -> None:
    given = parameters(published)
    del given["item_encoder.blocks.0.feed_forward.dense_2.bias"]
    with pytest.raises(ValueError, match=r"BSARec lack item_encoder\.blocks\.0\.feed_forward"):
        BSARec.from_published(given)


def naive_vector(model: BSARec, session: list[int]) -> Tensor:
    """The equations for one session, with torch's FFT over the window filled up on the left."""
    length, newest = model.max_length, session[-model.max_length :]
    missing = length - len(newest)
    e = torch.cat([model.padding.expand(missing, -1), model.items.weight[newest]])
    x = model.norm(e + model.positions.weight)
    for block in model.blocks:
        spectrum = torch.fft.rfft(x, dim=0)
        spectrum[model.c // 2 + 1 :] = 0
        low = torch.fft.irfft(spectrum, n=length, dim=0)
        filtered = block.norm_filter(x + low + block.filter.beta**2 * (x - low))
        own = block.attention
        q, k, v = own.lin_query(x), own.lin_key(x), own.lin_value(x)
        rows = []
        for t in range(length):
            hidden = [j for j in range(length) if j > t or j < missing]
            heads = []
            for part in torch.arange(q.size(1)).chunk(own.heads):
                logits = k[:, part] @ q[t, part] / len(part) ** 0.5
                logits[hidden] -= 10000.0
                heads.append(logits.softmax(0) @ v[:, part])
            rows.append(torch.cat(heads))
        attended = block.norm_attention(x + own.lin_out(torch.stack(rows)))
        mixed = model.alpha * filtered + (1 - model.alpha) * attended
        x = block.norm_feed_forward(mixed + block.lin_out(gelu(block.lin_in(mixed))))
    return x[-1]


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("max_length", [1, 4, 20])
def test_bsarec_batch_equals_equations_session_by_session(num_layers: int, max_length: int) -> None:
    # In float64: hidden by -10,000, float32 has few digits left for what is not hidden.
    model = build(num_layers=num_layers, max_length=max_length, alpha=0.4).double()
    expected = torch.stack([naive_vector(model, session) for session in SESSIONS])
    torch.testing.assert_close(model(batch_of(SESSIONS)), expected, rtol=1e-8, atol=1e-8)


def test_bsarec_fourier_trains_on_prefixes_and_has_no_states_of_clicks() -> None:
    model = build()
    assert (model.samples, model.causal) == ("prefixes", False)
    with pytest.raises(NotImplementedError, match="no state for every click"):
        model.click_states(batch_of(SESSIONS))


def test_bsarec_moving_average_states_are_those_of_prefixes_in_one_pass() -> None:
    model = build(filter="moving_average", max_length=20)
    assert (model.samples, model.causal) == ("sessions", True)
    assert model.padding is None
    states = model.click_states(batch_of(SESSIONS))
    prefixes = [session[: end + 1] for session in SESSIONS for end in range(len(session))]
    torch.testing.assert_close(states, model(batch_of(prefixes)), rtol=1e-5, atol=1e-5)
    trained = model.train(True)
    trained.drop.share = 0.0
    for block in trained.blocks:
        block.drop.share = block.attention.dropout = 0.0
    torch.testing.assert_close(
        trained.click_states(batch_of(SESSIONS)), states, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("filter", ["fourier", "moving_average"])
def test_bsarec_normalized_scores_are_cosines_times_scale(filter: str) -> None:
    plain = build(filter=filter)
    model = build(filter=filter, normalize=True, scale=7.0)
    h, e = plain(batch_of(SESSIONS)), plain.items.weight
    expected = 7.0 * torch.nn.functional.cosine_similarity(h[:, None], e[None], dim=2)
    torch.testing.assert_close(model.score(batch_of(SESSIONS)), expected, rtol=1e-5, atol=1e-5)


class Nothing(torch.nn.Module):
    """A dropout that drops everything."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize("filter", ["fourier", "moving_average"])
def test_bsarec_embeddings_pass_through_dropout_before_the_first_block(filter: str) -> None:
    model = build(filter=filter, dropout=0.5)
    assert model.drop.share == model.blocks[0].drop.share == 0.5
    one, other = model(batch_of([[3, 5, 3], [7, 0, 1]]))
    assert not torch.allclose(one, other, atol=1e-3)
    model.drop = Nothing()
    one, other = model(batch_of([[3, 5, 3], [7, 0, 1]]))
    torch.testing.assert_close(one, other)


def test_bsarec_start_is_normal_with_small_deviation_and_plain_norms() -> None:
    torch.manual_seed(0)
    model = BSARec(500, 64, 1)
    assert model.padding is not None
    assert model.padding.std().item() == pytest.approx(0.02, rel=0.3)
    assert model.blocks[0].filter.beta.std().item() == pytest.approx(1.0, rel=0.3)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
        elif name not in ("padding", "blocks.0.filter.beta"):
            assert (parameter == float("norm" in name and "weight" in name)).all(), name


def test_bsarec_dropout_works_in_training_alone() -> None:
    model, batch = build(dropout=0.5), batch_of(SESSIONS)
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"filter": "wavelet"}, "'fourier' or 'moving_average', got 'wavelet'"),
        ({"alpha": -0.1}, r"alpha must lie in \[0, 1\], got -0.1"),
        ({"c": 0}, "c must be at least 1, got 0"),
        ({"heads": 3}, "heads must divide hidden_channels, got 3 heads for 8"),
        ({"dropout": 1.0}, r"\[0, 1\), got 1.0"),
    ],
)
def test_bsarec_wrong_argument_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BSARec(NUM_ITEMS, 8, **arguments)


def test_bsarec_repr_names_its_sizes() -> None:
    assert repr(build()) == "BSARec(9, 8, num_layers=2, filter='fourier')"
