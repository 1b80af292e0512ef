"""Session graphs: nodes are the unique items of a session, edges its transitions with counts."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.data.storage import E_KEYS, N_KEYS, GlobalStorage
from torch_geometric.utils import coalesce

from graphseq.ragged import ptr_of

SHIFTED = ("edge_index", "click_index")
"""Fields with node numbers: batching shifts them by the number of nodes before."""


class SessionGraphStorage(GlobalStorage):
    """A PyG storage that identifies node and edge fields by name, while PyG uses their size.

    A session may have as many clicks as nodes, or one node and one user. By size, transforms of PyG
    would then change its clicks, targets and users as if they were nodes. Fields that are not
    listed here, such as fields that a transform adds, are recognized by size, as in PyG.
    """

    _session_fields: frozenset[str] = frozenset()
    """Names of fields with one value per session; ``y`` is one of them in prefixes."""

    def _kind(self, key: str) -> Literal["node", "edge", "other"] | None:
        """The owner of a field by its name; ``None``: the name does not show it."""
        if key in self._session_fields or key in ("y", "user", "request_time"):
            return "other"
        if key.startswith(("y_", "click_", "session_")) or key == "ptr" or key.endswith("_ptr"):
            return "other"
        if key in E_KEYS or key.startswith("edge_"):
            return "edge"
        return "node" if key in N_KEYS or key.startswith("node_") else None

    def is_node_attr(self, key: str) -> bool:
        kind = self._kind(key)
        return super().is_node_attr(key) if kind is None else kind == "node"

    def is_edge_attr(self, key: str) -> bool:
        kind = self._kind(key)
        return super().is_edge_attr(key) if kind is None else kind == "edge"

    def coalesce(self, reduce: str = "sum") -> Self:
        """Sorts edges and merges equal ones, with all edge fields; PyG drops weights."""
        names = [name for name in self.edge_attrs() if name != "edge_index"]
        self["edge_index"], values = coalesce(
            self["edge_index"], [self[name] for name in names], self.num_nodes, reduce=reduce
        )
        for name, value in zip(names, values, strict=True):
            self[name] = value
        return self


class SessionGraph(Data):
    r"""A session as a weighted directed graph (Wu et al., AAAI 2019).

    Fields: ``x`` [num_nodes] item codes in the order of first visit. ``edge_index`` [2, num_edges]
    and ``edge_weight`` [num_edges] hold each transition once, with its count. ``click_index``
    [num_clicks] is the node of each click, oldest first. ``y`` is the target [1], or one per click
    [num_clicks]. Optional: ``click_time`` and ``click_<feature>`` [num_clicks], ``user`` [1],
    ``request_time`` [1].

    When graphs are batched, exactly ``edge_index`` and ``click_index`` are shifted by the number of
    nodes before them, independent of the names of click features. Models read a single graph as a
    batch of one. Custom fields are recognized by name: ``node_<name>``, ``edge_<name>``,
    ``click_<name>`` and ``session_<name>``; any other by its size, as in PyG.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # PyG offers no public way to replace the storage that its transforms read.
        self.__dict__["_store"] = SessionGraphStorage(self.to_dict(), _parent=self)

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self.num_nodes if key in SHIFTED else 0

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 1 if key == "edge_index" else 0

    def stores_as(self, data: Data) -> Self:
        """Copies which fields belong to sessions; PyG calls this when it batches and separates."""
        self.stores[0]._session_fields = data.stores[0]._session_fields
        return self

    @property
    def num_graphs(self) -> int:
        return 1

    @property
    def batch(self) -> Tensor:
        """The session of each node, int64 [num_nodes]."""
        batch = self.get("batch")
        return torch.zeros_like(self.x) if batch is None else batch

    @batch.setter
    def batch(self, batch: Tensor | None) -> None:
        self["batch"] = batch

    @property
    def ptr(self) -> Tensor:
        """First node of each session, and the end, int64 [num_sessions + 1]."""
        ptr = self.get("ptr")
        return self.x.new_tensor([0, len(self.x)]) if ptr is None else ptr

    @ptr.setter
    def ptr(self, ptr: Tensor | None) -> None:
        self["ptr"] = ptr

    @property
    def num_clicks(self) -> int:
        return int(self.click_index.numel())

    @property
    def click_batch(self) -> Tensor:
        """The session of each click, int64 [num_clicks]."""
        return self.batch[self.click_index]

    @property
    def click_ptr(self) -> Tensor:
        """First click of each session, and the end, int64 [num_sessions + 1]."""
        lengths = torch.bincount(self.click_batch, minlength=self.num_graphs)
        return ptr_of(lengths)

    @property
    def click_item(self) -> Tensor:
        """The item of each click, int64 [num_clicks]."""
        item: Tensor = self.x[self.click_index]
        return item

    @property
    def has_one_target(self) -> bool:
        """Whether ``y`` has one target per session, instead of one per click.

        Sizes do not show it of sessions of one click each.
        """
        named = "y" in self.stores[0]._session_fields
        return named or self.y.numel() != self.click_index.numel()

    def subgraph(self, subset: Tensor) -> Self:
        """The graph of these nodes, and the clicks on them with their fields.

        No edge is added between clicks that become adjacent.

        Args:
            subset: Numbers of nodes, or bool [num_nodes].

        Raises:
            ValueError: If no node is left, or this is a batch.
        """
        if isinstance(self, Batch):
            raise ValueError(
                "subgraph takes nodes of one session graph, this is a batch: take it apart by "
                "batch.to_data_list() first."
            )
        graph = super().subgraph(subset)
        numbers = torch.arange(len(graph.x), device=graph.x.device)
        new = torch.full_like(self.x, -1)
        new[subset] = numbers
        place = new[self.click_index]
        kept = place >= 0  # [num_clicks]
        if not kept.any():
            raise ValueError("A session graph has at least one click: keep a node of subset.")
        for key, value in self:
            of_clicks = key.startswith("click_") or (key == "y" or key.startswith("y_"))
            if of_clicks and len(value) == len(kept) and (len(kept) > 1):
                graph[key] = value[kept]
        graph.click_index = place[kept]
        return graph


