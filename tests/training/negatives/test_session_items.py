"""What sessions hold, by keys, against sets in plain Python."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch

from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.loading.session_parallel import SessionParallelLoader
from graphseq.data.sessions.sessions import Sessions
from graphseq.training.negatives.session_items import SeenItems

NUM_ITEMS = 6


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int]], list[int], list[int], list[int]]:
    item = st.integers(0, NUM_ITEMS - 1)
    sessions = draw(st.lists(st.lists(item, min_size=1, max_size=5), min_size=1, max_size=4))
    session = draw(st.lists(st.integers(0, len(sessions) - 1), max_size=6))
    targets = draw(st.lists(item, min_size=len(session), max_size=len(session)))
    return sessions, session, targets, draw(st.lists(item, max_size=7))


@given(cases())
def test_seen_items_are_those_of_clicks_and_targets_of_the_session_and_no_others(
    case: tuple[list[list[int]], list[int], list[int], list[int]],
) -> None:
    sessions, session, targets, negatives = case
    lengths = torch.tensor([0, *map(len, sessions)])
    batch = build_session_graphs(torch.tensor([i for s in sessions for i in s]), lengths.cumsum(0))
    seen = SeenItems(batch, torch.tensor(session).long(), torch.tensor(targets).long(), NUM_ITEMS)
    held = [set(items) for items in sessions]
    for number, target in zip(session, targets, strict=True):
        held[number].add(target)
    expected = [[item in held[s] for item in negatives] for s in session]
    items = torch.tensor(negatives).long()
    among = seen.among(items.expand(len(session), -1))
    assert among.tolist() == expected
    row, column = seen.cells(items)
    cells = [(i, j) for i, line in enumerate(expected) for j, yes in enumerate(line) if yes]
    assert sorted(zip(row.tolist(), column.tolist(), strict=True)) == cells
    assert row.tolist() == sorted(row.tolist())


def test_seen_items_of_an_empty_batch_are_none() -> None:
    batch = build_session_graphs(torch.zeros(0).long(), torch.tensor([0]))
    none = torch.zeros(0).long()
    seen = SeenItems(batch, none, none, NUM_ITEMS)
    assert seen.among(none.view(0, 3)).shape == (0, 3)
    assert [each.numel() for each in seen.cells(torch.tensor([1, 2]))] == [0, 0]


def test_seen_items_are_those_of_the_sample_not_of_its_whole_session() -> None:
    sessions = Sessions.from_lists([[0, 1, 2, 3, 4]])
    prefixes = SessionGraphDataset(sessions, max_length=2)
    whole = SessionGraphDataset(sessions, "sessions")
    assert held(prefixes.batch(range(4))) == [{0, 1}, {0, 1, 2}, {1, 2, 3}, {2, 3, 4}]
    assert held(whole.batch([0])) == [{0, 1, 2, 3, 4}] * 4
    lanes = [held(batch) for batch in SessionParallelLoader(whole, 1)]
    assert lanes == [[{0, 1}], [{1, 2}], [{2, 3}], [{3, 4}]]


def held(batch: Batch) -> list[set[int]]:
    """What counts as seen for each row of a batch."""
    per_click = batch.y.numel() > batch.num_graphs
    session = batch.click_batch if per_click else torch.arange(batch.num_graphs)
    seen = SeenItems(batch, session, batch.y, 5).among(torch.arange(5).expand(len(session), -1))
    return [set(row.nonzero().view(-1).tolist()) for row in seen]
