"""Saved models: the same scores and ids after loading, and no partial writes or reads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.data.storage.documents import seal
from graphseq.models.base import SessionModel
from graphseq.models.counting.markov import MarkovChain
from graphseq.models.graph.srgnn import SRGNN
from graphseq.models.use import persistence, rounding
from graphseq.models.use.persistence import load
from graphseq.models.use.rounding import rounded_model

TRAIN = [["a", "b", "a", "c"], ["b", "c"], ["d"]]


@pytest.fixture
def markov() -> MarkovChain:
    return MarkovChain(4, 2, smoothing=0.5).fit_counts(Sessions.from_lists(TRAIN))


class Own(SessionModel):
    """A custom model with shared weights and a setting that is a list."""

    def __init__(self, num_items: int, sizes: list[int] | None = None) -> None:
        super().__init__(num_items)
        self.sizes = sizes
        self.table = torch.nn.Embedding(num_items, 3)
        self.output = torch.nn.Linear(3, num_items, bias=False)
        self.output.weight = self.table.weight

    def forward(self, batch: Batch) -> Tensor:
        last: Tensor = self.table(batch.click_item[batch.click_ptr[1:] - 1])
        return last

    def item_weight(self) -> Tensor:
        return self.output.weight


def test_save_twice_leaves_the_newer_model_and_nothing_beside_it(
    tmp_path: Path, markov: MarkovChain
) -> None:
    SRGNN(5, 3).save(tmp_path / "model")
    markov.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    written = {path.name for path in (tmp_path / "model").iterdir()}
    ids = {"items.text.npy", "items.offsets.npy", "item_counts.npy"}
    assert written == {"model.json", "weights.safetensors", *ids}
    assert isinstance(load(tmp_path / "model"), MarkovChain)


def test_save_makes_the_folders_above(tmp_path: Path, markov: MarkovChain) -> None:
    markov.save(tmp_path / "runs" / "today" / "model")
    answers = load(tmp_path / "runs" / "today" / "model").recommend([["b", "a"], []], k=3)
    assert answers == markov.recommend([["b", "a"], []], k=3)


def test_save_through_a_link_keeps_the_link(tmp_path: Path, markov: MarkovChain) -> None:
    markov.save(tmp_path / "first")
    os.symlink(tmp_path / "first", tmp_path / "best")
    SRGNN(5, 3).save(tmp_path / "best")
    assert (tmp_path / "best").is_symlink()
    assert isinstance(load(tmp_path / "first"), SRGNN)


def test_save_header_says_what_it_is(tmp_path: Path, markov: MarkovChain) -> None:
    markov.save(tmp_path / "model")
    header = json.loads((tmp_path / "model" / "model.json").read_text())
    assert header["model"] == "markov"
    assert header["version"] == persistence.MODEL.version
    expected = {"num_items": 4, "order": 2, "backoff": 0.001, "smoothing": 0.5, "half_life": None}
    assert header["settings"] == expected
    assert header["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    "values",
    [
        np.array([2**60, -5], dtype=np.int64),
        np.array([7, 300], dtype=np.uint16),
        ["x", "ü"],
        [3, "3"],
        [2**70, 1],
        [1.5, "one"],
        pd.DatetimeIndex(["2024-01-01", "2024-01-02 03:04:05"], tz="UTC"),
        pd.RangeIndex(2),
    ],
    ids=lambda values: type(values[0]).__name__,
)
def test_load_ids_keep_their_values_and_types(tmp_path: Path, values: Any) -> None:
    model = SRGNN(2, 3)
    model.catalog = Catalog(Vocabulary(values), np.array([4, 1]), users=Vocabulary(values))
    model.save(tmp_path / "model")
    catalog = load(tmp_path / "model").catalog
    assert catalog is not None
    assert catalog.users is not None
    for found in (catalog.items, catalog.users):
        before, after = model.catalog.items.decode([0, 1]), found.decode([0, 1])
        assert after == before
        assert [type(value) for value in after] == [type(value) for value in before]
        assert found.encode(before).tolist() == [0, 1]
    assert catalog.counts.tolist() == [4, 1]
    assert catalog.counts.dtype == np.int64


def test_load_item_features_come_back_as_they_were(tmp_path: Path) -> None:
    features = pd.DataFrame({"title": ["A", None], "price": [1.5, 2.0], "stock": [3, 4]})
    model = SRGNN(2, 3)
    model.catalog = Catalog(Vocabulary(["x", "y"]), np.array([4, 1]), item_features=features)
    model.save(tmp_path / "model")
    catalog = load(tmp_path / "model").catalog
    assert catalog is not None
    pd.testing.assert_frame_equal(catalog.item_features, features)


def test_load_without_catalog_has_none(tmp_path: Path) -> None:
    SRGNN(5, 3).save(tmp_path / "model")
    assert load(tmp_path / "model").catalog is None


def test_load_gives_a_model_ready_to_score_and_leaves_the_generator(tmp_path: Path) -> None:
    SRGNN(5, 3).double().save(tmp_path / "model")
    state = torch.get_rng_state()
    model = load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert model.items.rows().dtype == torch.double


def test_load_own_class_with_shared_weights_keeps_them_shared(tmp_path: Path) -> None:
    model = Own(4, sizes=[2, 3])
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"load\(folder, model_class=Own\)"):
        load(tmp_path / "model")
    loaded = load(tmp_path / "model", model_class=Own)
    assert isinstance(loaded, Own)
    assert loaded.sizes == [2, 3]
    assert loaded.output.weight is loaded.table.weight
    assert torch.equal(loaded.table.weight, model.table.weight)
    with pytest.raises(ValueError, match="holds a Own, not the SRGNN"):
        load(tmp_path / "model", model_class=SRGNN)


@pytest.mark.parametrize("kept", [["notes.txt"], ["model.json", "notes.txt"], ["items.npy"]])
def test_save_over_anything_but_a_model_is_refused_and_keeps_it(
    tmp_path: Path, markov: MarkovChain, kept: list[str]
) -> None:
    for name in kept:
        (tmp_path / name).write_text("kept")
    with pytest.raises(ValueError, match="choose another folder"):
        markov.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    assert (tmp_path / kept[0]).read_text() == "kept"


def test_save_over_a_model_with_something_beside_it_is_refused_and_keeps_both(
    tmp_path: Path, markov: MarkovChain
) -> None:
    markov.save(tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("kept")
    with pytest.raises(ValueError, match=r"holds notes\.txt besides saved model"):
        SRGNN(5, 3).save(tmp_path / "model")
    assert (tmp_path / "model" / "notes.txt").read_text() == "kept"
    assert isinstance(load(tmp_path / "model"), MarkovChain)


def test_save_to_a_place_that_cannot_be_written_is_refused(
    tmp_path: Path, markov: MarkovChain
) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ValueError, match="is a file"):
        markov.save(tmp_path / "file")
    with pytest.raises(ValueError, match="cannot be written: "):
        markov.save(tmp_path / "file" / "model")


@pytest.mark.parametrize("broken", ["save_file", "_save_catalog"])
def test_save_that_fails_leaves_the_older_model_whole(
    tmp_path: Path, markov: MarkovChain, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    SRGNN(5, 3).save(tmp_path / "model")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(persistence, broken, full_disk)
    with pytest.raises(ValueError, match="No space left on device"):
        markov.save(tmp_path / "model")
    assert isinstance(load(tmp_path / "model"), SRGNN)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_save_setting_or_id_without_a_place_in_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="setting sizes=<object"):
        Own(4, sizes=object()).save(tmp_path / "model")  # type: ignore[arg-type]
    for keys in ({1: 2}, [{"a": {None: 1}}], ({True: 1},)):  # JSON would have them as text
        with pytest.raises(ValueError, match=r"setting sizes=.* cannot be saved: .* text as keys"):
            Own(4, sizes=keys).save(tmp_path / "model")  # type: ignore[arg-type]
    model = SRGNN(2, 3)
    model.catalog = Catalog(Vocabulary(["x", 1j]), np.array([4, 1]))
    with pytest.raises(ValueError, match="ids of type complex"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_load_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no saved model"):
        load(tmp_path)
    (tmp_path / "model.json").write_text('{"format": "another"}')
    with pytest.raises(ValueError, match=r"not a graphseq\.model file"):
        load(tmp_path)


def edit(folder: Path, **changes: Any) -> None:
    """Changes fields of a header, with the checksum of the new one."""
    header = json.loads((folder / "model.json").read_text()) | changes
    header = seal(header, header["format"], header["version"])
    (folder / "model.json").write_text(json.dumps(header))


SETTINGS = {"num_items": 4, "order": 2, "backoff": 0.001, "smoothing": 0.5, "half_life": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99 of the format, this graphseq reads version 2"),
        ({"version": 1}, "version 1 of the format, by an older graphseq"),
        ({"model": "unheard_of"}, "holds a model 'unheard_of'; this graphseq knows popularity"),
        ({"model": 3}, r"model of .*model\.json must be text, got 3"),
        (
            {"settings": {"items": 4}},
            "items of the settings of .* is not an argument of MarkovChain",
        ),
        ({"settings": {}}, "lack num_items, which MarkovChain needs"),
        ({"settings": SETTINGS | {"order": "2"}}, "order of the settings of .* must be int, got"),
        ({"settings": SETTINGS | {"order": True}}, "order of .* must be int, got True"),
        ({"settings": SETTINGS | {"order": -1}}, r"model\.json does not fit MarkovChain: order"),
        (
            {"settings": SETTINGS | {"num_items": 7}},
            r"weights\.safetensors is broken, or of another",
        ),
    ],
)
def test_load_header_that_does_not_fit_says_so(
    tmp_path: Path, markov: MarkovChain, change: dict[str, Any], message: str
) -> None:
    markov.save(tmp_path / "model")
    edit(tmp_path / "model", **change)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "model")


def test_load_header_of_more_items_than_weights_asks_for_no_memory(tmp_path: Path) -> None:
    SRGNN(5, 3).save(tmp_path / "model")
    header = json.loads((tmp_path / "model" / "model.json").read_text())
    edit(tmp_path / "model", settings=header["settings"] | {"num_items": 10**12})
    with pytest.raises(ValueError, match=r"the settings ask for \[1000000000000, 3"):
        load(tmp_path / "model")


def test_load_weights_of_another_model_of_the_same_shape_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        SRGNN(5, 3).save(tmp_path / name)
    shutil.copy(tmp_path / "b" / "weights.safetensors", tmp_path / "a" / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights\.safetensors .* checksum differs"):
        load(tmp_path / "a")
    assert isinstance(load(tmp_path / "a", verify=False), SRGNN)


def test_load_counts_below_zero_are_refused(tmp_path: Path) -> None:
    model = SRGNN(2, 3)
    model.catalog = Catalog(Vocabulary(["x", "y"]), np.array([4, -1]))
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"item_counts\.npy is broken: a count is negative"):
        load(tmp_path / "model")


def test_save_gives_files_the_mode_that_the_umask_leaves(
    tmp_path: Path, markov: MarkovChain
) -> None:
    before = os.umask(0o022)
    try:
        markov.save(tmp_path / "model")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {0o644}
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "items.text.npy"])
def test_load_file_that_is_cut_off_is_named(tmp_path: Path, markov: MarkovChain, name: str) -> None:
    markov.save(tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match=f"{name} is broken"):
        load(tmp_path / "model")


def test_load_folder_whose_header_is_missing_names_it(tmp_path: Path, markov: MarkovChain) -> None:
    folder = tmp_path / "model"
    markov.save(folder)
    (folder / "model.json").unlink()
    with pytest.raises(ValueError) as caught:
        load(folder)
    assert str(caught.value) == (
        f"{folder / 'model.json'} is missing, so this folder holds no saved model: give one that "
        "model.save wrote, with all of its files."
    )


@pytest.mark.parametrize("name", ["weights.safetensors", "items.offsets.npy", "item_counts.npy"])
def test_load_file_that_is_missing_is_named(tmp_path: Path, markov: MarkovChain, name: str) -> None:
    markov.save(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        load(tmp_path / "model")


@pytest.mark.parametrize(("precision", "most"), [("float16", 2.0**-11), ("int8", 0.5 / 127)])
def test_weights_with_fewer_bits_come_back_rounded_and_biases_exact(
    precision: Any, most: float, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = SRGNN(300, 32)
    with torch.no_grad():
        model.items.weight[7] = 0
        model.items.weight[8] *= 1_000
    model.save(tmp_path / "exact")
    model.save(tmp_path / "small", precision=precision)
    loaded = load(tmp_path / "small")
    for name, value in model.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == value.dtype
        if value.dim() < 2:
            assert torch.equal(found, value)
            continue
        largest = value.flatten(1).abs().amax(1, keepdim=True)
        assert ((found - value).abs() <= most * largest * 1.001).all()
        assert not torch.equal(found, value)
    sizes = [(tmp_path / each / persistence.WEIGHTS).stat().st_size for each in ("exact", "small")]
    assert sizes[1] < (0.55 if precision == "float16" else 0.33) * sizes[0]
    whole = rounded_model(model, precision)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    loaded.save(tmp_path / "again", precision=precision)  # rounding twice is rounding once
    for name, value in load(tmp_path / "again").state_dict().items():
        assert torch.allclose(value, loaded.state_dict()[name], rtol=1e-6, atol=0)


def test_counts_are_exact_at_any_precision(markov: MarkovChain, tmp_path: Path) -> None:
    markov.save(tmp_path / "small", precision="int8")
    loaded = load(tmp_path / "small")
    for name, value in markov.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize(
    ("precision", "value"), [("float16", 1e6), ("int8", float("inf")), ("float16", float("nan"))]
)
def test_number_that_a_precision_cannot_hold_is_refused_before_anything_is_written(
    precision: Any, value: float, tmp_path: Path
) -> None:
    model = SRGNN(5, 4)
    with torch.no_grad():
        model.items.weight[2, 1] = value
    with pytest.raises(ValueError, match=r"items\.weight has a number that precision='(flo|int)"):
        model.save(tmp_path / "m", precision=precision)
    assert not (tmp_path / "m").exists()
    with pytest.raises(ValueError, match="precision is"):
        model.save(tmp_path / "m", precision="int4")


def test_rounded_weights_that_are_missing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgets_scales(weights: dict[str, Tensor], precision: Any) -> Any:
        kept, rounded = rounding.in_precision(weights, precision)
        return {name: each for name, each in kept.items() if "#" not in name}, rounded

    monkeypatch.setattr(persistence, "in_precision", forgets_scales)
    SRGNN(5, 4).save(tmp_path / "m", precision="int8")
    with pytest.raises(ValueError, match=r"rounded weights does not fit: '.*weight#scale'"):
        load(tmp_path / "m")
