"""Augmented views of the sessions of a batch: changed clicks and new graphs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.augment import Augmentation, RaggedClicks
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.random import GAMMA, Words, substreams, words_of
from graphseq.typing import Ints


def augmented_view(batch: Batch, augmentation: Augmentation, *key: int) -> Batch:
    """The sessions of a batch after an augmentation, as new graphs without ``y``.

    The random numbers of a session depend only on its clicks and the key. A view is therefore the
    same in any batch, and two sessions of the same clicks have the same view.

    Args:
        batch: Session graphs.
        augmentation: The augmentation; see :mod:`graphseq.data.graphs.augment`.
        *key: Key of this view: seed, epoch, number of the view.

    Returns:
        The same number of session graphs on the batch's device. Fields of clicks and sessions are
        kept; the times of a session stay in order.
    """
    device = batch.click_index.device
    items, ptr = batch.click_item.cpu().numpy(), batch.click_ptr.cpu().numpy()
    streams = session_streams(items, ptr, words_of("view", *key))
    changed = augmentation(RaggedClicks(items, ptr, np.arange(len(items)), streams))
    origin = torch.from_numpy(changed.origin).to(device)
    fields: dict[str, Tensor] = {
        name: batch[name][origin]
        for name in batch.keys()  # noqa: SIM118 (of a batch, not of a dict)
        if name.startswith("click_") and name != "click_index"
    }
    if "click_time" in fields:
        fields["click_time"] = batch.click_time[torch.from_numpy(changed.in_order).to(device)]
    return build_session_graphs(
        torch.from_numpy(changed.items).to(device),
        torch.from_numpy(changed.ptr).to(device),
        click_fields=fields,
        session_fields={name: batch[name] for name in ("user", "request_time") if name in batch},
    )


def session_streams(items: Ints, ptr: Ints, key: Words) -> Words:
    """A random stream per session that depends only on its items and their order.

    Args:
        items: int64 [num_clicks].
        ptr: int64 [num_sessions + 1].
        key: uint64 [].

    Returns:
        uint64 [num_sessions].
    """
    position = np.arange(len(items)) - np.repeat(ptr[:-1], np.diff(ptr))
    # A hash word per click and position; their sum modulo 2^64 represents the session.
    words = substreams(substreams(key, position), items)
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(words, dtype=np.uint64)])
    with np.errstate(over="ignore"):
        return (total[ptr[1:]] - total[ptr[:-1]]) ^ (key * GAMMA)
