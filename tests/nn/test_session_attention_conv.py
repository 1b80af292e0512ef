"""The session layer of GCE-GNN: which nodes attend to which, and as what."""

from __future__ import annotations

import torch

from graphseq.nn.session_attention_conv import SessionAttentionConv, relations


def test_relations_are_those_of_a_session_by_hand() -> None:
    # a b a c c: a and b go both ways, c follows a, and c's own loop says nothing more.
    edge_index = torch.tensor([[0, 1, 0, 2], [1, 0, 2, 2]])
    pairs, relation = relations(edge_index, 3)
    found = {(int(j), int(i)): int(r) for (j, i), r in zip(pairs.t(), relation, strict=True)}
    itself = {(0, 0): 0, (1, 1): 0, (2, 2): 0}
    assert found == {**itself, (0, 1): 3, (1, 0): 3, (2, 0): 1, (0, 2): 2}
    assert len(relation) == len(found)


def test_session_attention_alone_a_node_keeps_its_state() -> None:
    torch.manual_seed(0)
    h = torch.randn(2, 4)
    conv = SessionAttentionConv(4)
    torch.testing.assert_close(conv(h, torch.zeros(2, 0).long()), h)


def test_session_attention_without_preference_gives_the_mean() -> None:
    torch.manual_seed(0)
    h, conv = torch.randn(3, 4), SessionAttentionConv(4)
    torch.nn.init.zeros_(conv.attention)
    out = conv(h, torch.tensor([[0, 1], [1, 2]]))
    torch.testing.assert_close(out[1], h.mean(0))
    torch.testing.assert_close(out[0], h[:2].mean(0))


def test_session_attention_repr_is_one_line() -> None:
    assert repr(SessionAttentionConv(4)) == "SessionAttentionConv(4)"
