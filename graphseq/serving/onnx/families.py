"""Models as they are exported: what is known beforehand is a constant, no size is a Python list."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import linear
from torch_geometric.data import Batch

from graphseq.models.base import SessionModel
from graphseq.models.sequence.caser import Caser
from graphseq.models.sequence.hgru4rec import HGRU4Rec
from graphseq.models.sequence.lrurec import LRURec
from graphseq.nn.item_table import ItemTable
from graphseq.nn.packed_gru import PackedGRU
from graphseq.serving.onnx.tracing import DenseGRU, dense_steps


def open_form(model: SessionModel) -> SessionModel:
    """A copy of a model, in evaluation mode, of which all sizes stay open when it is exported."""
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    with torch.no_grad():
        _open(model)
    return model


def _open(model: SessionModel) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, PackedGRU):
                setattr(module, name, DenseGRU(child))
            elif isinstance(child, ItemTable):
                setattr(module, name, ConstantRows(child))
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.dtype in (torch.bool, torch.int8) and buffer.dim() == 0:
                delattr(module, name)  # a switch, which code asks
                setattr(module, name, buffer.item())
        for family, form in FORMS.items():
            if isinstance(module, family):
                module.forward = MethodType(form, module)  # type: ignore[method-assign]


class ConstantRows(ItemTable):
    """An item table whose rows are constants: those that are read, and those that are compared.

    Args:
        table: The table.
    """

    def __init__(self, table: ItemTable) -> None:
        torch.nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = None, None, 2.0
        self.scale_grad_by_freq = self.sparse = False
        self.normalize, self.center, self.scale = table.normalize, table.center, table.scale
        self.bias = table.bias
        # Of equal ones the file holds one.
        read = table(torch.arange(table.num_embeddings))
        self.weight = table.weight if torch.equal(read, table.weight) else Parameter(read)
        rows = table.rows()
        self.compared = self.weight if torch.equal(rows, self.weight) else Parameter(rows)

    def rows(self, items: Tensor | None = None) -> Tensor:
        """Rows as scores compare them: of all items [num_items, d], or of ``items`` [..., d]."""
        return self.compared if items is None else self.compared[items]


def _caser(self: Caser, batch: Batch) -> Tensor:
    """:meth:`Caser.forward` by whole windows: every session has all places, empty ones first."""
    length, ptr, items = self.max_length, batch.click_ptr, batch.click_item
    table = self.items if self.input_embedding is None else self.input_embedding
    click = ptr[1:].unsqueeze(1) - torch.arange(length, 0, -1)  # [num_sessions, L]
    holds = click >= ptr[:-1].unsqueeze(1)
    e = table(items[click.clamp(min=0)]) * holds.unsqueeze(2)  # E: [num_sessions, L, d]
    o = []
    if self.vertical is not None:
        o.append(self.vertical(e))
    if self.horizontal is not None:
        conv = self.horizontal
        biases = conv.bias.split(conv.num_filters)
        for weight, bias, height in zip(conv.weights, biases, conv.heights, strict=True):
            spans = e.unfold(1, height, 1).transpose(2, 3).flatten(2)  # [.., L - h + 1, h d]
            c = linear(spans, weight.flatten(1), bias).relu() * holds[:, height - 1 :, None]
            o.append(c.amax(1))
    z = self.lin(torch.cat(o, dim=1)).relu()
    return self._with_user(z, self._users_of(batch))


def _hgru4rec(self: HGRU4Rec, batch: Batch) -> Tensor:
    """:meth:`HGRU4Rec.forward` of users of whom no earlier session is told."""
    e = self._input(batch.click_item)  # [num_clicks, d]
    ptr, session = batch.click_ptr, batch.click_batch
    e = self._beside(e, e.new_zeros(e.size(0), self.user_gru.hidden_size))
    place = torch.arange(e.size(0)) - ptr[session]
    width = ptr.diff().max().item()
    gru: Any = self.session_gru.gru
    return dense_steps(gru, e, place, session, width, ptr.size(0) - 1)[
        place[ptr[1:] - 1], torch.arange(ptr.size(0) - 1)
    ]


REFUSED: dict[type[SessionModel], str] = {
    LRURec: "its scan takes as many rounds as the longest session asks for, and a file has a fixed "
    "number",
}
"""Families that no file can hold, and why."""

FORMS: dict[type[SessionModel], Callable[..., Any]] = {Caser: _caser, HGRU4Rec: _hgru4rec}
"""Families that walk over Python lists of sizes -> their forward without."""
