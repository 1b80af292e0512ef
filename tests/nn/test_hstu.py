"""HSTU's layers against RecTools' recorded states and against loops over pairs of clicks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from graphseq.nn import HSTULayer, HSTULayers, TimeBuckets
from graphseq.nn.hstu import next_time, time_buckets
from graphseq.nn.ragged import DenseView

FIXTURES = Path(__file__).parent.parent / "fixtures"
LENGTHS = [4, 1, 7, 2]
PTR = torch.tensor([0, *LENGTHS]).cumsum(0)
TIME = torch.tensor([0, 5, 5, 900, 77, 0, 1, 3, 3, 70, 5000, 9**9, 12, 11])
REQUEST = torch.tensor([901, 80, 2 * 9**9, 3600])


@pytest.fixture(params=["a", "b"])
def published(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURES / f"hstu_published_{request.param}.npz"))


def layers_and_clicks(
    published: dict[str, np.ndarray],
) -> tuple[HSTULayers, Tensor, Tensor, Tensor, Tensor]:
    """The layers, x, ptr, and the times of clicks and requests, taken apart."""
    layers = HSTULayers.from_published(
        {k.removeprefix("param."): v for k, v in published.items() if k.startswith("param.")},
        heads=int(published["num_heads"]),
        max_length=int(published["max_length"]),
    )
    lengths = published["lengths"]
    parts = torch.from_numpy(published["time"]).split((lengths + 1).tolist())
    ptr = torch.from_numpy(np.concatenate([[0], lengths.cumsum()]))
    click_time = torch.cat([part[:-1] for part in parts])
    request_time = torch.stack([part[-1] for part in parts])
    return layers, torch.from_numpy(published["x"]), ptr, click_time, request_time


def shake(module: torch.nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)


def test_hstu_published_weights_give_published_states(published: dict[str, np.ndarray]) -> None:
    layers, x, ptr, click_time, request_time = layers_and_clicks(published)
    actual = layers(x, ptr, click_time, request_time)
    torch.testing.assert_close(actual, torch.from_numpy(published["hidden"]), rtol=1e-5, atol=1e-5)


def test_hstu_published_states_in_float_seconds_and_in_another_order_are_the_same(
    published: dict[str, np.ndarray],
) -> None:
    layers, x, ptr, click_time, request_time = layers_and_clicks(published)
    hidden = torch.from_numpy(published["hidden"])
    actual = layers(x, ptr, click_time.double(), request_time.double())
    torch.testing.assert_close(actual, hidden, rtol=1e-5, atol=1e-5)
    for start, stop, asked in zip(ptr[:-1], ptr[1:], request_time, strict=True):
        alone = layers(
            x[start:stop], torch.stack([ptr[0], stop - start]), click_time[start:stop], asked[None]
        )
        torch.testing.assert_close(alone, hidden[start:stop], rtol=1e-5, atol=1e-5)


def naive(layer: HSTULayer, x: Tensor, time: list[float], target: float | None) -> Tensor:
    """One row, one click, one head and one pair at a time."""
    u, v, q, k = silu(layer.norm_in(x) @ layer.weight).split(layer.widths, dim=1)
    out = []
    for t in range(len(x)):
        asked = time[t] if target is None else [*time, target][t + 1]
        heads = []
        for head in range(layer.heads):
            wide, narrow = layer.widths[1] // layer.heads, layer.widths[2] // layer.heads
            part, inner = (slice(head * width, (head + 1) * width) for width in (wide, narrow))
            mixed = torch.zeros(wide)
            for j in range(t + 1):
                logit = q[t, inner] @ k[j, inner]
                if layer.position_bias is not None:
                    logit = logit + layer.position_bias[layer.max_length - 1 + j - t]
                if layer.time_bias is not None:
                    bucket = int(math.log(max(abs(asked - time[j]), 1)) / 0.301)
                    logit = logit + layer.time_bias[min(bucket, len(layer.time_bias) - 1)]
                mixed = mixed + silu(logit) / layer.max_length * v[j, part]
            heads.append(mixed)
        out.append(torch.cat(heads))
    return x + layer.lin_out(u * layer.norm_out(torch.stack(out)))


@pytest.mark.parametrize("target", [True, False])
@pytest.mark.parametrize("relative_position", [True, False])
@pytest.mark.parametrize("num_buckets", [0, 6, 129])
def test_hstu_ragged_rows_equal_pair_by_pair(
    target: bool, relative_position: bool, num_buckets: int
) -> None:
    layers = HSTULayers(
        6,
        9,
        1,
        2,
        linear_channels=4,
        attention_channels=5,
        relative_position=relative_position,
        num_buckets=num_buckets,
    )
    shake(layers)
    x = torch.randn(14, 6)
    parts = zip(x.split(LENGTHS), TIME.split(LENGTHS), REQUEST.tolist(), strict=True)
    expected = [
        naive(layers.layers[0], row, time.tolist(), asked if target else None)
        for row, time, asked in parts
    ]
    actual = layers(x, PTR, TIME, REQUEST if target else None)
    torch.testing.assert_close(actual, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_hstu_without_times_has_no_bias_of_time() -> None:
    layers, plain = HSTULayers(8, 7, 2, 2), HSTULayers(8, 7, 2, 2, num_buckets=0)
    shake(layers)
    plain.load_state_dict({k: v for k, v in layers.state_dict().items() if "time_bias" not in k})
    x = torch.randn(14, 8)
    assert torch.equal(layers(x, PTR), plain(x, PTR))
    assert torch.equal(plain(x, PTR, TIME, REQUEST), plain(x, PTR))
    assert not torch.allclose(layers(x, PTR, TIME), plain(x, PTR))


def test_hstu_click_changed_touches_only_itself_and_later_clicks_of_its_row() -> None:
    layers = HSTULayers(8, 7, 2, 2)
    shake(layers)
    x = torch.randn(14, 8)
    other, later = x.clone(), TIME.clone()
    other[7] += 1
    later[7] += 1000
    before = layers(x, PTR, TIME)
    changed = (layers(other, PTR, later) != before).any(1).nonzero().view(-1).tolist()
    assert changed == [7, 8, 9, 10, 11]
    # The target's time is the next click's: the one before knows of it, and no other.
    changed = (layers(x, PTR, later, REQUEST) != layers(x, PTR, TIME, REQUEST)).any(1)
    assert changed.nonzero().view(-1).tolist() == [6, 7, 8, 9, 10, 11]


def test_next_time_is_the_next_clicks_and_at_a_rows_end_the_requests() -> None:
    asked = next_time(torch.tensor([0, 2, 2, 3]), TIME[:3], torch.tensor([7, 8, 9]))
    assert asked.tolist() == [5, 7, 9]


def test_time_buckets_are_floored_logarithms_of_seconds() -> None:
    view = DenseView(torch.tensor([0, 3]))
    time = torch.tensor([0.0, 2.0, 100.0])
    # log(2) / .301 = 2.303, log(98) / .301 = 15.23, log(100) / .301 = 15.30
    expected = [[0, 2, 15], [2, 0, 15], [15, 15, 0]]
    assert time_buckets(view, time, time, 129).tolist() == [expected]
    assert time_buckets(view, time, time, 3).tolist() == [[[0, 2, 2], [2, 0, 2], [2, 2, 0]]]


class Twice(torch.nn.Module):
    """Stands where a dropout does, and shows what passes through it."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_hstu_dropout_acts_on_the_gated_values() -> None:
    layers = HSTULayers(8, 7, 1, 2, dropout=0.5)
    shake(layers)
    (layer,) = layers.layers
    assert layer.drop.share == 0.5
    layers.eval()
    x, bias = torch.randn(14, 8), layer.lin_out.bias
    gated = layers(x, PTR, TIME) - x - bias
    layer.drop = Twice()
    torch.testing.assert_close(layers(x, PTR, TIME), x + 2 * gated + bias, rtol=1e-5, atol=1e-5)


