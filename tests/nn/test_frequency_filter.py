"""BSARec's filter against torch's FFT, its causal form against loops, and its block by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu

from graphseq.nn import FrequencyBlock, FrequencyFilter
from graphseq.nn.ragged import DenseView

LENGTHS = [4, 1, 7, 2]
PTR = torch.tensor([0, *LENGTHS]).cumsum(0)


def rows(number: int, length: int) -> Tensor:
    return torch.arange(number + 1) * length


def shake(module: torch.nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)


@pytest.mark.parametrize("places", [1, 2, 7, 8])
@pytest.mark.parametrize("c", [1, 3, 4, 9, 40])
def test_fourier_filter_equals_cut_spectrum(places: int, c: int) -> None:
    layer = FrequencyFilter(6, places, c)
    shake(layer)
    x = torch.randn(3, places, 6)
    spectrum = torch.fft.rfft(x, dim=1, norm="ortho")
    spectrum[:, c // 2 + 1 :] = 0
    low = torch.fft.irfft(spectrum, n=places, dim=1, norm="ortho")
    expected = low + layer.beta**2 * (x - low)
    actual = layer(x.flatten(0, 1), DenseView(rows(3, places)))
    torch.testing.assert_close(actual, expected.flatten(0, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("c", [1, 2, 3, 9])
def test_moving_average_equals_mean_of_newest_clicks_of_each_row(c: int) -> None:
    layer = FrequencyFilter(5, 8, c, "moving_average")
    shake(layer)
    x = torch.randn(14, 5)
    expected = []
    for row in x.split(LENGTHS):
        for t in range(len(row)):
            low = row[max(0, t + 1 - c) : t + 1].mean(0)
            expected.append(low + layer.beta**2 * (row[t] - low))
    actual = layer(x, DenseView(PTR))
    torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "ptr"), [("fourier", rows(2, 7)), ("moving_average", PTR)])
def test_filter_and_block_asked_for_some_clicks_give_theirs(kind: str, ptr: Tensor) -> None:
    torch.manual_seed(1)
    x, reads, view = torch.randn(14, 8), torch.tensor([0, 3, 6, 13]), DenseView(ptr)
    layer = FrequencyFilter(8, 7, 3, kind)
    torch.testing.assert_close(layer(x, view, reads), layer(x, view)[reads], rtol=1e-5, atol=1e-6)
    block = FrequencyBlock(8, 7, 2, kind=kind)
    shake(block)
    if kind == "fourier":
        seen = torch.rand(2, 1, 7, 7) < 0.5
        seen = seen | torch.eye(7, dtype=torch.bool)
        asking = torch.stack([seen[0, 0, [0, 3, 6]], seen[1, 0, [6, 6, 6]]]).unsqueeze(1)
        some = block(x, view, asking, reads)
    else:
        seen, some = None, block(x, view, query_index=reads)
    torch.testing.assert_close(some, block(x, view, seen)[reads], rtol=1e-5, atol=1e-5)


def test_block_equals_its_equations() -> None:
    block = FrequencyBlock(8, 7, 2, kind="moving_average", alpha=0.3, c=2)
    shake(block)
    x, view = torch.randn(14, 8), DenseView(PTR)
    filtered = block.norm_filter(x + block.filter(x, view))
    attended = block.norm_attention(x + block.attention(x, x, view))
    mixed = 0.3 * filtered + 0.7 * attended
    expected = block.norm_feed_forward(mixed + block.lin_out(gelu(block.lin_in(mixed))))
    torch.testing.assert_close(block(x, view), expected, rtol=1e-5, atol=1e-5)
    assert block.norm_filter.eps == 1e-12


def test_causal_block_click_changed_touches_only_itself_and_later_clicks_of_its_row() -> None:
    block = FrequencyBlock(8, 7, kind="moving_average", c=3)
    shake(block)
    x, view = torch.randn(14, 8), DenseView(PTR)
    other = x.clone()
    other[7] += 1  # the third click of the third row
    changed = (block(other, view) != block(x, view)).any(1).nonzero().view(-1).tolist()
    assert changed == [7, 8, 9, 10, 11]


def test_filter_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="'fourier' filter was built for rows of 7 places"):
        FrequencyFilter(4, 7)(torch.randn(12, 4), DenseView(rows(2, 6)))
    with pytest.raises(ValueError, match="'fourier' filter was built for rows of 7 places"):
        FrequencyFilter(4, 7)(torch.randn(14, 4), DenseView(PTR))
    with pytest.raises(ValueError, match="rows of 6 places, got rows of 7"):
        FrequencyFilter(4, 6, kind="moving_average")(torch.randn(14, 4), DenseView(PTR))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"c": 0}, "c must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"kind": "wavelet"}, "'fourier' or 'moving_average', got 'wavelet'"),
        ({"alpha": 1.5}, r"alpha must lie in \[0, 1\], got 1.5"),
    ],
)
def test_block_wrong_argument_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrequencyBlock(**{"hidden_channels": 8, "max_length": 5, **arguments})


def test_block_repr_names_its_sizes() -> None:
    assert repr(FrequencyBlock(8, 5, 2)) == "FrequencyBlock(8, heads=2, alpha=0.7, kind='fourier')"
    assert repr(FrequencyFilter(8, 5, 3)) == "FrequencyFilter(8, 5, 3, 'fourier')"


class Twice(torch.nn.Module):
    """Stands where a dropout does, and shows what passes through it."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize("kind", ["fourier", "moving_average"])
def test_block_dropout_acts_on_the_output_of_every_branch(kind: str) -> None:
    block = FrequencyBlock(8, 7, 2, kind=kind, alpha=0.3, dropout=0.5)
    shake(block)
    assert block.drop.share == block.attention.dropout == 0.5
    block.eval()
    block.drop = Twice()
    x, view = torch.randn(14, 8), DenseView(rows(2, 7))
    filtered = block.norm_filter(x + 2 * block.filter(x, view))
    attended = block.norm_attention(x + 2 * block.attention(x, x, view))
    mixed = 0.3 * filtered + 0.7 * attended
    expected = block.norm_feed_forward(mixed + 2 * block.lin_out(gelu(block.lin_in(mixed))))
    torch.testing.assert_close(block(x, view), expected, rtol=1e-5, atol=1e-5)
