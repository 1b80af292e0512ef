"""What torch does in a model, in forms that keep every size open when it is exported to ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode

from graphseq.nn.packed_gru import PackedGRU
from graphseq.nn.ragged import sum_by_group


class OpenSizes(TorchFunctionMode):
    """Replaces the few functions whose results have sizes that only their values tell.

    A count of groups and a run of repetitions give torch's exporter sizes that it cannot relate to
    those of the inputs. Within this context each one is done by operations of which all sizes
    follow from the inputs. Values are the same.

    Args:
        most: No row is longer; ``None``: not known.
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self.most = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = REPLACED.get(func, func)(*args, **(kwargs or {}))
        if func is Tensor.item and self.most is not None and isinstance(found, torch.SymInt):
            torch._check(found <= self.most)
        return found


def _bincount(index: Tensor, weights: Tensor | None = None, minlength: Any = 0) -> Tensor:
    """Counts of ``minlength`` groups, of which no other occurs."""
    return sum_by_group(torch.ones_like(index), index, minlength)


def _repeat_interleave(values: Tensor, repeats: Tensor | None = None, dim: int = 0) -> Tensor:
    """Rows, or their numbers, each as often as it is counted."""
    counts = values if repeats is None else repeats
    ends = counts.cumsum(0)
    number = torch.arange(_item(ends[-1]), device=counts.device)
    row = (number.unsqueeze(1) >= ends).sum(1)
    return row if repeats is None else values.index_select(0, row)


def _item(size: Tensor) -> Any:
    """A size that is a value, which torch does not take for a special one."""
    number = size.item()
    if isinstance(number, torch.SymInt):
        torch._check(number >= 2)
    return number


def _isin(elements: Tensor, among: Tensor) -> Tensor:
    """Which elements [n] are among others [m]."""
    return (elements.unsqueeze(1) == among).any(1)


def _bucketize(values: Tensor, edges: Tensor, right: bool = False) -> Tensor:
    """How many edges [m] lie at or below each value [n]; with ``right=False`` below it."""
    values = values.unsqueeze(1)
    return ((edges <= values) if right else (edges < values)).sum(1)


def _argsort(values: Tensor, descending: bool = False, stable: bool = False) -> Tensor:
    """The order of values [n]; of equal ones the first comes first."""
    n = values.size(0)
    number = torch.arange(n, device=values.device)
    keys = values * n + (-number if descending else number)  # no two are equal
    return keys.sort(descending=descending)[1]


REPLACED: dict[Any, Callable[..., Any]] = {
    Tensor.item: _item,
    Tensor.argsort: _argsort,
    torch.bincount: _bincount,
    torch.bucketize: _bucketize,
    torch.isin: _isin,
    torch.repeat_interleave: _repeat_interleave,
    Tensor.repeat_interleave: _repeat_interleave,
}


@torch.library.custom_op("graphseq::gru", mutates_args=())
def dense_gru(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """A layer of a GRU over dense steps from a state of zeros; ONNX has it as one operator.

    Args:
        x: [num_steps, num_rows, in_channels].
        w_ih, w_hh, b_ih, b_hh: As ``torch.nn.GRU`` has them.

    Returns:
        States, [num_steps, num_rows, hidden_channels].
    """
    start = x.new_zeros(1, x.size(1), w_hh.size(1))
    weights = [w_ih, w_hh, b_ih, b_hh]
    return torch.gru(x, start, weights, True, 1, 0.0, False, False, False)[0]


@dense_gru.register_fake
def _(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return x.new_empty(x.size(0), x.size(1), w_hh.size(1))


def dense_steps(
    gru: PackedGRU, x: Tensor, step: Tensor, row: Tensor, num_steps: Any, num_rows: Any
) -> Tensor:
    """States of all layers' last one over dense steps, from states of zeros.

    Args:
        gru: The layers, of one direction.
        x: What is read, [n, in_channels].
        step, row: The place of each, int64 [n].
        num_steps, num_rows: Sizes.

    Returns:
        [num_steps, num_rows, hidden_channels].
    """
    dense = x.new_zeros(num_steps, num_rows, x.size(1)).index_put((step, row), x)
    for place in range(gru.num_layers):
        dense = dense_gru(dense, *gru.weights(place))
    return dense


class DenseGRU(torch.nn.Module):
    """A GRU that walks over packed steps by way of a dense array of them: ONNX packs nothing.

    Args:
        gru: The layers, of one direction.
    """

    def __init__(self, gru: PackedGRU) -> None:
        super().__init__()
        self.gru = gru
        self.num_layers = gru.num_layers

    def forward(self, packed: PackedSequence) -> PackedSequence:
        """As :meth:`PackedGRU.forward` from states of zeros."""
        x, sizes = packed.data, packed.batch_sizes
        ends = sizes.cumsum(0)
        number = torch.arange(x.size(0), device=x.device)
        step = (number.unsqueeze(1) >= ends).sum(1)  # [n]
        row = number - (ends - sizes)[step]
        found = dense_steps(self.gru, x, step, row, sizes.size(0), sizes[0].item())
        return PackedSequence(found[step, row], sizes)
