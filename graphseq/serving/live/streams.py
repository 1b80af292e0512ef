"""States of live sessions: one click further in one step, equal to the whole session from scratch.

A family that has such a state stands in :func:`stream_of`; of the others the session is computed
again from its clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from graphseq.models.base import SessionModel
from graphseq.models.graph.gcegnn import GCEGNN
from graphseq.models.graph.sgnnhn import SGNNHN
from graphseq.models.graph.srgnn import SRGNN
from graphseq.models.sequence.gru4rec import GRU4Rec
from graphseq.models.sequence.sasrec import SASRec
from graphseq.models.use.inference import inference
from graphseq.serving.item_vectors import Codes, Floats
from graphseq.serving.live.attention_stream import AttentionStream
from graphseq.serving.live.graph_stream import GraphStream


class Stream(Protocol):
    """What a family keeps of live sessions."""

    def advance(
        self, states: Sequence[bytes | None], clicks: Sequence[Codes], whole: Sequence[Codes]
    ) -> tuple[Floats, list[bytes | None]]:
        """States after further clicks, of several sessions at once.

        Args:
            states: The state of each session, ``None`` before its first click.
            clicks: Known items clicked since, int64, of each session; it may be none.
            whole: All known items that are kept of each session.

        Returns:
            Session vectors, float32 [num_sessions, hidden_channels], and the new states, ``None``
            where none is kept.
        """


@dataclass(frozen=True)
class RecurrentStream:
    """The hidden state of GRU4Rec: of fixed size, one step per click.

    Args:
        model: The model.
    """

    model: GRU4Rec

    def advance(
        self, states: Sequence[bytes | None], clicks: Sequence[Codes], whole: Sequence[Codes]
    ) -> tuple[Floats, list[bytes | None]]:
        """See :meth:`Stream.advance`."""
        with inference(self.model):
            state = self._read(states)  # [layers, num_sessions, widest]
            most = max((len(each) for each in clicks), default=0)
            step = np.full((most, len(clicks)), -1, dtype=np.int64)
            for session, each in enumerate(clicks):
                step[: len(each), session] = each
            for items in torch.from_numpy(step).to(state.device):
                state = self.model.update_state(state, items)  # -1: no click, the state stays
            vectors: Floats = self.model.vectors_of_state(state).float().cpu().numpy()
            rows = state.cpu().numpy()
        return vectors, [rows[:, session].tobytes() for session in range(len(clicks))]

    def _read(self, states: Sequence[bytes | None]) -> Tensor:
        state = self.model.initial_state(len(states)).clone()
        for session, kept in enumerate(states):
            if kept is not None:
                row = np.frombuffer(kept, dtype=np.float32).reshape(state[:, 0].shape)
                state[:, session] = torch.from_numpy(row.copy()).to(state.device)
        return state


def stream_of(model: SessionModel) -> Stream | None:
    """The stream of a model's family, or ``None``: sessions are computed again."""
    if model.device.type != "cpu" or model.reads_times:  # a state knows items alone
        return None
    if isinstance(model, GRU4Rec):
        return RecurrentStream(model)
    if isinstance(model, SASRec) and model.causal:
        return AttentionStream(model)
    if type(model) in (GCEGNN, SGNNHN) or (
        type(model) is SRGNN and model.edge_weights.decay is None
    ):
        return GraphStream(model)
    return None
