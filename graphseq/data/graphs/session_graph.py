"""Session graphs: nodes are the unique items of a session, edges its transitions, with counts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data


class SessionGraph(Data):
    r"""A session as a weighted directed graph (Wu et al., AAAI 2019).

    Fields: ``x`` [num_nodes] item codes in the order of first visit; ``edge_index``
    [2, num_edges] and ``edge_weight`` [num_edges], each transition once with the number of times it
    was made; ``click_index`` [num_clicks], the node of each click, oldest first; ``y``, the target
    [1] or one for each click [num_clicks]; optionally ``click_time`` and ``click_<feature>``
    [num_clicks], ``user`` [1], ``request_time`` [1].

    When graphs are batched, exactly ``edge_index`` and ``click_index`` are shifted by the nodes
    before them, whatever a feature of the clicks is called.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self.num_nodes if key in ("edge_index", "click_index") else 0

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 1 if key == "edge_index" else 0

    @property
    def num_clicks(self) -> int:
        return int(self.click_index.numel())

    @property
    def click_batch(self) -> Tensor:
        """The session of each click, int64 [num_clicks]."""
        batch = self.get("batch")
        return torch.zeros_like(self.click_index) if batch is None else batch[self.click_index]

    @property
    def click_ptr(self) -> Tensor:
        """First click of each session, and the end, int64 [num_sessions + 1]."""
        num_sessions = int(getattr(self, "num_graphs", 1))
        lengths = torch.bincount(self.click_batch, minlength=num_sessions)
        return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))

    @property
    def click_item(self) -> Tensor:
        """The item of each click, int64 [num_clicks]."""
        item: Tensor = self.x[self.click_index]
        return item


SessionGraphBatch: type[Batch] = type(Batch(_base_cls=SessionGraph))

MOST_KEYS = torch.iinfo(torch.long).max
"""Pairs of a session and an item that int64 can number."""


def build_session_graphs(
    items: Tensor,
    ptr: Tensor,
    *,
    y: Tensor | None = None,
    y_ptr: Tensor | None = None,
    click_fields: dict[str, Tensor] | None = None,
    session_fields: dict[str, Tensor] | None = None,
) -> Batch:
    """The graphs of many sessions at once, by sorting; no step is taken session by session.

    Equal, attribute by attribute, to ``Batch.from_data_list`` of the single graphs.

    Args:
        items: Item codes of all clicks, integers [num_clicks], session after session.
        ptr: First click of each session, and the end, integers [num_sessions + 1].
        y: Targets: one a session [num_sessions], or with ``y_ptr`` any number of them.
        y_ptr: First target of each session, and the end, integers [num_sessions + 1].
        click_fields: Further fields with one value a click, [num_clicks].
        session_fields: Further fields with one value a session, [num_sessions].

    Returns:
        A PyG ``Batch`` of :class:`SessionGraph`.

    Raises:
        ValueError: If an argument has the wrong type or shape, ``ptr`` does not grow at every step
            from 0 to the number of clicks, or an item is negative.
    """
    items, ptr = _integers("items", items), _integers("ptr", ptr)
    num_clicks, num_sessions = items.numel(), ptr.numel() - 1
    lengths = ptr.diff()
    _check_pointer("ptr", ptr, num_clicks, "clicks")
    if num_sessions and int(lengths.min()) <= 0:
        bad = int((lengths <= 0).int().argmax())
        raise ValueError(
            f"ptr must grow at every step, but session {bad} spans clicks {int(ptr[bad])}.."
            f"{int(ptr[bad + 1])}: leave empty sessions out."
        )
    lowest, highest = (0, 0) if num_clicks == 0 else map(int, items.aminmax())
    if lowest < 0:
        bad = int(items.argmin())
        raise ValueError(
            f"Items are codes from 0 on, but click {bad} is {lowest}, a negative one: leave "
            "clicks on unknown items out."
        )
    _check_fields(num_sessions, num_clicks, y, y_ptr, click_fields, session_fields)
    number, size = items, highest + 1
    if num_sessions * size > MOST_KEYS:  # a product of codes would overflow, one of ranks does not
        distinct, number = items.unique(return_inverse=True)
        size = distinct.numel()
    session = torch.repeat_interleave(lengths, output_size=num_clicks)  # [num_clicks]
    first = first_of_group(session * size + number)
    return assemble_session_graphs(
        items,
        ptr,
        session,
        first,
        first_transitions(first, ptr),
        y=y,
        y_ptr=y_ptr,
        click_fields=click_fields,
        session_fields=session_fields,
    )