def test_hstu_dropout_works_in_training_alone() -> None:
    layers = HSTULayers(8, 7, dropout=0.5)
    x = torch.randn(14, 8)
    assert not torch.equal(layers(x, PTR), layers(x, PTR))
    layers.eval()
    assert torch.equal(layers(x, PTR), layers(x, PTR))


def test_hstu_rows_too_long_and_requests_without_clicks_times_are_refused() -> None:
    layers = HSTULayers(8, 6)
    with pytest.raises(ValueError, match="rows of at most 6 clicks, got one of 7"):
        layers(torch.randn(14, 8), PTR)
    with pytest.raises(ValueError, match="request_time needs click_time: pass both"):
        HSTULayers(8, 7)(torch.randn(14, 8), PTR, None, REQUEST)


def test_hstu_states_and_times_of_other_clicks_are_refused() -> None:
    layers, x = HSTULayers(8, 7), torch.randn(14, 8)
    for wrong in (x[:-1], x[:, :7], x[None], torch.randn(15, 8)):
        with pytest.raises(ValueError, match=r"of width 8 for each click of ptr, \[14, 8\]"):
            layers(wrong, PTR)
    with pytest.raises(ValueError, match="are tensors of torch, got ndarray and Tensor"):
        layers(x.numpy(), PTR)
    with pytest.raises(ValueError, match=r"one click_time per click, \[14\], got \[13\]"):
        layers(x, PTR, TIME[:-1])
    with pytest.raises(ValueError, match=r"one request_time per row, \[\d\], got \[1\]"):
        layers(x, PTR, TIME, REQUEST[:1])
    assert torch.equal(layers(x, PTR.int(), TIME, REQUEST), layers(x, PTR, TIME, REQUEST))


