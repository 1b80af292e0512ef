"""Session graphs of clicks, by operations that ONNX has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graphseq.data.graphs.session_graph import SessionGraph


class OpenGraphs(SessionGraph):
    """A batch of session graphs whose sizes are open: of clicks that need not be counted again."""

    @property
    def num_graphs(self) -> Any:
        return self["open_ptr"].size(0) - 1

    @property
    def click_batch(self) -> Tensor:
        session: Tensor = self["open_batch"]
        return session

    @property
    def click_ptr(self) -> Tensor:
        ptr: Tensor = self["open_ptr"]
        return ptr

    @property
    def click_item(self) -> Tensor:
        items: Tensor = self["open_item"]
        return items


def open_graphs(items: Tensor, ptr: Tensor, fields: Mapping[str, Tensor]) -> OpenGraphs:
    """What :func:`~graphseq.data.build_session_graphs` makes, by comparison of all pairs of clicks.

    Args:
        items: int64 [num_clicks].
        ptr: int64 [num_sessions + 1].
        fields: Further fields by name.
    """
    number = torch.arange(items.size(0), device=items.device)
    session = (number.unsqueeze(1) >= ptr[1:]).sum(1)  # [num_clicks]
    together = session.unsqueeze(1) == session
    same_item = together & (items.unsqueeze(1) == items)
    first = same_item.long().argmax(1)  # the first click of its session on the same item
    is_node = first == number
    nodes_before = is_node.long().cumsum(0)
    node_click = is_node.nonzero().view(-1)  # [num_nodes]
    click_index = nodes_before[first] - 1

    before = torch.cat([first[:1], first[:-1]])
    ends = number != ptr[session]  # whether a click ends a transition
    same = together & (first.unsqueeze(1) == first) & (before.unsqueeze(1) == before)
    same = same & ends & ends.unsqueeze(1)
    edge_click = ((same.long().argmax(1) == number) & ends).nonzero().view(-1)  # [num_edges]
    return OpenGraphs(
        x=items[node_click],
        edge_index=torch.stack([click_index[edge_click - 1], click_index[edge_click]]),
        edge_weight=same.sum(1)[edge_click].float(),
        click_index=click_index,
        batch=session[node_click],
        ptr=torch.cat([ptr[:1], nodes_before[ptr[1:] - 1]]),
        open_ptr=ptr,
        open_batch=session,
        open_item=items,
        **fields,
    )


def newest(
    items: Tensor, ptr: Tensor, fields: Mapping[str, Tensor], most: int
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The newest clicks of every session, and the fields of these clicks.

    Args:
        items: int64 [num_clicks].
        ptr: int64 [num_sessions + 1].
        fields: Fields by name; those of clicks are called ``click_<name>``.
        most: Clicks kept per session.
    """
    number = torch.arange(items.size(0), device=items.device)
    session = (number.unsqueeze(1) >= ptr[1:]).sum(1)
    kept = (number >= (ptr[1:] - most)[session]).nonzero().view(-1)
    lengths = (ptr[1:] - ptr[:-1]).clamp(max=most)
    fields = {n: v[kept] if n.startswith("click_") else v for n, v in fields.items()}
    return items[kept], torch.cat([ptr[:1], lengths.cumsum(0)]), fields