def assemble_session_graphs(
    items: Tensor,
    ptr: Tensor,
    session: Tensor,
    first: Tensor,
    first_transition: Tensor,
    *,
    y: Tensor | None = None,
    y_ptr: Tensor | None = None,
    click_fields: dict[str, Tensor] | None = None,
    session_fields: dict[str, Tensor] | None = None,
) -> Batch:
    """The graphs of sessions whose repetitions are known; nothing is checked.

    Args:
        items, ptr, y, y_ptr, click_fields, session_fields: As in :func:`build_session_graphs`.
        session: The session of each click, int64 [num_clicks].
        first: The first click of its session on the same item, int64 [num_clicks].
        first_transition: The click that ended the same transition of its session first, int64
            [num_clicks]; the first click of a session, which ends none, holds itself.
    """
    num_clicks, num_sessions = items.numel(), ptr.numel() - 1
    position = torch.arange(num_clicks, device=items.device)
    last = ptr[1:] - 1

    # Nodes: the clicks that are the first of their session on their item.
    is_node = first == position
    nodes_before = is_node.cumsum(0)  # [num_clicks], this click included
    node_click = is_node.nonzero().view(-1)  # [num_nodes]
    click_index = nodes_before.index_select(0, first).sub_(1)  # [num_clicks]
    node_ptr = _with_zero(nodes_before.index_select(0, last))  # [num_sessions + 1]

    # Edges: the clicks that end a transition which their session had not made before.
    is_edge = (first_transition == position).index_fill_(0, ptr[:-1], False)
    edge_click = is_edge.nonzero().view(-1)  # [num_edges]
    edge_index = torch.stack(
        [click_index.index_select(0, edge_click - 1), click_index.index_select(0, edge_click)]
    )
    edge_ptr = _with_zero(is_edge.cumsum(0).index_select(0, last))  # [num_sessions + 1]
    if edge_click.numel() == num_clicks - num_sessions:
        edge_weight = torch.ones(edge_click.numel(), device=items.device)
    else:
        edge_weight = torch.bincount(first_transition).index_select(0, edge_click).float()

    # Calling the class itself would have PyG derive a class anew for every batch.
    graphs = type.__call__(SessionGraphBatch)
    store = graphs._store._mapping
    store["x"] = items.index_select(0, node_click)
    store["edge_index"] = edge_index
    store["edge_weight"] = edge_weight
    store["click_index"] = click_index
    zero = torch.zeros(num_sessions, dtype=torch.long)
    slices = {"x": node_ptr, "edge_index": edge_ptr, "edge_weight": edge_ptr, "click_index": ptr}
    increments = dict.fromkeys(slices, zero)
    increments["edge_index"] = increments["click_index"] = node_ptr[:-1]
    one_each = torch.arange(num_sessions + 1)
    if y is not None:
        store["y"] = y
        slices["y"] = one_each if y_ptr is None else y_ptr
    for fields, field_ptr in ((click_fields, ptr), (session_fields, one_each)):
        for name, values in (fields or {}).items():
            store[name], slices[name] = values, field_ptr
    for name in slices.keys() - increments.keys():
        increments[name] = zero
    store["batch"] = session.index_select(0, node_click)
    store["ptr"] = node_ptr
    graphs._num_graphs = num_sessions
    graphs._slice_dict = slices
    graphs._inc_dict = increments
    return graphs


