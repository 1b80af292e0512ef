"""Weights of authors' code under new names: split, dropped, copied, and errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphseq.models import MODELS
from graphseq.nn import HSTULayers, LiGRLayers
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
        renamed_state(dict.fromkeys("acd", np.zeros(1)), {"a": "a"}, "SGNN-HN")


FIXTURES = Path(__file__).parents[1] / "fixtures"
READERS: dict[str, Callable[..., torch.nn.Module]] = {
    "bsarec": partial(MODELS["bsarec"].from_published, heads=3, c=3),
    "caser": MODELS["caser"].from_published,
    "gru4rec": MODELS["gru4rec"].from_published,
    "hstu": partial(HSTULayers.from_published, heads=3),
    "ligr": partial(LiGRLayers.from_published, heads=3),
    "sasrec": MODELS["sasrec"].from_published,
    "sgnnhn": MODELS["sgnnhn"].from_published,
    "srgnn": MODELS["srgnn"].from_published,
}
"""Every reader of published weights, with the settings of its fixture."""


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> tuple[Callable[..., torch.nn.Module], dict[str, Any]]:
    with np.load(FIXTURES / f"{request.param}_published_a.npz") as file:
        names = [name for name in file.files if name.startswith("param.")]
        return READERS[request.param], {name[6:]: file[name] for name in names}


def test_published_weights_of_any_kind_of_number_and_array_are_equal(
    reader: tuple[Callable[..., torch.nn.Module], dict[str, Any]],
) -> None:
    read, given = reader
    state = read(given).state_dict()
    fixed = {name: value.copy() for name, value in given.items()}
    for value in fixed.values():
        value.flags.writeable = False
    for other in (
        {name: torch.from_numpy(value).double() for name, value in given.items()},
        {name: torch.nn.Parameter(torch.from_numpy(value)) for name, value in given.items()},
        {name: value.tolist() for name, value in reversed(given.items())},
        fixed,
    ):
        found = read(other)
        assert not found.training
        for name, value in found.state_dict().items():
            assert value.dtype == state[name].dtype
            assert torch.equal(value, state[name])


def test_published_weights_damaged_anywhere_are_refused_by_name(
    reader: tuple[Callable[..., torch.nn.Module], dict[str, Any]],
) -> None:
    read, given = reader
    with pytest.raises(ValueError, match="are a mapping of a name to an array, got list"):
        read(list(given.values()))
    with pytest.raises(ValueError, match="hold more, which no part of the model here uses"):
        read({**given, "more": np.ones(3)})
    for name, value in given.items():
        first = value.copy()
        first.flat[0] = np.nan
        wrong = {"not finite": first, "but": value.astype(complex), "of shape": np.float32(1)}
        # The codes of the authors never read these, or a softmax cancels them.
        if not re.search(r"linear_edge_f|key\.bias|key_proj\.bias", name):
            wrong["published weights has shape"] = np.stack([value, value])
        for message, damaged in wrong.items():
            with pytest.raises(ValueError, match=message):
                read({**given, name: damaged})
        if "linear_edge_f" not in name:
            with pytest.raises(ValueError, match=r"published weights|max_length must be given"):
                read({k: v for k, v in given.items() if k != name})


@pytest.mark.parametrize(
    ("family", "table", "rows"),
    [
        ("bsarec", "item_embeddings.weight", 1),
        ("sasrec", "item_embedding.weight", 2),
        ("sgnnhn", "embedding.weight", 1),
        ("srgnn", "embedding.weight", 1),
    ],
)
def test_published_item_table_of_padding_alone_is_refused_by_name(
    family: str, table: str, rows: int
) -> None:
    with np.load(FIXTURES / f"{family}_published_a.npz") as file:
        given = {name[6:]: file[name] for name in file.files if name.startswith("param.")}
    given[table] = given[table][:rows]
    message = (
        rf"^{table} of .*'s published weights has shape \[{rows}, \d+\], where more than {rows}"
    )
    with pytest.raises(ValueError, match=message):
        READERS[family](given)


def test_published_settings_may_be_arrays_without_a_dimension() -> None:
    with np.load(FIXTURES / "bsarec_published_b.npz") as file:
        given = {name[6:]: file[name] for name in file.files if name.startswith("param.")}
        settings = {"heads": file["num_heads"], "c": file["c"], "alpha": file["alpha"]}
    model = MODELS["bsarec"].from_published(given, **settings)
    assert (model.blocks[0].attention.heads, model.blocks[0].alpha) == (2, 0.3)
    with np.load(FIXTURES / "hstu_published_b.npz") as file:
        given = {name[6:]: file[name] for name in file.files if name.startswith("param.")}
        layers = HSTULayers.from_published(
            given, heads=file["num_heads"], max_length=file["max_length"]
        )
    assert (layers.layers[0].heads, layers.max_length) == (2, 9)
    with pytest.raises(ValueError, match="heads must be at least 1, got 0"):
        HSTULayers.from_published(given, heads=0, max_length=9)
    with pytest.raises(ValueError, match="max_length must be a whole number"):
        HSTULayers.from_published(given, heads=2, max_length=2.5)
