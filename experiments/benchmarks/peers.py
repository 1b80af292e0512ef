"""Servers beside ours under the same load: plain frameworks, and SR-GNN the dense way."""

from __future__ import annotations

from typing import Any

import torch

from experiments.benchmarks import dense_srgnn
from experiments.benchmarks.load import ITEMS, random_model


def litestar() -> Any:
    """litestar, which answers nothing but ``/health``."""
    from litestar import Litestar, get

    @get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return Litestar([health], openapi_config=None, logging_config=None)


def fastapi() -> Any:
    """FastAPI, which answers nothing but ``/health``."""
    from fastapi import FastAPI

    async def health() -> dict[str, str]:
        return {"status": "ok"}

    app = FastAPI()
    app.get("/health")(health)
    return app


def dense() -> Any:
    """SR-GNN by padded matrices, one request at a time, all of a session computed at each click."""
    from litestar import Litestar, post
    from litestar.params import FromPath, JSONBody

    torch.set_num_threads(1)
    model: Any = random_model("srgnn", ITEMS)
    sessions: dict[str, list[int]] = {}

    @post("/sessions/{session:str}/clicks", status_code=200)
    async def click(session: FromPath[str], data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
        clicks = sessions.setdefault(session, [])
        clicks.append(int(data["item"]))
        with torch.inference_mode():
            scores, items = dense_srgnn.scores(model, dense_srgnn.pad([clicks])).topk(data["k"])
        pairs = zip(items[0].tolist(), scores[0].tolist(), strict=True)
        return {"items": [{"item": item, "score": score} for item, score in pairs]}

    return Litestar([click], openapi_config=None, logging_config=None)
