"""Layers over graphs leave nothing in the system's temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

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


def test_generated_modules_live_in_memory_alone(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    temporary, script = tmp_path / "temporary", tmp_path / "layers.py"
    temporary.mkdir()
    script.write_text(LAYERS)  # PyG generates nothing for a class that lies in no file
    environment |= {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "torch")  # PyG's import makes it
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "[[0.0, 2.0, 4.0], [3.0, 6.0]]",
        "__main___Own_propagate __main___Own_edge_updater",
    ]
    assert list(temporary.iterdir()) == []
