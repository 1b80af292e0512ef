"""The packed GRU gives torch's values and gradients, by its own passes over the steps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from graphseq.nn import PackedGRU, packed_gru
from graphseq.nn.ragged import packed_order

IN, WIDTH = 3, 4


def inputs(lengths, dtype=torch.double):
    """Packed inputs of sessions, and the order of the sessions in them."""
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    click, sizes = packed_order(ptr)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(int(ptr[-1]), IN, dtype=dtype, generator=generator)
    return x[click], sizes


def layers(num_layers=1, dtype=torch.double):
    torch.manual_seed(0)
    gru = PackedGRU(IN, WIDTH, num_layers).to(dtype)
    peer = torch.nn.GRU(IN, WIDTH, num_layers).to(dtype)
    peer.load_state_dict(gru.state_dict())
    return gru, peer


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 2), st.booleans())
def test_any_sessions_have_the_states_and_gradients_of_torch(lengths, num_layers, starts):
    gru, peer = layers(num_layers)
    x, sizes = inputs(lengths)
    weights = torch.randn(len(x), WIDTH, dtype=torch.double)
    start = torch.randn(num_layers, len(lengths), WIDTH, dtype=torch.double) if starts else None
    found = []
    for each in (gru, peer):
        read = x.clone().requires_grad_()
        given = None if start is None else start.clone().requires_grad_()
        out = each(PackedSequence(read, sizes), given)
        states = (out if each is gru else out[0]).data
        wanted = [read, *each.parameters(), *([] if given is None else [given])]
        found.append([states, *torch.autograd.grad((states * weights).sum(), wanted)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_sessions_packed_in_any_order_come_back_in_theirs():
    gru, peer = layers(2)
    packed = pack_sequence(
        [torch.randn(n, IN, dtype=torch.double) for n in (2, 5, 1, 3)], enforce_sorted=False
    )
    start = torch.randn(2, 4, WIDTH, dtype=torch.double)
    theirs, _ = peer(packed, start)
    rows = zip(unpack_sequence(gru(packed, start)), unpack_sequence(theirs), strict=True)
    for row, expected in rows:
        torch.testing.assert_close(row, expected)


def test_inputs_that_are_not_packed_are_refused():
    with pytest.raises(ValueError, match=r"^PackedGRU reads a PackedSequence, got Tensor: torch"):
        layers()[0](torch.zeros(2, 1, IN))


def test_its_own_passes_run_in_training_only(monkeypatch):
    calls = []
    own = packed_gru._Steps.apply
    monkeypatch.setattr(packed_gru._Steps, "apply", lambda *given: calls.append(1) or own(*given))
    gru, _ = layers(dtype=torch.float32)
    x, sizes = inputs([3, 2], torch.float32)
    gru(PackedSequence(x, sizes))
    assert len(calls) == 1
    with torch.no_grad():
        gru(PackedSequence(x, sizes))
    with torch.autocast("cpu", torch.bfloat16):
        gru(PackedSequence(x, sizes))
    gru.bfloat16()(PackedSequence(x.bfloat16(), sizes))
    gru.float().requires_grad_(False)(PackedSequence(x, sizes))
    assert len(calls) == 1


@pytest.mark.parametrize("trained", ["inputs", "weights"])
def test_gradients_are_made_of_what_needs_them(trained):
    gru, peer = layers()
    x, sizes = inputs([4, 1, 2])
    found = []
    for each in (gru, peer):
        each.requires_grad_(trained == "weights")
        read = x.clone().requires_grad_(trained == "inputs")
        out = each(PackedSequence(read, sizes))
        states = (out if each is gru else out[0]).data
        wanted = [read] if trained == "inputs" else list(each.parameters())
        found.append(torch.autograd.grad(states.square().sum(), wanted))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_second_derivatives_are_refused():
    gru, _ = layers()
    x, sizes = inputs([3, 2])
    states = gru(PackedSequence(x.requires_grad_(), sizes)).data
    (first,) = torch.autograd.grad(states.square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_compiled_program_does_not_grow_with_the_number_of_steps():
    gru, _ = layers()

    def size_of(lengths):
        sizes_of_graphs = []

        def backend(graph, _):
            sizes_of_graphs.append(len(graph.graph.nodes))
            return graph.forward

        def read(x, sizes):
            return gru.layer(0, 2 * x, sizes) + 1

        torch._dynamo.reset()
        x, sizes = inputs(lengths)
        found = torch.compile(read, backend=backend, dynamic=True)(x, sizes)
        torch.testing.assert_close(found, read(x, sizes))
        return sum(sizes_of_graphs)

    assert size_of([2, 1]) == size_of([9, 4])
