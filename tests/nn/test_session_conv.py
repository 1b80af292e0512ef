"""Layers over graphs leave nothing in the system's temporary folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

LAYERS = """
import torch
import graphseq as gs
from graphseq.nn.session_conv import SessionConv

class Own(SessionConv):
    def forward(self, edge_index, h):
        return self.propagate(edge_index, h=h), self.edge_updater(edge_index, h=h)

    def message(self, h_j):
        return 2 * h_j

    def edge_update(self, h_j):
        return 3 * h_j

edge_index = torch.tensor([[0, 1], [1, 2]])
for _ in range(2):
    own = Own()
    gs.models.SRGNN(5, hidden_channels=4)
    gs.models.GCEGNN(5, hidden_channels=4)
h = torch.tensor([[1.0], [2.0], [4.0]])
print([each.flatten().tolist() for each in own(edge_index, h)])
print(own.propagate.__module__, own.edge_updater.__module__)
"""


def programs(folder: Path) -> dict[str, list[str]]:
    temporary, script = folder / "temporary", folder / "layers.py"
    temporary.mkdir()
    places = {"TMPDIR": str(temporary), "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch")}
    settings = f"import os, sys\nsys.dont_write_bytecode = False\nos.environ |= {places}\n"
    script.write_text(settings + LAYERS)  # PyG generates nothing for a class that lies in no file
    return {"layers": [str(script)]}


def test_generated_modules_live_in_memory_alone(
    finished: Callable[[str], tuple[Path, int, str]],
) -> None:
    folder, code, output = finished("layers")
    assert code == 0, output
    assert output.splitlines()[-2:] == [
        "[[0.0, 2.0, 4.0], [3.0, 6.0]]",
        "__main___Own_propagate __main___Own_edge_updater",
    ]
    assert list((folder / "temporary").iterdir()) == []
