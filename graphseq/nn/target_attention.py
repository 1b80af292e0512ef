"""States of many targets that follow the same history, from one transformer block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphseq.nn.attention import TransformerBlock
from graphseq.nn.dropout import dropout
from graphseq.nn.ragged import DenseView


@dataclass(frozen=True)
class HistoryKeys:
    """Keys and values of histories, which are the same for all targets.

    Args:
        keys, values: [num_rows, heads, width, d / heads].
        mask: Which places hold a click, bool [num_rows, width].
    """

    keys: Tensor
    values: Tensor
    mask: Tensor


def history_keys(block: TransformerBlock, x: Tensor, view: DenseView) -> HistoryKeys:
    """Keys and values of the clicks of histories.

    Args:
        block: A ``"post_norm"`` block, which computes keys and values from the states directly.
        x: Clicks of all histories, [num_clicks, d].
        view: The histories; a row may be empty.
    """
    heads = (block.attention.heads, -1)
    keys = view.dense(block.attention.lin_key(x).unflatten(1, heads)).transpose(1, 2)
    values = view.dense(block.attention.lin_value(x).unflatten(1, heads)).transpose(1, 2)
    return HistoryKeys(keys, values, view.mask)


def target_states(block: TransformerBlock, targets: Tensor, history: HistoryKeys) -> Tensor:
    r"""The states of targets, each computed as the last click of its own row after the history.

    Each target attends to its history and to itself, and to no other target, exactly as

    .. math::
        \mathrm{softmax}\big([q_c K^\top, \; q_c k_c] / \sqrt{d / heads}\big) [V; v_c]

    in its own row; but keys and values of the history are computed once for all targets.

    Args:
        block: A bidirectional ``"post_norm"`` block.
        targets: [num_rows, C, d].
        history: Keys and values of these rows.

    Returns:
        [num_rows, C, d].
    """
    attention = block.attention
    heads = (attention.heads, -1)
    q = attention.lin_query(targets).unflatten(2, heads).transpose(1, 2)  # [rows, heads, C, d/h]
    k = attention.lin_key(targets).unflatten(2, heads).transpose(1, 2)
    v = attention.lin_value(targets).unflatten(2, heads).transpose(1, 2)
    q = q * q.size(-1) ** -0.5
    logits = q @ history.keys.transpose(2, 3)  # [rows, heads, C, width]
    logits = logits.masked_fill(~history.mask[:, None, None], -torch.inf)
    own = (q * k).sum(-1, keepdim=True)  # [rows, heads, C, 1]
    weights = torch.cat([logits, own], dim=-1).softmax(-1)
    weights = dropout(weights, attention.dropout, block.training)
    mixed = weights[..., :-1] @ history.values + weights[..., -1:] * v
    out = mixed.transpose(1, 2).flatten(2)  # [rows, C, d]
    out = out if attention.lin_out is None else attention.lin_out(out)
    x = block.norm_attention(targets + block.drop(out))
    states: Tensor = block.norm_feed_forward(x + block.feed_forward(x))
    return states
