"""Session-parallel training (Hidasi et al., ICLR 2016): lanes carry states from step to step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.models.live_clicks import LiveSessions
from graphseq.models.reading import TrainingRows


class Lanes(LiveSessions):
    """What a model that keeps its state carries from step to step, on batches of lanes.

    Such batches come from :class:`~graphseq.data.SessionParallelLoader`.
    """

    _lanes: Tensor | None = None

    def rows_of_lanes(self, batch: Batch) -> TrainingRows:
        """One click of every active lane: the state continues from the previous step.

        Raises:
            ValueError: If lanes continue sessions of which this model has no state.
        """
        lane, starts = batch.lane, batch.starts_session  # [num_lanes], active
        if self._lanes is None and not bool(starts.all()):
            raise ValueError(
                "These lanes continue sessions whose state is not here: start with the first "
                "batch of an epoch, or load_training_state what was saved with the position."
            )
        size = int(lane.max()) + 1 if lane.numel() else 1
        if self._lanes is None or self._lanes.size(1) < size:
            self._lanes = self.initial_state(size)
        lanes: Tensor = self._lanes.to(self.device)
        state = lanes[:, lane] * ~starts.view(1, -1, 1)
        vectors, state = self.step(state, batch.click_item)
        self._lanes = lanes.index_copy(1, lane, state.detach())
        return TrainingRows(vectors, batch.y, torch.arange(lane.numel(), device=vectors.device))

    def training_state(self) -> dict[str, Tensor]:
        """What training carries from step to step besides the weights: the state of every lane."""
        return {} if self._lanes is None else {"lanes": self._lanes}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what :meth:`training_state` gave."""
        self._lanes = state.get("lanes")