def test_hstu_times_and_states_of_wrong_types_are_refused() -> None:
    layers, x = HSTULayers(8, 7), torch.randn(14, 8)
    for wrong, kind in ((TIME.tolist(), "list"), (TIME > 5, r"torch\.bool")):
        with pytest.raises(ValueError, match=f"click_time is a tensor of real numbers, got {kind}"):
            layers(x, PTR, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="request_time is a tensor of real numbers, got list"):
        layers(x, PTR, TIME, REQUEST.tolist())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x is torch\.float64 and the layers are torch\.float32"):
        layers(x.double(), PTR)


def test_hstu_times_that_hold_no_single_seconds_are_refused() -> None:
    # float32 holds every second up to 2^24; today's unix times differ by steps of 128 s.
    layers, x = HSTULayers(8, 7), torch.randn(14, 8)
    late = TIME.clamp(max=2**24)
    assert torch.equal(layers(x, PTR, late.float()), layers(x, PTR, late))
    with pytest.raises(ValueError, match=r"rounded to more than a second in torch\.float32"):
        layers(x, PTR, (TIME + 1_700_000_000).float())
    with pytest.raises(ValueError, match=r"request_time of 7.*rounded to more than a second"):
        layers(x, PTR, late.float(), REQUEST.float())


def test_hstu_published_weights_that_do_not_fit_are_refused(
    published: dict[str, np.ndarray],
) -> None:
    given = {k.removeprefix("param."): v for k, v in published.items() if k.startswith("param.")}
    with pytest.raises(ValueError, match="heads must divide the widths of the weights, got 7"):
        HSTULayers.from_published(given, heads=7, max_length=9)
    lacking = {k: v for k, v in given.items() if k != "stu_blocks.0.norm_input.bias"}
    with pytest.raises(ValueError, match=r"HSTU lack stu_blocks\.0\.norm_input\.bias\."):
        HSTULayers.from_published(lacking, heads=2, max_length=9)
    without = {k: v for k, v in given.items() if "pos_weights" not in k}
    with pytest.raises(ValueError, match="max_length must be given"):
        HSTULayers.from_published(without)


def test_hstu_published_projection_that_does_not_fit_is_refused_by_name(
    published: dict[str, np.ndarray],
) -> None:
    given = {k.removeprefix("param."): v for k, v in published.items() if k.startswith("param.")}
    whole = given["stu_blocks.0.uvqk_proj"]
    for wrong in (whole[:-1], whole.T, whole[:, : whole.shape[1] // 3], whole[:, :-1]):
        shape = rf"\[{wrong.shape[0]}, {wrong.shape[1]}\]"
        with pytest.raises(ValueError, match=rf"^stu_blocks\.0\.uvqk_proj of .* has shape {shape}"):
            HSTULayers.from_published(given | {"stu_blocks.0.uvqk_proj": wrong}, 1, 9)


def test_hstu_position_biases_tell_max_length() -> None:
    published = dict(np.load(FIXTURES / "hstu_published_a.npz"))
    given = {k.removeprefix("param."): v for k, v in published.items() if k.startswith("param.")}
    assert HSTULayers.from_published(given, heads=3).max_length == int(published["max_length"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 3}, "heads must divide hidden_channels, got 3 heads for 8"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"linear_channels": 0}, "linear_channels must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"heads": True}, "heads must be a whole number of at least 1, got True"),
        ({"num_buckets": -1}, "num_buckets must be at least 0, got -1"),
    ],
)
def test_hstu_wrong_argument_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HSTULayers(**{"hidden_channels": 8, "max_length": 5, **arguments})


def test_hstu_repr_names_its_sizes() -> None:
    assert repr(HSTULayer(8, 5, 2)) == "HSTULayer(8, heads=2)"


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_hstu_times_that_are_not_finite_are_refused(wrong: float) -> None:
    layers, x = HSTULayers(8, 7), torch.randn(14, 8)
    click, request = TIME.double().clone(), REQUEST.double().clone()
    click[5], request[2] = wrong, wrong
    with pytest.raises(ValueError, match=f"click_time .* 1 of 14 .* first is {wrong} at 5"):
        layers(x, PTR, click, REQUEST)
    with pytest.raises(ValueError, match=f"request_time .* the first is {wrong} at 2"):
        layers(x, PTR, TIME, request)


def test_time_buckets_of_spans_that_are_not_finite_are_refused_where_known() -> None:
    buckets, seconds = TimeBuckets(5, 3), torch.tensor([1.0, torch.nan])
    with pytest.raises(ValueError, match="seconds must be finite, but 1 of 2 are not"):
        buckets(seconds)
    found = buckets(seconds.nan_to_num(), known := torch.tensor([True, False]))
    assert torch.equal(buckets(seconds, known), found)
