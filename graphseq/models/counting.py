"""Models that are trained by counting: their state is counts, held in torch buffers."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphseq.data.sessions import Sessions
from graphseq.models.base import SessionModel, TrainedOn


class CountingModel(SessionModel):
    """A model without gradients: :meth:`fit_counts` counts, :meth:`score` looks up.

    All counts are integers in buffers, so that ``state_dict``, ``to(device)`` and saving work as in
    any module and no cast to another float type changes them. Scores are float64: shares of
    millions of clicks differ in digits that float32 does not have.

    A family implements :meth:`count` and :meth:`score`.

    Args:
        num_items: Items of the catalogue.
    """

    trained_on: ClassVar[TrainedOn] = "counts"

    item_counts: Tensor

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.register_buffer("item_counts", torch.empty(0, dtype=torch.long))

    def fit_counts(self, sessions: Sessions) -> Self:
        """Counts these sessions, all of their clicks, and forgets what was counted before.

        A click outside the vocabulary is skipped; its neighbours become adjacent, as they do in the
        session graph.

        Args:
            sessions: Training sessions, with a vocabulary of ``num_items`` items.

        Raises:
            ValueError: If the vocabulary has another size, or no click is known.
        """
        if sessions.num_items != self.num_items:
            raise ValueError(
                f"This {type(self).__name__} has num_items={self.num_items}, but the sessions have "
                f"{sessions.num_items}: build it with num_items=split.num_items."
            )
        items = np.asarray(sessions.items)
        session = sessions.session_index
        known = items >= 0
        if not known.all():
            items, session = items[known], session[known]
        if items.size == 0:
            raise ValueError("There is nothing to count: no click of these sessions is known.")
        device = self.device
        catalog = sessions.catalog()
        self.attach(catalog)
        self.item_counts = torch.from_numpy(catalog.counts.copy())
        self.count(items.astype(np.int64), session)
        return self.to(device)

    def count(self, items: NDArray[np.int64], session: NDArray[np.int64]) -> None:
        """Sets all further buffers from the known clicks.

        Args:
            items: Item codes, int64 [num_clicks], in the order of clicks within each session.
            session: The session of each click, int64 [num_clicks], never falling.
        """

    def popularity(self, smoothing: float = 0.0) -> Tensor:
        r"""Share of training clicks, :math:`(c_j + s) / (N + s V)`: float64 [num_items].

        Raises:
            ValueError: If nothing was counted yet.
        """
        if self.item_counts.numel() == 0:
            raise ValueError(
                f"This {type(self).__name__} has counted nothing yet: call fit(model, split) or "
                "model.fit_counts(sessions) first."
            )
        counts = self.item_counts.double() + smoothing
        return counts / counts.sum()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # How much was counted decides the size of the buffers, so loading brings the sizes along;
        # only the catalogue's size is fixed, and torch itself says so where it differs.
        for name, buffer in self._buffers.items():
            loaded = state_dict.get(prefix + name)
            if buffer is None or loaded is None or loaded.shape == buffer.shape:
                continue
            if name != "item_counts" or loaded.numel() in (0, self.num_items):
                self._buffers[name] = torch.empty_like(loaded, device=buffer.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_items})"
