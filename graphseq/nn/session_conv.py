"""Message passing that leaves no generated files behind."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path

from torch_geometric.nn import MessagePassing


class SessionConv(MessagePassing):
    """PyG's message passing, with its generated modules kept in memory only.

    PyG writes a module for each layer class to the system's temporary folder, imports it, and
    leaves it there: one more file per process.
    """

    def _set_jittable_templates(self, raise_on_error: bool = False) -> None:
        super()._set_jittable_templates(raise_on_error)
        for method in ("propagate", "edge_updater"):
            module = sys.modules.get(f"{self.__module__}_{type(self).__name__}_{method}")
            if module is None or module.__file__ is None:
                continue
            cached = Path(importlib.util.cache_from_source(module.__file__))
            with contextlib.suppress(OSError):  # another thread, or an earlier layer
                Path(module.__file__).unlink()
                cached.unlink(missing_ok=True)
                cached.parent.rmdir()  # unless it holds files of others