torch.serialization.add_safe_globals([SessionGraph, SessionGraphStorage])  # torch.load reads them

EMPTY = Batch.from_data_list([SessionGraph()])
"""A batch without fields, of the class that PyG derives for batches of session graphs."""

SessionGraphBatch: type[Batch] = type(EMPTY)


def batch_of(
    fields: Mapping[str, Tensor],
    slices: Mapping[str, Tensor],
    shifts: Mapping[str, Tensor],
    num_graphs: int,
    session_fields: Iterable[str] = (),
) -> Batch:
    """A PyG batch from already joined fields, equal to the result of ``Batch.from_data_list``.

    PyG's public function takes a list of single graphs and needs Python time for each; it cannot
    take joined fields. The bookkeeping by which ``from_data_list`` separates a batch again is
    written only here.

    Args:
        fields: All fields, ``batch`` and ``ptr`` included.
        slices: Start of each graph in each field except these two, and the end, [num_graphs + 1].
        shifts: The shift added to the values of each graph, [num_graphs].
        num_graphs: Number of graphs.
        session_fields: Names of fields with one value per session.
    """
    graphs = copy.copy(EMPTY)
    vars(graphs.stores[0]).update(  # set at once: PyG's own setters take longer than the sorting
        _mapping=dict(fields),
        _session_fields=frozenset(session_fields),
        _num_graphs=num_graphs,
        _slice_dict=dict(slices),
        _inc_dict=dict(shifts),
    )
    return graphs


def with_edges(graph: SessionGraph, edge_index: Tensor, edge_weight: Tensor) -> SessionGraph:
    """The graph or batch with other edges between its nodes.

    Args:
        graph: One session graph, or a batch.
        edge_index: Edges; in a batch, edges of a graph must be adjacent, with graphs in order.
        edge_weight: [num_edges].
    """
    if not isinstance(graph, Batch):
        graph.edge_index, graph.edge_weight = edge_index, edge_weight
        return graph
    count = torch.bincount(graph.batch[edge_index[0]], minlength=graph.num_graphs)
    edge_ptr = ptr_of(count)
    fields = {**graph.to_dict(), "edge_index": edge_index, "edge_weight": edge_weight}
    slices = {**graph._slice_dict, "edge_index": edge_ptr, "edge_weight": edge_ptr}
    return batch_of(
        fields, slices, graph._inc_dict, graph.num_graphs, graph.stores[0]._session_fields
    )


MOST_KEYS = torch.iinfo(torch.long).max
"""Number of pairs of a session and an item that fit in int64."""


