"""States of many targets at once against a row for each of them."""

from __future__ import annotations

import pytest
import torch

from graphseq.nn.attention import TransformerBlock
from graphseq.nn.ragged import DenseView
from graphseq.nn.target_attention import history_keys, target_states

LENGTHS = [3, 0, 5]


@pytest.mark.parametrize("heads", [1, 4])
def test_target_states_equal_those_of_rows_that_end_with_each_target(heads: int) -> None:
    torch.manual_seed(0)
    block = TransformerBlock(8, heads, kind="post_norm", causal=False, activation="leaky_relu")
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    histories = [torch.randn(length, 8) for length in LENGTHS]
    targets = torch.randn(3, 4, 8)
    view = DenseView(torch.tensor([0, 3, 3, 8]))
    states = target_states(block, targets, history_keys(block, torch.cat(histories), view))
    for row, history in enumerate(histories):
        for column in range(4):
            together = torch.cat([history, targets[row, column : column + 1]])
            expected = block(together, DenseView(torch.tensor([0, len(together)])))[-1]
            torch.testing.assert_close(states[row, column], expected, rtol=1e-4, atol=1e-5)
