"""Operators of torch as ONNX has them, where torch's exporter knows no translation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from graphseq.serving.extras import need
from graphseq.serving.onnx import tracing  # noqa: F401  # registers graphseq::gru


def translations() -> dict[Any, Callable[..., Any]]:
    """Operator of torch -> its translation, as ``torch.onnx.export`` takes them."""
    op = need("onnxscript", "export_onnx", extra="onnx").opset18

    def gates(weight: Any) -> Any:
        """Gates in the order of ONNX: update, reset, new; torch has reset, update, new."""
        reset, update, new = op.Split(weight, num_outputs=3, axis=0)
        return op.Concat(update, reset, new, axis=0)

    def gru(x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        states, _ = op.GRU(
            x,
            op.Unsqueeze(gates(w_ih), [0]),
            op.Unsqueeze(gates(w_hh), [0]),
            op.Unsqueeze(op.Concat(gates(b_ih), gates(b_hh), axis=0), [0]),
            hidden_size=w_hh.shape[1],
            linear_before_reset=1,
        )
        return op.Squeeze(states, [1])  # of one direction

    return {torch.ops.graphseq.gru.default: gru}