def build_session_graphs(
    items: Tensor,
    ptr: Tensor,
    *,
    y: Tensor | None = None,
    y_ptr: Tensor | None = None,
    click_fields: dict[str, Tensor] | None = None,
    session_fields: dict[str, Tensor] | None = None,
) -> Batch:
    """Builds the graphs of many sessions at once by sorting, without a loop over sessions.

    Equal, attribute by attribute, to ``Batch.from_data_list`` of the single graphs.

    Args:
        items: Item codes of all clicks, integers [num_clicks], session after session.
        ptr: First click of each session, and the end, integers [num_sessions + 1].
        y: Targets: one per session [num_sessions], or with ``y_ptr`` any number of them.
        y_ptr: First target of each session, and the end, integers [num_sessions + 1].
        click_fields: Further fields with one value per click, [num_clicks].
        session_fields: Further fields with one value per session, [num_sessions].

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
    if (
        num_sessions * size > MOST_KEYS
    ):  # a product of codes would overflow, a product of ranks does not
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
    """Builds the graphs of sessions whose repetitions are known, without checks.

    Args:
        items, ptr, y, y_ptr, click_fields, session_fields: As in :func:`build_session_graphs`.
        session: The session of each click, int64 [num_clicks].
        first: The first click of its session on the same item, int64 [num_clicks].
        first_transition: The first click of its session that ends the same transition, int64
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

    # Edges: the clicks that end a new transition of their session.
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

    fields = {
        "x": items.index_select(0, node_click),
        "edge_index": edge_index,
        "edge_weight": edge_weight,
        "click_index": click_index,
    }
    zero = torch.zeros(num_sessions, dtype=torch.long)
    slices = {"x": node_ptr, "edge_index": edge_ptr, "edge_weight": edge_ptr, "click_index": ptr}
    one_each = torch.arange(num_sessions + 1)
    if y is not None:
        fields["y"] = y
        slices["y"] = one_each if y_ptr is None else y_ptr
    for further, ends in ((click_fields, ptr), (session_fields, one_each)):
        for name, values in (further or {}).items():
            fields[name], slices[name] = values, ends
    shifts = {name: node_ptr[:-1] if name in SHIFTED else zero for name in slices}
    fields["batch"] = session.index_select(0, node_click)
    fields["ptr"] = node_ptr
    of_sessions = [*(session_fields or ()), *(["y"] if y is not None and y_ptr is None else ())]
    return batch_of(fields, slices, shifts, num_sessions, of_sessions)


def select_fields(
    batch: Batch, follow_batch: Sequence[str] = (), exclude_keys: Sequence[str] = ()
) -> Batch:
    """The batch that ``Batch.from_data_list`` makes with these PyG arguments.

    Args:
        batch: Session graphs.
        follow_batch: Fields for which ``<name>_batch`` and ``<name>_ptr`` are added.
        exclude_keys: Fields to leave out.

    Raises:
        ValueError: If the graphs have no such field.
    """
    slices: dict[str, Tensor] = batch._slice_dict
    for argument, names in (("follow_batch", follow_batch), ("exclude_keys", exclude_keys)):
        for name in names:
            if name not in slices:
                raise ValueError(
                    f"{argument} names {name!r}, which these session graphs do not have: they have "
                    f"{', '.join(slices)}."
                )
    left = [name for name in slices if name not in exclude_keys]
    fields = {name: batch[name] for name in (*left, "batch", "ptr")}
    for name in follow_batch:
        if name in left:
            ends = slices[name].to(batch[name].device)
            fields[f"{name}_batch"] = torch.repeat_interleave(ends.diff())
            fields[f"{name}_ptr"] = ends
    return batch_of(
        fields,
        {name: slices[name] for name in left},
        {name: batch._inc_dict[name] for name in left},
        batch.num_graphs,
        batch.stores[0]._session_fields,
    )


