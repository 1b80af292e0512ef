"""Both forms of BST computed plainly, from the paper's equations, and the sessions they read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary

SESSIONS = [[0, 1, 2, 1, 3], [4], [5, 5, 5], [6, 5, 4, 3, 2, 1, 0, 2, 4, 6, 1], [3, 0]]
NUM_CLICKS = sum(map(len, SESSIONS))
CLICK_FEATURES = [
    {"name": "device", "kind": "categorical", "size": 3},
    {"name": "price", "kind": "numeric", "boundaries": [1.0, 2.0]},
]
ITEM_FEATURES = [{"name": "tags", "kind": "multi_hot", "values": ["a", "b"], "separator": "|"}]
TABLE = pd.DataFrame({"tags": ["a|b", "b", "", "a", "b", "a|b", "a"]})


def sessions_of(lists: list[list[int]]) -> Sessions:
    """Sessions over items 0..6 whose times and features are functions of item and place."""
    plain = Sessions.from_lists(lists, vocabulary=Vocabulary(np.arange(7)))
    place = np.concatenate([np.arange(len(session)) for session in lists])
    return replace(
        plain,
        time=1e9 + 3.0 * place**3,
        click_features={
            "device": (plain.items * 5 + place) % 4 - 1,
            "price": np.where(plain.items == 3, np.nan, plain.items / 2),
        },
        item_features=TABLE,
    )


def batch_of(lists: list[list[int]], *, without: str = "") -> Batch:
    sessions = sessions_of(lists)
    assert sessions.time is not None
    fields = {f"click_{name}": torch.tensor(v) for name, v in sessions.click_features.items()}
    fields["click_time"] = torch.tensor(sessions.time)
    fields.pop(without, None)
    users = torch.arange(len(lists)) - 1  # the first one is unknown
    return build_session_graphs(
        torch.from_numpy(sessions.items),
        torch.from_numpy(sessions.ptr),
        click_fields=fields,
        session_fields={"user": users},
    )


def weights(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in model.named_parameters()}


def norm(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    centered = x - x.mean()
    return (
        centered / np.sqrt(centered @ centered / len(x) + 1e-5) * w[f"{name}.weight"]
        + w[f"{name}.bias"]
    )


def plain_block(
    x: list[np.ndarray], w: dict[str, np.ndarray], name: str, heads: int, causal: bool
) -> list[np.ndarray]:
    """The paper's transformer layer, position by position and head by head."""
    d = len(x[0])
    size = d // heads
    attention = f"{name}.attention"
    out = []
    for i, asks in enumerate(x):
        seen = x[: i + 1] if causal else x
        mixed = np.zeros(d)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            q = (
                w[f"{attention}.lin_query.weight"][part] @ asks
                + w[f"{attention}.lin_query.bias"][part]
            )
            logits = np.array([q @ (w[f"{attention}.lin_key.weight"][part] @ s) for s in seen])
            share = np.exp(logits / np.sqrt(size) - (logits / np.sqrt(size)).max())
            share /= share.sum()
            for a, s in zip(share, seen, strict=True):
                v = w[f"{attention}.lin_value.weight"][part] @ s
                mixed[part] += a * (v + w[f"{attention}.lin_value.bias"][part])
        s = w[f"{attention}.lin_out.weight"] @ mixed + w[f"{attention}.lin_out.bias"]
        s = norm(asks + s, w, f"{name}.norm_attention")
        inner = w[f"{name}.lin_in.weight"] @ s + w[f"{name}.lin_in.bias"]
        inner = np.where(inner > 0, inner, 0.01 * inner)
        f = w[f"{name}.lin_out.weight"] @ inner + w[f"{name}.lin_out.bias"]
        out.append(norm(s + f, w, f"{name}.norm_feed_forward"))
    return out


def plain_item(w: dict[str, np.ndarray], item: int) -> np.ndarray:
    tags = [["a", "b"].index(tag) for tag in TABLE["tags"][item].split("|") if tag]
    table = w["items.features.embedding.parts.0.weight"]
    f = np.mean([table[tag] for tag in tags], axis=0) if tags else np.zeros(3)
    e = w["items.weight"][item]
    return w["items.lin.weight"] @ np.concatenate([e, f]) + w["items.lin.bias"]


def plain_click(w: dict[str, np.ndarray], item: int, device: int, price: float) -> np.ndarray:
    """Item and features of a click, projected."""
    g = [np.zeros(3), np.zeros(3)]
    if device >= 0:
        g[0] = w["click_embedding.parts.0.weight"][device]
    if not np.isnan(price):
        g[1] = w["click_embedding.parts.1.weight"][int(price >= 1) + int(price >= 2)]
    together = np.concatenate([plain_item(w, item), *g])
    return w["lin_click.weight"] @ together + w["lin_click.bias"]


def clicks_of(session: list[int]) -> list[tuple[int, int, float, float]]:
    """Item, device, price and time of each click."""
    made = sessions_of([session])
    assert made.time is not None
    columns = (made.items, made.click_features["device"], made.click_features["price"], made.time)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def close(actual: Tensor, expected: np.ndarray | Tensor) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