def join_session_graphs(batches: Sequence[Batch]) -> Batch:
    """The batch of all graphs of several batches, one batch's after the other's.

    Equal, attribute by attribute, to ``Batch.from_data_list`` of the single graphs.

    Args:
        batches: At least one, as :func:`build_session_graphs` makes them, with the same fields.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    graphs = type.__call__(SessionGraphBatch)
    store = graphs._store._mapping
    starts = _starts([batch.num_nodes for batch in batches])  # nodes before each batch
    sessions = _starts([batch.num_graphs for batch in batches])
    graphs._slice_dict, graphs._inc_dict = {}, {}
    for name, slices in first._slice_dict.items():
        shifts = starts if name in ("edge_index", "click_index") else [0] * len(batches)
        parts = zip(batches, shifts, strict=True)
        store[name] = torch.cat(
            [batch[name] + shift if shift else batch[name] for batch, shift in parts],
            dim=first.__cat_dim__(name, first[name]),
        )
        before = _starts([int(batch._slice_dict[name][-1]) for batch in batches])
        pairs = zip(batches, before, strict=True)
        graphs._slice_dict[name] = torch.cat(
            [slices[:1], *(batch._slice_dict[name][1:] + start for batch, start in pairs)]
        )
        parts = zip(batches, shifts, strict=True)
        graphs._inc_dict[name] = torch.cat([b._inc_dict[name] + shift for b, shift in parts])
    numbered = zip(batches, sessions, strict=True)
    store["batch"] = torch.cat([batch.batch + start for batch, start in numbered])
    store["ptr"] = graphs._slice_dict["x"]
    graphs._num_graphs = sum(batch.num_graphs for batch in batches)
    return graphs


def newest_clicks(batch: Batch, max_length: int) -> Batch:
    """The graphs of the newest clicks of every session alone.

    Args:
        batch: Session graphs.
        max_length: Clicks kept of each session.

    Returns:
        The batch itself where no session is longer; else new graphs without ``y``: their edges are
        counted anew from the clicks that are left.
    """
    ptr = batch.click_ptr
    lengths = ptr.diff()
    if lengths.numel() == 0 or int(lengths.max()) <= max_length:
        return batch
    place_from_end = ptr[1:][batch.click_batch] - torch.arange(ptr[-1], device=ptr.device)
    kept = place_from_end <= max_length  # [num_clicks]
    click_fields = {
        name: batch[name][kept]
        for name in batch.keys()  # noqa: SIM118 (of a batch, not of a dict)
        if name.startswith("click_") and name != "click_index"
    }
    session_fields = {name: batch[name] for name in ("user", "request_time") if name in batch}
    return build_session_graphs(
        batch.click_item[kept],
        _with_zero(lengths.clamp(max=max_length).cumsum(0)),
        click_fields=click_fields,
        session_fields=session_fields,
    )


def first_of_group(key: Tensor) -> Tensor:
    """The first position that holds the same key, for every position: int64 [n] -> [n]."""
    key, order = key.sort(stable=True)
    starts = torch.ones_like(key, dtype=torch.bool)
    torch.ne(key[1:], key[:-1], out=starts[1:])
    group = starts.cumsum(0) - 1
    return torch.empty_like(order).scatter_(0, order, order[starts.nonzero().view(-1)][group])


def first_transitions(first: Tensor, ptr: Tensor) -> Tensor:
    """The click that ended the same transition of its session first, for every click.

    Args:
        first: The first click of its session on the same item, int64 [num_clicks].
        ptr: First click of each session, and the end, int64 [num_sessions + 1].

    Returns:
        int64 [num_clicks]; the first click of a session, which ends none, holds itself.
    """
    ended = torch.arange(first.numel(), device=first.device)
    starts = torch.zeros_like(ended, dtype=torch.bool).index_fill_(0, ptr[:-1], True)
    # A transition can only be a repeated one if both its clicks lie on repeated items.
    on_repeated = torch.bincount(first, minlength=first.numel())[first] > 1
    suspect = (on_repeated[1:] & on_repeated[:-1] & ~starts[1:]).nonzero().view(-1) + 1
    if suspect.numel():
        pair = first[suspect - 1] * first.numel() + first[suspect]
        ended[suspect] = suspect[first_of_group(pair)]
    return ended


def _integers(name: str, tensor: Tensor) -> Tensor:
    """A tensor of integers with one dimension, as int64."""
    if not isinstance(tensor, Tensor):
        raise ValueError(
            f"{name} must be a tensor of integers with one dimension, got {type(tensor).__name__}: "
            "torch.as_tensor makes one."
        )
    other = tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool
    if tensor.dim() != 1 or other:
        raise ValueError(
            f"{name} must be a tensor of integers with one dimension, got {tensor.dtype} "
            f"{list(tensor.shape)}."
        )
    return tensor.long()


def _check_pointer(name: str, ptr: Tensor, size: int, what: str) -> None:
    if ptr.numel() == 0 or int(ptr[0]) != 0 or int(ptr[-1]) != size:
        ends = f"{int(ptr[0])}..{int(ptr[-1])}" if ptr.numel() else "no entry"
        raise ValueError(f"{name} must run from 0 to the number of {what}, {size}, got {ends}.")


def _check_fields(
    num_sessions: int,
    num_clicks: int,
    y: Tensor | None,
    y_ptr: Tensor | None,
    click_fields: dict[str, Tensor] | None,
    session_fields: dict[str, Tensor] | None,
) -> None:
    sizes = [(name, values, num_clicks, "click") for name, values in (click_fields or {}).items()]
    sizes += [(n, values, num_sessions, "session") for n, values in (session_fields or {}).items()]
    if y is not None and y_ptr is None:
        sizes.append(("y", y, num_sessions, "session"))
    for name, values, size, owner in sizes:
        if values.dim() == 0 or len(values) != size:
            raise ValueError(
                f"{name} must have one value a {owner}, {size} of them, got shape "
                f"{list(values.shape)}."
            )
    if y_ptr is not None:
        y_ptr = _integers("y_ptr", y_ptr)
        _check_pointer("y_ptr", y_ptr, 0 if y is None else len(y), "targets")
        if y_ptr.numel() != num_sessions + 1 or bool((y_ptr.diff() < 0).any()):
            raise ValueError(
                f"y_ptr must never fall and have an entry a session and the end, "
                f"{num_sessions + 1} of them, got {y_ptr.numel()}."
            )


def _starts(sizes: Sequence[int]) -> list[int]:
    return [0, *itertools.accumulate(sizes)][:-1]


def _with_zero(ends: Tensor) -> Tensor:
    starts = ends.new_zeros(ends.numel() + 1)
    starts[1:] = ends
    return starts