def join_session_graphs(batches: Sequence[Batch]) -> Batch:
    """Concatenates several batches into one.

    Equal, attribute by attribute, to ``Batch.from_data_list`` of the single graphs.

    Args:
        batches: At least one, as :func:`build_session_graphs` makes them, with the same fields.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    starts = _starts([batch.num_nodes for batch in batches])  # nodes before each batch
    sessions = _starts([batch.num_graphs for batch in batches])
    fields: dict[str, Tensor] = {}
    slices: dict[str, Tensor] = {}
    shifts: dict[str, Tensor] = {}
    for name, own in first._slice_dict.items():
        added = starts if name in SHIFTED else [0] * len(batches)
        parts = zip(batches, added, strict=True)
        fields[name] = torch.cat(
            [batch[name] + shift if shift else batch[name] for batch, shift in parts],
            dim=first.__cat_dim__(name, first[name]),
        )
        before = _starts([int(batch._slice_dict[name][-1]) for batch in batches])
        pairs = zip(batches, before, strict=True)
        slices[name] = torch.cat(
            [own[:1], *(batch._slice_dict[name][1:] + start for batch, start in pairs)]
        )
        parts = zip(batches, added, strict=True)
        shifts[name] = torch.cat([b._inc_dict[name] + shift for b, shift in parts])
    numbered = zip(batches, sessions, strict=True)
    fields["batch"] = torch.cat([batch.batch + start for batch, start in numbered])
    fields["ptr"] = slices["x"]
    num_graphs = sum(batch.num_graphs for batch in batches)
    return batch_of(fields, slices, shifts, num_graphs, first.stores[0]._session_fields)


def newest_clicks(batch: Batch, max_length: int) -> Batch:
    """The graphs of only the newest clicks of every session.

    Args:
        batch: Session graphs.
        max_length: Clicks kept of each session.

    Returns:
        The batch itself if no session is longer; else new graphs without ``y``, with edges counted
        from the remaining clicks.
    """
    if torch.compiler.is_exporting():  # what is exported reads the newest clicks alone
        return batch
    ptr = batch.click_ptr
    lengths = ptr.diff()
    if lengths.numel() == 0 or int(lengths.max()) <= max_length:
        return batch
    place_from_end = ptr[1:][batch.click_batch] - torch.arange(ptr[-1], device=ptr.device)
    kept = place_from_end <= max_length  # [num_clicks]
    click_fields, session_fields = _fields_of(batch)
    return build_session_graphs(
        batch.click_item[kept],
        _with_zero(lengths.clamp(max=max_length).cumsum(0)),
        click_fields={name: values[kept] for name, values in click_fields.items()},
        session_fields=session_fields,
    )


def windows_of_clicks(batch: Batch, max_length: int) -> Batch:
    """The graphs of windows that split every session from its end: each click is in one window.

    Args:
        batch: Session graphs, with or without one target per click.
        max_length: Clicks per window; the oldest window of a session holds the rest.

    Returns:
        The batch itself if no session is longer. Otherwise new graphs of the same clicks in the
        same order, with their ``y`` and fields, and with the fields of their session.
    """
    ptr = batch.click_ptr
    lengths = ptr.diff()
    if lengths.numel() == 0 or int(lengths.max()) <= max_length:
        return batch
    windows = (lengths + max_length - 1) // max_length  # [num_sessions]
    session = torch.repeat_interleave(windows)  # [num_windows]
    later = windows.cumsum(0)[session] - 1 - torch.arange(session.numel(), device=ptr.device)
    window_ptr = _with_zero(ptr[1:][session] - later * max_length)
    click_fields, session_fields = _fields_of(batch)
    session_fields = {name: values[session] for name, values in session_fields.items()}
    if "request_time" in batch and "click_time" in batch:  # order is needed here
        asked = torch.cat([batch.click_time, batch.click_time[-1:]])[window_ptr[1:]]
        session_fields["request_time"] = session_fields["request_time"].where(later == 0, asked)
    y: Tensor | None = batch.get("y")
    return build_session_graphs(
        batch.click_item,
        window_ptr,
        y=y,
        y_ptr=None if y is None else window_ptr,
        click_fields=click_fields,
        session_fields=session_fields,
    )


def _fields_of(batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The fields of a batch that have one value per click, and those with one per session."""
    names = [name for name in batch.keys() if name.startswith("click_")]  # noqa: SIM118
    click_fields = {name: batch[name] for name in names if name != "click_index"}
    named = [name for name in ("user", "request_time") if name in batch]
    return click_fields, {name: batch[name] for name in named}


def first_of_group(key: Tensor) -> Tensor:
    """For every position, the first position with the same key: int64 [n] -> [n]."""
    key, order = key.sort(stable=True)
    starts = torch.ones_like(key, dtype=torch.bool)
    torch.ne(key[1:], key[:-1], out=starts[1:])
    group = starts.cumsum(0) - 1
    return torch.empty_like(order).scatter_(0, order, order[starts.nonzero().view(-1)][group])


def first_transitions(first: Tensor, ptr: Tensor) -> Tensor:
    """For every click, the first click of its session that ends the same transition.

    Args:
        first: The first click of its session on the same item, int64 [num_clicks].
        ptr: First click of each session, and the end, int64 [num_sessions + 1].

    Returns:
        int64 [num_clicks]; the first click of a session, which ends none, holds itself.
    """
    ended = torch.arange(first.numel(), device=first.device)
    starts = torch.zeros_like(ended, dtype=torch.bool).index_fill_(0, ptr[:-1], True)
    # A transition can only be repeated if both its clicks are on repeated items.
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
                f"{name} must have one value per {owner}, {size} of them, got shape "
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
