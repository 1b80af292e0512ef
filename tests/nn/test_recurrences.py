"""Linear recurrences: the parallel form equals one click after the other, written out."""

import pytest
import torch

from graphseq.nn import LinearAttention, LinearRecurrentUnit, recurrences
from graphseq.nn.ragged import DenseView

LENGTHS = [5, 1, 0, 9, 3]


def layer_of(name):
    torch.manual_seed(0)
    return (LinearRecurrentUnit(6) if name == "lru" else LinearAttention(6, heads=2)).double()


def rows():
    ptr = torch.tensor([0, *LENGTHS]).cumsum(0)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(int(ptr[-1]), 6, dtype=torch.double, generator=generator), ptr


def naive(layer, row):
    """The equations of the docstring, click by click, in plain complex numbers or matrices."""
    if isinstance(layer, LinearRecurrentUnit):
        rate = torch.exp(torch.complex(-layer.nu.exp(), layer.theta))
        gamma = (1 - rate.abs() ** 2).sqrt()
        b = torch.complex(*layer.lin_in.weight.chunk(2))
        c_real, c_imaginary = layer.lin_out.weight.chunk(2, dim=1)
        s, out = torch.zeros(6, dtype=torch.cdouble), []
        for x in row:
            s = rate * s + gamma * (b @ x.to(torch.cdouble))
            out.append(c_real @ s.real + c_imaginary @ s.imag + layer.lin_out.bias)
        return torch.stack(out)
    out = []
    for t in range(len(row)):
        heads = []
        for part in (slice(0, 3), slice(3, 6)):
            q = torch.nn.functional.elu(layer.lin_query(row[t])[part]) + 1
            weights = torch.stack(
                [q @ (torch.nn.functional.elu(layer.lin_key(x)[part]) + 1) for x in row[: t + 1]]
            )
            values = torch.stack([layer.lin_value(x)[part] for x in row[: t + 1]])
            heads.append(weights @ values / weights.sum())
        out.append(layer.lin_out(torch.cat(heads)))
    return torch.stack(out)


@pytest.mark.parametrize("name", ["lru", "linear_attention"])
@pytest.mark.parametrize("chunk", [1, 2, 4, 64])
def test_all_clicks_at_once_equal_the_equations_row_by_row(name, chunk, monkeypatch):
    monkeypatch.setattr(recurrences, "CHUNK", chunk)
    layer, (x, ptr) = layer_of(name), rows()
    expected = torch.cat([naive(layer, row) for row in x.split(LENGTHS) if len(row)])
    torch.testing.assert_close(layer(x, DenseView(ptr)), expected)


@pytest.mark.parametrize("name", ["lru", "linear_attention"])
def test_steps_equal_the_parallel_form(name):
    layer, (x, ptr) = layer_of(name), rows()
    together = layer(x, DenseView(ptr))
    state = x.new_zeros(1, layer.state_size)
    for t in range(9):
        out, state = layer.step(state, x[6 + t].unsqueeze(0))
        torch.testing.assert_close(out[0], together[6 + t])


@pytest.mark.parametrize("name", ["lru", "linear_attention"])
def test_gradients_of_the_parallel_form_are_those_of_the_steps(name):
    layer, (x, _) = layer_of(name), rows()
    x = x[6:15].clone().requires_grad_()
    parallel = torch.autograd.grad(layer(x, DenseView(torch.tensor([0, 9]))).square().sum(), x)[0]
    state, total = x.new_zeros(1, layer.state_size), 0
    for t in range(9):
        out, state = layer.step(state, x[t : t + 1])
        total = total + out.square().sum()
    torch.testing.assert_close(torch.autograd.grad(total, x)[0], parallel)


def test_first_rates_lie_in_the_ring():
    layer = LinearRecurrentUnit(500, smallest=0.6, largest=0.9)
    size = (-layer.nu.exp()).exp()
    assert 0.6 <= float(size.min()) < 0.65
    assert 0.88 < float(size.max()) <= 0.9


def test_no_click_at_all_gives_no_row():
    for name in ("lru", "linear_attention"):
        empty = torch.zeros(0, 6, dtype=torch.double)
        assert layer_of(name)(empty, DenseView(torch.tensor([0, 0]))).shape == (0, 6)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="heads must divide"):
        LinearAttention(6, heads=4)


@pytest.mark.parametrize("name", ["lru", "linear_attention"])
def test_half_precision_gives_nearly_the_same(name):
    layer, (x, ptr) = layer_of(name).float(), rows()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, view = x.float(), DenseView(ptr)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x, view)
        out, _ = layer.step(x.new_zeros(1, layer.state_size), x[:1])
    torch.testing.assert_close(half.float(), layer(x, view), rtol=0.1, atol=0.1)
    torch.testing.assert_close(out.float(), half[:1].float(), rtol=0.1, atol=0.1)
