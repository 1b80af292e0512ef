"""An exported model that answers, by onnxruntime: without torch, in codes of items."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphseq.ragged import ptr_of
from graphseq.serving.extras import need

Codes = NDArray[np.int64]
Floats = NDArray[np.float32]


class OnnxModel:
    """A model that :func:`~graphseq.serving.export_onnx` wrote.

    Any number of threads may search.

    Args:
        path: The file.
        threads: Threads of one search; ``None``: as many as there are cores.

    Raises:
        ValueError: If onnxruntime is missing, or the file is not such a model.
    """

    def __init__(self, path: str | PathLike[str], *, threads: int | None = 1) -> None:
        runtime = need("onnxruntime", "OnnxModel", extra="onnx")
        if not Path(path).is_file():
            raise ValueError(f"There is no file {path}: export_onnx(model, path) writes one.")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # what it cannot fold it says at length
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has many kinds, none of them public
            raise ValueError(f"{path} is damaged, or no ONNX model: {error}") from error
        about = self._session.get_modelmeta().custom_metadata_map
        if "num_items" not in about:
            raise ValueError(f"{path} is an ONNX model, but none that export_onnx wrote.")
        self.num_items, self.k = int(about["num_items"]), int(about["k"])
        self.model_version: str = about["model_version"]
        self.family: str = about["family"]
        self._types = {each.name: TYPES[each.type] for each in self._session.get_inputs()}

    @property
    def inputs(self) -> list[str]:
        """Names of what it reads."""
        return list(self._types)

    def search(self, sessions: Iterable[ArrayLike], **fields: ArrayLike) -> tuple[Codes, Floats]:
        """The best items of sessions.

        Args:
            sessions: Codes of the clicked items of each session, oldest first.
            **fields: What else it reads, by name: ``click_<name>``, one value per click of all
                sessions, and ``user``, one per session.

        Returns:
            Codes, int64 [num_sessions, k], and scores, float32 [num_sessions, k], best first.

        Raises:
            ValueError: If a session is empty or has a code that is no item, or a field is missing
                or of another length.
        """
        rows = [np.asarray(session, dtype=np.int64) for session in sessions]
        ptr = ptr_of([len(row) for row in rows])
        if len(rows) == 0:
            return np.empty((0, self.k), np.int64), np.empty((0, self.k), np.float32)
        items = np.concatenate(rows)
        self._check(items, ptr, fields)
        fed: dict[str, Any] = {"items": items, "ptr": ptr, **fields}
        named = {n: np.ascontiguousarray(fed[n], dtype=t) for n, t in self._types.items()}
        top, scores = self._session.run(["top_items", "scores"], named)
        return top, scores

    def _check(self, items: Codes, ptr: Codes, fields: dict[str, ArrayLike]) -> None:
        empty = np.flatnonzero(np.diff(ptr) == 0)
        if len(empty):
            raise ValueError(
                f"Session {empty[0]} has no click ({len(empty)} such in all): leave empty sessions "
                "out and answer them with popular items."
            )
        bad = np.flatnonzero((items < 0) | (items >= self.num_items))
        if len(bad):
            session = int(np.searchsorted(ptr, bad[0], side="right")) - 1
            raise ValueError(
                f"Session {session} has the item {items[bad[0]]}, and codes of items are "
                f"0..{self.num_items - 1}: leave out clicks on items that the model does not know."
            )
        wanted = [name for name in self._types if name not in ("items", "ptr")]
        if set(fields) != set(wanted):
            raise ValueError(
                f"This {self.family} reads the fields {wanted or 'of no name'} beside items, got "
                f"{sorted(fields)}."
            )
        for name in wanted:
            size = len(ptr) - 1 if name == "user" else len(items)
            if len(np.asarray(fields[name])) != size:
                raise ValueError(
                    f"{name} needs {size} values, one per "
                    f"{'session' if name == 'user' else 'click'}, got "
                    f"{len(np.asarray(fields[name]))}."
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.family}, {self.num_items} items, k={self.k})"


TYPES: dict[str, type[np.generic]] = {
    "tensor(int64)": np.int64,
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
}
"""Types of inputs, as onnxruntime names them."""
