"""Causal layers whose cost is linear in the length of a row, and whose state has a fixed size."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import Linear, Parameter
from torch.nn.functional import elu, pad

from graphseq.arguments import check_heads, check_shares, check_sizes
from graphseq.nn.attention import reset_linear
from graphseq.nn.precision import in_32_bits
from graphseq.nn.ragged import DenseView

CHUNK = 64
"""Number of clicks per chunk with explicit products; all clicks before it are one matrix."""


class LinearRecurrentUnit(torch.nn.Module):
    r"""The linear recurrent unit (Orvieto et al., ICML 2023), diagonal and complex.

    .. math::
        s_t = \lambda \odot s_{t-1} + \gamma \odot B x_t, \qquad y_t = \mathrm{Re}(C s_t)

    with :math:`\lambda = \exp(-e^{\nu} + i \theta)`, so that :math:`|\lambda| < 1`, and
    :math:`\gamma = \sqrt{1 - |\lambda|^2}`. All clicks are computed at once: step k of the scan
    adds :math:`\lambda^{2^k}` times the value :math:`2^k` clicks before, within the row. The sum
    has the same terms as the recurrence of :meth:`step`.

    Args:
        hidden_channels: Width ``d`` of clicks, and number of complex states.
        smallest, largest: Bounds of the first :math:`|\lambda|`, drawn uniformly over the ring.

    Shapes:
        x [num_clicks, d], view -> [num_clicks, d]
    """

    def __init__(self, hidden_channels: int, smallest: float = 0.5, largest: float = 0.99) -> None:
        super().__init__()
        check_sizes(hidden_channels=hidden_channels)
        check_shares(smallest=smallest, largest=largest)
        d = hidden_channels
        self.smallest, self.largest = smallest, largest
        self.nu = Parameter(torch.empty(d))
        self.theta = Parameter(torch.empty(d))
        self.lin_in = Linear(d, 2 * d, bias=False)  # B: real parts, then imaginary ones
        self.lin_out = Linear(2 * d, d)  # C
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_linear(self.lin_in)
        reset_linear(self.lin_out)
        with torch.no_grad():
            low, high = self.smallest**2, self.largest**2
            radius = (torch.rand(len(self.nu)) * (high - low) + low).sqrt()
            self.nu.copy_((-radius.log()).log())
            self.theta.copy_(torch.rand(len(self.theta)) * math.pi / 10)

    @property
    def state_size(self) -> int:
        """Numbers of the state of a row: real parts, then imaginary ones."""
        return 2 * len(self.nu)

    def forward(self, x: Tensor, view: DenseView) -> Tensor:
        rate = self._rate()
        s = self._driven(x)  # [num_clicks, d]
        back = 1
        while back < view.width:
            before = pad(torch.view_as_real(s[:-back]), (0, 0, 0, 0, back, 0))
            inside = (view.position >= back).unsqueeze(1)
            s = s + (rate * back).exp() * torch.view_as_complex(before) * inside
            back *= 2
        return self._read(s)

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output [n, d] and the state [n, 2 d] one click later."""
        real, imaginary = in_32_bits(state).chunk(2, dim=1)
        s = self._rate().exp() * torch.complex(real, imaginary) + self._driven(x)
        return self._read(s), torch.cat([s.real, s.imag], dim=1)

    # Torch makes no complex number of 16 bits: states have 32, whatever the weights and x have.

    def _rate(self) -> Tensor:
        """The logarithm of lambda, [d]."""
        return torch.complex(-in_32_bits(self.nu).exp(), in_32_bits(self.theta))

    def _driven(self, x: Tensor) -> Tensor:
        nu = in_32_bits(self.nu)
        gamma = (-torch.expm1(-2 * nu.exp())).sqrt()  # 1 - |lambda|^2, without cancellation
        real, imaginary = self.lin_in(x).to(gamma.dtype).chunk(2, dim=1)
        return gamma * torch.complex(real, imaginary)

    def _read(self, s: Tensor) -> Tensor:
        parts = torch.cat([s.real, s.imag], dim=1)
        y: Tensor = self.lin_out(parts.to(self.lin_out.weight.dtype))
        return y

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.nu)})"


