"""Ragged clicks as a dense view, as time steps, or as windows; index operations only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import guard_or_false


def size_of(count: Tensor) -> int:
    """A value as a size of arrays: a number, and a symbol while a model is exported."""
    size: int = count.item()  # type: ignore[assignment]
    return size


class DenseView:
    """A dense [num_rows, width] view of ragged rows, for layers that need one.

    Rows are aligned on the left and padded on the right. In a causal layer a real click therefore
    never attends to padding, and no mask is needed.

    Args:
        ptr: First click of each row, and the end, int64 [num_rows + 1]; rows may be empty.

    Attributes:
        batch: The row of each click, int64 [num_clicks].
        position: The position of each click in its row, from 0, int64 [num_clicks].
        width: Number of clicks of the longest row.

    Raises:
        ValueError: If ``ptr`` is not a pointer: it must begin at 0 and never fall.
    """

    def __init__(self, ptr: Tensor) -> None:
        check_ptr(ptr)
        ptr = ptr.long()
        lengths = ptr.diff()
        self.num_rows = lengths.numel()
        self.width = size_of(lengths.max()) if self.num_rows else 0
        self.batch = torch.repeat_interleave(lengths)
        self.position = torch.arange(self.batch.numel(), device=ptr.device) - ptr[self.batch]
        self._place = self.batch * self.width + self.position  # [num_clicks]

    @property
    def is_full(self) -> bool:
        """Whether there is no padding: all rows have the same length."""
        # While a model is exported, sizes are symbols: rows of any lengths must do.
        return guard_or_false(self._place.numel() == self.num_rows * self.width)

    @property
    def mask(self) -> Tensor:
        """Which places are clicks and not padding, bool [num_rows, width]."""
        mask = torch.zeros(self.num_rows * self.width, dtype=torch.bool, device=self._place.device)
        mask[self._place] = True
        return mask.view(self.num_rows, self.width)

    def dense(self, values: Tensor) -> Tensor:
        """Values of clicks [num_clicks, ...] as [num_rows, width, ...], zero where padded."""
        size = values.shape[1:]
        if self.is_full:
            return values.view(self.num_rows, self.width, *size)
        dense = values.new_zeros(self.num_rows * self.width, *size)
        dense = dense.index_copy(0, self._place, values)
        return dense.view(self.num_rows, self.width, *size)

    def flat(self, dense: Tensor) -> Tensor:
        """Values of places [num_rows, width, ...] as [num_clicks, ...], without the padding."""
        places = dense.flatten(0, 1)
        return places if self.is_full else places.index_select(0, self._place)

    def select(self, clicks: Tensor) -> DenseView:
        """The view of the same rows with only these clicks, in order, int64 [n]."""
        lengths = torch.bincount(self.batch[clicks], minlength=self.num_rows)
        return DenseView(torch.nn.functional.pad(lengths.cumsum(0), (1, 0)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_rows}, width={self.width})"


def check_ptr(ptr: Tensor, *, least: int = 0) -> None:
    """Refuses what does not say where rows of clicks begin and end.

    Args:
        ptr: First click of each row, and the end, int64 [num_rows + 1].
        least: Minimum number of clicks of a row.

    Raises:
        ValueError: If it has another shape or type, begins elsewhere than at 0, or a row has fewer
            clicks.
    """
    if torch.compiler.is_compiling():  # values are symbols then
        return
    whole = not (ptr.is_floating_point() or ptr.is_complex() or ptr.dtype == torch.bool)
    if ptr.dim() != 1 or ptr.numel() == 0 or not whole:
        raise ValueError(
            "ptr holds the first click of each row, and the end, whole numbers [num_rows + 1], got "
            f"{ptr.dtype} {list(ptr.shape)}."
        )
    short = ptr.diff() < least
    if bool(short.any() | (ptr[0] != 0)):  # one look at the values, which waits for an accelerator
        if int(ptr[0]) != 0:
            raise ValueError(f"ptr begins at 0, the first click of the first row, got {ptr[0]}.")
        row = int(short.nonzero()[0])
        raise ValueError(
            f"ptr holds the first click of each row, and the end, but row {row} goes from "
            f"{int(ptr[row])} to {int(ptr[row + 1])}: a row has {least} clicks or more here."
        )


def rows_of(x: Tensor, ptr: Tensor, hidden_channels: int, weight: Tensor) -> DenseView:
    """The view of rows of clicks that have such states.

    Args:
        x: States of the clicks, [num_clicks, hidden_channels].
        ptr: First click of each row, and the end, [num_rows + 1].
        hidden_channels: Their width.
        weight: A weight of the layers, for its type.

    Raises:
        ValueError: If shapes or types do not fit, or ``ptr`` is not a pointer.
    """
    if not isinstance(x, Tensor) or not isinstance(ptr, Tensor):
        raise ValueError(
            f"Rows of clicks are tensors of torch, got {type(x).__name__} and "
            f"{type(ptr).__name__}: torch.as_tensor makes them."
        )
    view = DenseView(ptr)
    num_clicks = view.batch.size(0)
    # While a model is exported, numbers of clicks are symbols, and equal.
    if x.dim() != 2 or x.size(1) != hidden_channels or guard_or_false(x.size(0) != num_clicks):
        raise ValueError(
            f"x holds a state of width {hidden_channels} for each click of ptr, "
            f"[{num_clicks}, {hidden_channels}], got {list(x.shape)}."
        )
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"x is {x.dtype} and the layers are {weight.dtype}: convert one of them, as in "
            f"x.to({weight.dtype})."
        )
    return view


class EqualRows(DenseView):
    """The view of rows of one length, which is known without a look at a pointer.

    Args:
        num_rows: Rows.
        width: Clicks of each.
        device: Where the clicks are.
    """

    is_full = True

    def __init__(self, num_rows: int, width: int, device: torch.device) -> None:
        self.num_rows, self.width = num_rows, width
        self._place = torch.arange(num_rows * width, device=device)
        self.batch = self._place // width
        self.position = self._place % width


class WindowView:
    """For every click, or some, the window of the newest clicks of its row that ends with it.

    Windows are sorted by length, longest first, so that the windows with at least k clicks are the
    first ones. They are stored in blocks of similar length: the cost of a window depends on its own
    clicks, not on the longest row.

    Args:
        position: The position of each click in its row, from 0, int64 [num_clicks]. A row may begin
            before the given clicks; the windows leave out clicks that are not given.
        length: Length of a window.
        ends: The clicks that windows end with, int64 [n]; ``None``: all.

    Attributes:
        click: The click that each window ends with, int64 [n].
        window: The window that ends with each of ``ends``, int64 [n].
        reach: Number of windows that hold the click 0, 1, ... places before their last one.
        width: Clicks of the longest window; 1 if there is none.
    """

    def __init__(self, position: Tensor, length: int, ends: Tensor | None = None) -> None:
        number = torch.arange(position.numel(), device=position.device)
        before = torch.minimum(position, number).clamp(max=length - 1)  # clicks before the last
        if ends is None:
            ends = number
        before = before[ends]
        order = before.argsort(descending=True, stable=True)
        self.click = ends[order]
        self.window = torch.empty_like(order).index_copy_(0, order, number[: order.numel()])
        counts = torch.bincount(before, minlength=1)
        self.reach: list[int] = counts.flip(0).cumsum(0).flip(0).tolist()
        self.width = len(self.reach)
        self._before = before[order]

    def blocks(self, values: Tensor) -> list[Tensor]:
        """Values of clicks [num_clicks, channels] as windows, [n, width, channels] per block.

        The blocks are in the order of the windows, from the widest to the narrowest; each is half
        as wide as the one before. A window is aligned on the right: its last place holds the click
        itself, and places without a click are zero.
        """
        nothing = len(values)
        values = torch.cat([values, values.new_zeros(1, values.size(1))])
        blocks, start, width = [], 0, self.width
        while width:
            stop = self.reach[width // 2]
            back = torch.arange(width - 1, -1, -1, device=values.device)
            missing = back > self._before[start:stop].unsqueeze(1)  # [n, width]
            place = (self.click[start:stop].unsqueeze(1) - back).masked_fill_(missing, nothing)
            blocks.append(torch.nn.functional.embedding(place, values))
            start, width = stop, width // 2
        return blocks

    def back(self, clicks: int, ends: WindowView | None = None) -> Tensor:
        """The windows that end ``clicks`` earlier than the first ones, int64 [reach[clicks]].

        Args:
            clicks: How many.
            ends: The view of the windows that end later; ``None``: this one, which has all windows.
        """
        ends = self if ends is None else ends
        return self.window[ends.click[: ends.reach[clicks]] - clicks]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.click.numel()}, width={self.width})"


def packed_order(ptr: Tensor) -> tuple[Tensor, Tensor]:
    """The clicks step by step, in the order of a ``PackedSequence``: longest session first.

    Args:
        ptr: First click of each session, and the end, int64 [num_sessions + 1].

    Returns:
        The click at each packed place, int64 [num_clicks] (all first clicks, then all second ones,
        ...), and the number of sessions that reach each step, int64 [num_steps] on the CPU.
    """
    view = DenseView(ptr)
    lengths = ptr.diff()
    longest_first = lengths.argsort(descending=True, stable=True)
    rank = torch.empty_like(longest_first)
    rank[longest_first] = torch.arange(view.num_rows, device=ptr.device)
    sizes = torch.bincount(view.position, minlength=view.width)  # [num_steps]
    place = (sizes.cumsum(0) - sizes)[view.position] + rank[view.batch]  # [num_clicks]
    click = torch.empty_like(place)
    click[place] = torch.arange(place.numel(), device=ptr.device)
    return click, sizes.cpu()


def ragged_range(start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """The clicks ``start..stop - 1`` of every row, row by row.

    Args:
        start: First click of each row, int64 [num_rows].
        stop: The click after its last, int64 [num_rows]; at least ``start``.

    Returns:
        Clicks, int64 [n], and the rows' pointer into them, int64 [num_rows + 1].
    """
    lengths = stop - start
    ptr = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    shift = torch.repeat_interleave(start - ptr[:-1], lengths)  # [n]
    return shift + torch.arange(shift.numel(), device=start.device), ptr


def sum_by_group(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """The sum of the rows of each group; its backward pass is a plain look-up.

    Args:
        values: [n, ...].
        group: The group of each row, int64 [n], in any order.
        num_groups: Number of groups; the sum of a group without rows is zero.

    Returns:
        [num_groups, ...].
    """
    zeros = values.new_zeros(num_groups, *values.shape[1:])
    return zeros.index_add_(0, group, values)


def cut_from_end(ptr: Tensor, length: int) -> Tensor:
    """The pointer of consecutive windows that split each row, starting from its end.

    All windows of a row hold ``length`` clicks, except the oldest, which holds the rest.

    Args:
        ptr: First click of each row, and the end, int64 [num_rows + 1].
        length: Clicks of a window.

    Returns:
        int64 [num_windows + 1], from 0 to the number of clicks.
    """
    lengths = ptr.diff()
    windows = torch.div(lengths + length - 1, length, rounding_mode="floor")  # [num_rows]
    row = torch.repeat_interleave(windows)  # [num_windows]
    last_window = windows.cumsum(0)[row] - 1
    later = last_window - torch.arange(row.numel(), device=ptr.device)  # windows after this one
    stop = ptr[1:][row] - later * length
    return torch.cat([ptr[:1], stop])
