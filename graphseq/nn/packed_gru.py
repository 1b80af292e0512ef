"""A gated recurrent unit over packed sessions, whose weight gradients are one product."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import GRU
from torch.nn.functional import linear
from torch.nn.utils.rnn import PackedSequence

from graphseq.arguments import check_sizes

KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""Parameters of each layer, as torch names them."""


class PackedGRU(GRU):
    r"""``torch.nn.GRU`` over packed sessions, faster to train on a CPU where sessions are long.

    .. math::
        r_t &= \sigma(W_r x_t + b_r + U_r h_{t-1} + c_r), \quad
        z_t = \sigma(W_z x_t + b_z + U_z h_{t-1} + c_z) \\
        n_t &= \tanh(W_n x_t + b_n + r_t \odot (U_n h_{t-1} + c_n)), \quad
        h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Parameters and values are those of torch, which adds a matrix [3 d, d] to the gradient of
    :math:`U` at every step; with few sessions per step that takes most of the time. Here the
    gradients of all steps are one product. On other devices, in half precision and without
    gradients torch's own code runs. Only first derivatives exist on a CPU.

    Args:
        in_channels: Width of the inputs.
        hidden_channels: Width ``d`` of the states.
        num_layers: Number of stacked layers.
    """

    def __init__(self, in_channels: int, hidden_channels: int, num_layers: int = 1) -> None:
        check_sizes(in_channels=in_channels, hidden_channels=hidden_channels, num_layers=num_layers)
        super().__init__(in_channels, hidden_channels, num_layers)

    def weights(self, layer: int) -> list[Tensor]:
        """The parameters of a layer, in the order of :data:`KINDS`."""
        return [getattr(self, f"{kind}_l{layer}") for kind in KINDS]

    def forward(  # type: ignore[override]
        self, packed: PackedSequence, start: Tensor | None = None
    ) -> PackedSequence:
        """The states after all clicks.

        Args:
            packed: Inputs.
            start: States before the first clicks, [num_layers, num_sessions, d], in the order in
                which the sessions were packed; ``None``: zeros.

        Raises:
            ValueError: If the inputs are not packed.
        """
        if not isinstance(packed, PackedSequence):
            raise ValueError(
                f"PackedGRU reads a PackedSequence, got {type(packed).__name__}: "
                "torch.nn.utils.rnn.pack_sequence(rows, enforce_sorted=False) makes one."
            )
        states, sizes, by_length, back = packed
        if start is not None and by_length is not None:
            start = start.index_select(1, by_length)
        for layer in range(self.num_layers):
            before = None if start is None else start[layer]
            states = self.layer(layer, states, sizes, before)
        return PackedSequence(states, sizes, by_length, back)

    # A compiler would write out every step, and once more for every batch.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def layer(self, layer: int, x: Tensor, sizes: Tensor, start: Tensor | None = None) -> Tensor:
        """The states of one layer, [num_clicks, d].

        Args:
            layer: Its number.
            x: Its inputs in packed order, [num_clicks, in_channels].
            sizes: Sessions that reach each step, int64 [num_steps] on the CPU.
            start: States before the first clicks, [num_sessions, d]; ``None``: zeros.
        """
        weights = self.weights(layer)
        if start is None:
            start = x.new_zeros(int(sizes[0]), self.hidden_size)
        if not _is_trained_here(x, start, *weights):
            states, _ = torch.gru(x, sizes, start.unsqueeze(0), weights, True, 1, 0.0, True, False)
            return states
        w_ih, w_hh, b_ih, b_hh = weights
        states = _Steps.apply(linear(x, w_ih, b_ih), start, w_hh, b_hh, sizes)
        return states


def _is_trained_here(x: Tensor, *others: Tensor) -> bool:
    """Whether gradients are asked for, of single or double precision on a CPU."""
    if not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    if any(other.dtype != x.dtype for other in others):
        return False
    return any(each.requires_grad for each in (x, *others))


class _Steps(torch.autograd.Function):
    """The recurrence: one pass over the steps each way, and products over all clicks around it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, start: Tensor, weight: Tensor, bias: Tensor, sizes: Tensor
    ) -> Tensor:
        """States [num_clicks, d] from the inputs' part of the gates r, z, n: [num_clicks, 3 d]."""
        num_clicks, d = x.size(0), weight.size(1)
        h = x.new_empty(num_clicks, d)
        rz, n, u = x.new_empty(num_clicks, 2 * d), torch.empty_like(h), torch.empty_like(h)
        buffer = x.new_empty(start.size(0), 3 * d)
        transposed, before, first = weight.t(), start, 0
        for size in sizes.tolist():
            now = slice(first, first + size)
            before = before[:size]
            gates = torch.addmm(bias, before, transposed, out=buffer[:size])
            torch.add(gates[:, : 2 * d], x[now, : 2 * d], out=rz[now]).sigmoid_()
            u[now] = gates[:, 2 * d :]
            r, z = rz[now, :d], rz[now, d:]
            torch.addcmul(x[now, 2 * d :], r, u[now], out=n[now]).tanh_()
            before = torch.lerp(n[now], before, z, out=h[now])
            first += size
        ctx.save_for_backward(start, weight, sizes, h, rz, n, u)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        start, weight, sizes, h, rz, n, u = ctx.saved_tensors
        d = weight.size(1)
        r, z = rz[:, :d], rz[:, d:]
        # The state before a click stands as many places before it as sessions reached that step.
        back = sizes[:-1].repeat_interleave(sizes[1:])
        first = start.size(0)
        before = torch.cat([start, h[torch.arange(first, len(h)) - back]])

        # What the gradient of a state is multiplied by: [num_clicks, d] each.
        to_n = (1 - z) * (1 - n * n)
        to_u = to_n * r
        gates = torch.cat([to_u * u * (1 - r), (before - n) * z * (1 - z), to_u], dim=1)
        total = grad.clone()  # with what later steps add
        carry, reached = torch.zeros_like(start), 0
        stop = len(h)
        for size in reversed(sizes.tolist()):
            now = slice(stop - size, stop)
            total[now][:reached] += carry[:reached]
            parts = gates[now].view(size, 3, d)
            parts *= total[now].unsqueeze(1)
            torch.mul(total[now], z[now], out=carry[:size])
            carry[:size].addmm_(gates[now], weight)
            reached = size
            stop -= size

        _, _, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_weight = gates.t() @ before if needs_weight else None
        grad_bias = gates.sum(0) if needs_bias else None
        gates[:, 2 * d :] = total.mul_(to_n)  # the inputs' part is not multiplied by r
        return gates, carry, grad_weight, grad_bias, None