class LinearAttention(torch.nn.Module):
    r"""Causal attention with a kernel instead of the softmax (Katharopoulos et al., ICML 2020).

    .. math::
        y_t = \frac{\phi(q_t)^\top S_t}{\phi(q_t)^\top z_t}, \quad
        S_t = S_{t-1} + \phi(k_t) v_t^\top, \quad z_t = z_{t-1} + \phi(k_t), \quad
        \phi(x) = \mathrm{elu}(x) + 1

    per head. A chunk of a row is computed as a masked product, and the chunks before it are one
    matrix. Time is therefore linear in the length of a row, and there is no matrix per click in
    memory.

    Args:
        hidden_channels: Width ``d``.
        heads: Attention heads; each has width ``d / heads``.

    Shapes:
        x [num_clicks, d], view -> [num_clicks, d]

    Raises:
        ValueError: If ``heads`` does not divide ``hidden_channels``.
    """

    def __init__(self, hidden_channels: int, heads: int = 1) -> None:
        super().__init__()
        check_heads(hidden_channels, heads)
        self.heads = heads
        self.channels = hidden_channels // heads
        self.lin_query = Linear(hidden_channels, hidden_channels)
        self.lin_key = Linear(hidden_channels, hidden_channels)
        self.lin_value = Linear(hidden_channels, hidden_channels)
        self.lin_out = Linear(hidden_channels, hidden_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.children():
            if isinstance(module, Linear):
                reset_linear(module)

    @property
    def state_size(self) -> int:
        """Numbers of the state of a row: S, then z, of every head."""
        return self.heads * self.channels * (self.channels + 1)

    def forward(self, x: Tensor, view: DenseView) -> Tensor:
        q, k, v = (
            view.dense(part).transpose(1, 2) for part in self._parts(x)
        )  # [num_rows, heads, width, d / heads]
        k = k * view.mask[:, None, :, None]  # phi of the padding is not zero
        v = torch.cat([v, torch.ones_like(v[..., :1])], dim=3)  # z is S of a constant value
        total = v.new_zeros(*v.shape[:2], self.channels, self.channels + 1)  # S and z so far
        earlier = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=x.device).tril()
        mixed = []
        for start in range(0, view.width, CHUNK):
            now = slice(start, start + CHUNK)
            size = q[:, :, now].size(2)
            within = (q[:, :, now] @ k[:, :, now].transpose(2, 3)) * earlier[:size, :size]
            mixed.append(within @ v[:, :, now] + q[:, :, now] @ total)
            total = total + k[:, :, now].transpose(2, 3) @ v[:, :, now]
        if not mixed:
            return x
        both = view.flat(
            torch.cat(mixed, dim=2).transpose(1, 2)
        )  # [num_clicks, heads, d/heads + 1]
        return self._read(both)

    def step(self, state: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output [n, d] and the state [n, heads * d/heads * (d/heads + 1)] one click later."""
        q, k, v = self._parts(x)  # [n, heads, d / heads]
        v = torch.cat([v, torch.ones_like(v[..., :1])], dim=2)
        total = state.view(len(x), self.heads, self.channels, self.channels + 1)
        total = total + k.unsqueeze(3) * v.unsqueeze(2)
        both = (q.unsqueeze(2).to(total.dtype) @ total).squeeze(2)
        return self._read(both.to(q.dtype)), total.flatten(1)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (
            lin(x).unflatten(1, (self.heads, self.channels))
            for lin in (self.lin_query, self.lin_key, self.lin_value)
        )
        return elu(q) + 1, elu(k) + 1, v

    def _read(self, both: Tensor) -> Tensor:
        y: Tensor = self.lin_out((both[..., :-1] / both[..., -1:]).flatten(1))
        return y

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.heads * self.channels}, heads={self.heads})"
