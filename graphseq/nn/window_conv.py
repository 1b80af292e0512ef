"""The convolutions of Caser, over the window of newest clicks that ends with every click."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter, ParameterList

from graphseq.nn.ragged import WindowView


class HorizontalConv(torch.nn.Module):
    r"""Horizontal convolutions of Caser (Tang & Wang, WSDM 2018, eq. 4-6), for every click.

    .. math::
        c_{k,h}(i) = \mathrm{ReLU}(\langle F_{k,h}, E_{i-h+1..i} \rangle + b_{k,h}), \quad
        o_{k,h} = \max_i c_{k,h}(i)

    where :math:`i` runs over the clicks of a window at which a filter of height :math:`h` can end.
    Positions before the first click are zero, and no filter ends there. In a short session the
    maximum therefore covers fewer positions, and never padding alone. The output of a filter at a
    click is the same in all windows, so it is computed once.

    Args:
        hidden_channels: Width ``d`` of embeddings.
        heights: Clicks that a filter spans, ascending.
        num_filters: Filters of each height.
        length: Clicks per window.

    Shapes:
        blocks of windows [n, width, d] from a :class:`WindowView` of this ``length`` ->
        [num_clicks, len(heights) * num_filters] in the order of its windows, or of those of
        ``ends``, a view of some of them
    """

    def __init__(
        self, hidden_channels: int, heights: Sequence[int], num_filters: int, length: int
    ) -> None:
        super().__init__()
        self.heights = list(heights)
        self.num_filters = num_filters
        self.length = length
        self.weights = ParameterList(
            torch.empty(num_filters, height, hidden_channels) for height in heights
        )  # F
        self.bias = Parameter(torch.empty(len(self.heights) * num_filters))  # b
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight, bias in zip(self.weights, self.bias.split(self.num_filters), strict=True):
            _reset_filters(weight, bias)

    def forward(
        self, blocks: Sequence[Tensor], view: WindowView, ends: WindowView | None = None
    ) -> Tensor:
        d = self.weights[0].size(-1)
        top = min(view.width, max(self.heights))
        flat = torch.cat(
            [  # filters padded to the height of the highest: one matrix product for all
                torch.nn.functional.pad(weight.flatten(1), ((top - height) * d, 0))
                for weight, height in zip(self.weights, self.heights, strict=True)
            ]
        )  # [H n_h, top * d]; negative padding crops
        cropped = [x[:, -top:].flatten(1) for x in blocks]
        c = torch.cat(
            [torch.nn.functional.linear(x, flat[:, -x.size(1) :], self.bias) for x in cropped]
        ).relu()  # [num_clicks, H n_h]
        # A filter of height h can end at any of the newest length - h + 1 clicks. After a ReLU,
        # zeros at the other places do not change the maximum.
        newest = c if ends is None else c.index_select(0, view.back(0, ends))
        done = []
        for back in range(1, view.width if ends is None else ends.width):
            going = sum(height <= self.length - back for height in self.heights)
            if going == 0:
                break
            earlier = view.back(back, ends)
            newest, over = newest.split([len(earlier), len(newest) - len(earlier)])
            done.append(over)
            reached = c[:, : going * self.num_filters].index_select(0, earlier)
            ended = newest.size(1) - reached.size(1)
            newest = torch.maximum(newest, torch.nn.functional.pad(reached, (0, ended)))
        return torch.cat([newest, *reversed(done)])  # o

    def __repr__(self) -> str:
        return f"{type(self).__name__}(heights={self.heights}, num_filters={self.num_filters})"


class VerticalConv(torch.nn.Module):
    r"""Vertical convolution of Caser (Tang & Wang, WSDM 2018, eq. 7-9): sums over the clicks.

    .. math::
        \tilde o_k = \sum_{l=1}^{L} \tilde F_{k,l} \, E_l + \tilde b_k

    without activation. The bias is in the authors' code only.

    Args:
        num_filters: Filters.
        length: Clicks ``L`` per window.

    Shapes:
        x [n, L, d], or only its last places if all earlier ones are empty -> [n, num_filters * d]
    """

    def __init__(self, num_filters: int, length: int) -> None:
        super().__init__()
        self.weight = Parameter(torch.empty(num_filters, length))  # F~
        self.bias = Parameter(torch.empty(num_filters))  # b~
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset_filters(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight[:, -x.size(1) :] @ x + self.bias.unsqueeze(1)).flatten(1)

    def __repr__(self) -> str:
        num_filters, length = self.weight.shape
        return f"{type(self).__name__}({num_filters}, length={length})"


def _reset_filters(weight: Tensor, bias: Tensor) -> None:
    """Initializes filters and biases uniformly within ``size ** -0.5``, as torch does."""
    bound = weight[0].numel() ** -0.5
    torch.nn.init.uniform_(weight, -bound, bound)
    torch.nn.init.uniform_(bias, -bound, bound)
