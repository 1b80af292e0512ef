"""Weights of authors' code under new names: split, dropped, copied, and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphseq.nn.published import names_of_blocks, num_published_blocks, renamed_state


def test_published_parameters_are_renamed_cut_and_dropped() -> None:
    given = {"qkv": np.arange(6.0), "unused": np.ones(2), "b": torch.tensor([7.0])}
    names = {"qkv": ("q", "", "v"), "unused": "", "b": "bias"}
    state = renamed_state(given, names, "a model")
    assert {name: value.tolist() for name, value in state.items()} == {
        "q": [0.0, 1.0],
        "v": [4.0, 5.0],
        "bias": [7.0],
    }


def test_published_parameters_are_copies() -> None:
    given = {"a": np.zeros(2), "b": torch.zeros(2, requires_grad=True)}
    state = renamed_state(given, {"a": "a", "b": "b"}, "a model")
    for value in state.values():
        value += 1
    assert not given["a"].any()
    assert not given["b"].any()


def test_published_blocks_are_counted_and_named_by_their_number() -> None:
    parameters = {"enc.blocks.0.w": 0, "enc.blocks.11.w": 0, "other.blocks.40.w": 0, "blocks": 0}
    assert num_published_blocks(parameters, "enc.blocks") == 12
    assert num_published_blocks(parameters, "none") == 0
    names = names_of_blocks({"w": "weight", "kv": ("k", "")}, "enc.blocks", "layers", 2)
    assert names == {
        "enc.blocks.0.w": ["layers.0.weight"],
        "enc.blocks.0.kv": ["layers.0.k", ""],
        "enc.blocks.1.w": ["layers.1.weight"],
        "enc.blocks.1.kv": ["layers.1.k", ""],
    }


def test_published_parameters_missing_or_unknown_are_named() -> None:
    with pytest.raises(ValueError, match=r"^The published weights of SGNN-HN lack a, c\.$"):
        renamed_state({"b": np.zeros(1)}, {"a": "a", "b": "b", "c": "c"}, "SGNN-HN")
    with pytest.raises(ValueError, match=r"of SGNN-HN hold c, d, which no part"):
        renamed_state({"a": 0, "c": 0, "d": 0}, {"a": "a"}, "SGNN-HN")
