"""Ragged views against loops over rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from graphseq.nn import HSTULayers, LiGRLayers, PooledReadout, SRGNNReadout
from graphseq.nn.ragged import (
    DenseView,
    WindowView,
    cut_from_end,
    packed_order,
    ragged_range,
    sum_by_group,
)

NODES = torch.tensor([0, 1, 2, 3])
row_lengths = st.lists(st.integers(0, 9), max_size=8)
session_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def pointer(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def rows_of(values: Tensor, lengths: list[int]) -> list[Tensor]:
    return list(values.split(lengths))


@given(row_lengths)
def test_dense_view_ragged_rows_equals_row_by_row_padding(lengths: list[int]) -> None:
    values = torch.arange(1.0, 2 * sum(lengths) + 1).view(-1, 2)
    width = max(lengths, default=0)
    expected, mask = torch.zeros(len(lengths), width, 2), torch.zeros(len(lengths), width)
    for row, clicks in enumerate(rows_of(values, lengths) if lengths else []):
        expected[row, : len(clicks)] = clicks
        mask[row, : len(clicks)] = 1
    view = DenseView(pointer(lengths))
    assert torch.equal(view.dense(values), expected)
    assert torch.equal(view.mask, mask.bool())
    assert torch.equal(view.flat(view.dense(values)), values)


def test_dense_view_by_hand_gives_rows_and_positions() -> None:
    view = DenseView(torch.tensor([0, 2, 2, 5]))
    assert (view.num_rows, view.width) == (3, 3)
    assert view.batch.tolist() == [0, 0, 2, 2, 2]
    assert view.position.tolist() == [0, 1, 0, 1, 2]
    assert view.dense(torch.tensor([1, 2, 3, 4, 5])).tolist() == [[1, 2, 0], [0, 0, 0], [3, 4, 5]]
    assert repr(view) == "DenseView(3, width=3)"


def test_dense_view_of_chosen_clicks_by_hand_keeps_their_rows() -> None:
    view = DenseView(torch.tensor([0, 2, 2, 5]))
    some = view.select(torch.tensor([2, 4]))
    assert (some.num_rows, some.width) == (3, 2)
    assert some.dense(torch.tensor([3, 5])).tolist() == [[0, 0], [0, 0], [3, 5]]


@pytest.mark.parametrize(("lengths", "full"), [([2, 2], True), ([2, 1], False), ([0, 0], True)])
def test_dense_view_is_full_where_all_rows_are_of_one_length(
    lengths: list[int], full: bool
) -> None:
    assert DenseView(pointer(lengths)).is_full is full


def test_dense_view_gradient_reaches_every_click_once() -> None:
    view = DenseView(pointer([3, 1, 2]))
    values = torch.randn(6, 2, requires_grad=True)
    weight = torch.randn(6, 2)
    (view.flat(view.dense(values)) * weight).sum().backward()
    torch.testing.assert_close(values.grad, weight)


@given(row_lengths, st.integers(1, 6))
def test_window_view_of_any_rows_equals_row_by_row_windows(lengths: list[int], length: int) -> None:
    values = torch.arange(1.0, 2 * sum(lengths) + 1).view(-1, 2)
    position = torch.tensor([place for n in lengths for place in range(n)], dtype=torch.long)
    view = WindowView(position, length)
    expected = torch.zeros(len(values), length, 2)
    click = 0
    for row in rows_of(values, lengths) if lengths else []:
        for stop in range(1, len(row) + 1):
            newest = row[max(0, stop - length) : stop]
            expected[click, length - len(newest) :] = newest
            click += 1
    expected = expected[view.click]
    start = 0
    for block in view.blocks(values):
        part, width = expected[start : start + len(block)], block.size(1)
        assert torch.equal(block, part[:, length - width :])
        assert not part[:, : length - width].any()
        start += len(block)
    assert start == len(values)
    assert torch.equal(view.click[view.window], torch.arange(len(values)))
    last = expected[:, -1]
    for back, reach in enumerate(view.reach):
        assert torch.equal(last[view.back(back)], expected[:reach, length - 1 - back])
        assert not expected[reach:, length - 1 - back].any()


def test_window_view_by_hand_comes_fullest_first() -> None:
    view = WindowView(torch.tensor([0, 1, 2, 0]), 2)
    assert view.click.tolist() == [1, 2, 0, 3]
    assert view.window.tolist() == [2, 0, 1, 3]
    assert view.reach == [4, 2]
    assert view.back(1).tolist() == [2, 0]
    wide, narrow = view.blocks(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    assert wide.squeeze(2).tolist() == [[1, 2], [2, 3]]
    assert narrow.squeeze(2).tolist() == [[1], [4]]
    assert repr(view) == "WindowView(4, width=2)"


@given(row_lengths, st.integers(1, 6), st.data())
def test_window_view_of_some_clicks_holds_their_windows_alone(
    lengths: list[int], length: int, data: st.DataObject
) -> None:
    number = sum(lengths)
    position = torch.tensor([place for n in lengths for place in range(n)], dtype=torch.long)
    picked = data.draw(st.lists(st.integers(0, max(0, number - 1)), max_size=number))
    ends = torch.tensor(sorted(set(picked)) if number else [], dtype=torch.long)
    values = torch.arange(1.0, number + 1).view(-1, 1)
    view, some = WindowView(position, length), WindowView(position, length, ends)
    assert torch.equal(some.click[some.window], ends)

    def rows(of: WindowView) -> Tensor:
        blocks = of.blocks(values)
        filled = [torch.nn.functional.pad(b[:, :, 0], (length - b.size(1), 0)) for b in blocks]
        return torch.cat(filled) if filled else torch.zeros(0, length)

    assert torch.equal(rows(some)[some.window], rows(view)[view.window][ends])
    for back in range(some.width if len(ends) else 0):
        earlier = view.click[view.back(back, some)]
        assert torch.equal(earlier, some.click[: some.reach[back]] - back)


def test_window_view_of_a_row_that_began_before_holds_the_clicks_given() -> None:
    view = WindowView(torch.tensor([2, 3, 0]), 2)
    assert view.click.tolist() == [1, 0, 2]
    wide, narrow = view.blocks(torch.tensor([[1.0], [2.0], [3.0]]))
    assert wide.squeeze(2).tolist() == [[1, 2]]
    assert narrow.squeeze(2).tolist() == [[1], [3]]


@given(session_lengths)
def test_packed_order_equals_pack_sequence_of_torch(lengths: list[int]) -> None:
    values = torch.arange(float(sum(lengths)))
    packed = pack_sequence(sorted(rows_of(values, lengths), key=len, reverse=True))
    click, sizes = packed_order(pointer(lengths))
    assert torch.equal(values[click], packed.data)
    assert torch.equal(sizes, packed.batch_sizes)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=8))
def test_ragged_range_any_rows_equals_their_ranges(rows: list[tuple[int, int]]) -> None:
    start = torch.tensor([first for first, _ in rows], dtype=torch.long)
    stop = torch.tensor([first + length for first, length in rows], dtype=torch.long)
    clicks, ptr = ragged_range(start, stop)
    assert clicks.tolist() == [c for first, length in rows for c in range(first, first + length)]
    assert ptr.diff().tolist() == [length for _, length in rows]


@given(row_lengths, st.integers(1, 5))
def test_cut_from_end_any_rows_equals_slicing_backwards(lengths: list[int], length: int) -> None:
    expected, start = [0], 0
    for row in lengths:
        stops = list(range(start + row, start, -length))
        expected += stops[::-1]
        start += row
    assert cut_from_end(pointer(lengths), length).tolist() == expected


def test_cut_from_end_by_hand_leaves_the_rest_to_the_oldest_window() -> None:
    assert cut_from_end(torch.tensor([0, 7, 9]), 3).tolist() == [0, 1, 4, 7, 9]


@pytest.mark.parametrize("size", [(), (4,), (2, 3)])
def test_dense_view_values_of_any_shape_come_back(size: tuple[int, ...]) -> None:
    view = DenseView(pointer([2, 4, 1]))
    values = torch.randn(7, *size)
    assert view.dense(values).shape == (3, 4, *size)
    assert torch.equal(view.flat(view.dense(values)), values)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9)), max_size=12))
def test_sum_by_group_equals_a_loop_over_rows(pairs: list[tuple[int, int]]) -> None:
    group = torch.tensor([g for g, _ in pairs], dtype=torch.long)
    values = torch.tensor([[v, 1] for _, v in pairs], dtype=torch.float32).view(-1, 2)
    expected = torch.zeros(5, 2)
    for g, row in zip(group.tolist(), values, strict=True):
        expected[g] += row
    assert torch.equal(sum_by_group(values, group, 5), expected)


@pytest.mark.parametrize(
    ("ptr", "message"),
    [
        ([0, 3, 2, 4], "row 1 goes from 3 to 2: a row has 0 clicks or more here"),
        ([1, 3, 4], "ptr begins at 0, the first click of the first row, got 1"),
        ([[0, 4]], r"\[num_rows \+ 1\], got torch\.int64 \[1, 2\]"),
        ([0.0, 4.0], r"whole numbers \[num_rows \+ 1\], got torch\.float32 \[2\]"),
        ([], r"got torch\.float32 \[0\]"),
        ([False, True], r"got torch\.bool \[2\]"),
    ],
)
@pytest.mark.parametrize(
    "layer",
    [
        DenseView,
        lambda ptr: LiGRLayers(8)(torch.randn(4, 8), ptr),
        lambda ptr: HSTULayers(8, 5)(torch.randn(4, 8), ptr),
        lambda ptr: SRGNNReadout(8)(torch.randn(4, 8), NODES, NODES, ptr),
        lambda ptr: PooledReadout(8)(torch.randn(4, 8), NODES, NODES, ptr),
    ],
)
def test_layers_refuse_what_is_no_pointer(layer, ptr, message) -> None:
    with pytest.raises(ValueError, match=message.replace("0 clicks", "[01] clicks")):
        layer(torch.tensor(ptr))


def test_readouts_refuse_an_empty_session_that_views_allow() -> None:
    ptr = torch.tensor([0, 2, 2, 4])
    assert DenseView(ptr).num_rows == 3
    for readout in (SRGNNReadout(8), PooledReadout(8, pool="last")):
        with pytest.raises(ValueError, match="row 1 goes from 2 to 2: a row has 1 clicks or more"):
            readout(torch.randn(4, 8), NODES, NODES, ptr)
