"""Data sets by name: errors for missing files, and the statistics of the cards."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from graphseq.data.datasets import builders as published
from graphseq.data.datasets import registry
from graphseq.data.datasets.registry import DATASETS, load_dataset, load_split

NAMES = tuple(DATASETS)
EMBEDDED = tuple(name for name, dataset in DATASETS.items() if dataset.embedded)
REMOTE = tuple(name for name, dataset in DATASETS.items() if not dataset.embedded)


@pytest.fixture(scope="module")
def cards() -> Path:
    return Path(__file__).resolve().parents[3] / "datasets"


@pytest.fixture
def tiny_tmall(tmp_path) -> Path:
    """A root folder with a small data set in the form of tmall."""
    folder = tmp_path / "tmall"
    folder.mkdir()
    texts = {
        "train_sessions": "5 7 5\n7 9\n",
        "test_sessions": "9 11\n5 9\n",
        "item_features": "5 0 100\n5 1 20\n7 0 101\n11 1 21\n",
    }
    for name, text in texts.items():
        with gzip.open(folder / f"{name}.txt.gz", "wt", encoding="utf-8") as file:
            file.write(text)
    return tmp_path


def statistics(card: str) -> dict[str, list[str]]:
    """Cells of the statistics table, by part."""
    rows = re.findall(r"^\| (all|train|test) \|(.*)\|$", card, flags=re.MULTILINE)
    return {
        part: [cell.strip().replace(",", "") for cell in cells.split("|")] for part, cells in rows
    }


# -- what is said ------------------------------------------------------------------------------


def test_load_dataset_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"no data set 'movielens'.*uci-eshop.*movielens-small"):
        load_dataset("movielens")


@pytest.mark.parametrize("name", REMOTE)
def test_load_dataset_without_root_says_what_to_put_where(name, monkeypatch):
    monkeypatch.delenv(registry.ROOT_VARIABLE, raising=False)
    with pytest.raises(ValueError) as error:
        load_dataset(name)
    for file in DATASETS[name].files:
        assert file in str(error.value)
    assert "GRAPHSEQ_DATA" in str(error.value)
    assert f"datasets/{name}/README.md" in str(error.value)


def test_load_dataset_missing_file_names_file_folder_and_card(tiny_tmall):
    (tiny_tmall / "tmall" / "item_features.txt.gz").unlink()
    with pytest.raises(ValueError) as error:
        load_dataset("tmall", tiny_tmall)
    assert "lacks tmall/item_features.txt.gz:" in str(error.value)
    assert "train_sessions" not in str(error.value)
    assert str(tiny_tmall) in str(error.value)
    assert "datasets/tmall/README.md" in str(error.value)


def test_load_dataset_wrong_checksum_says_so(tiny_tmall):
    with pytest.raises(ValueError, match=r"train_sessions\.txt\.gz is not the file.*SHA-256"):
        load_dataset("tmall", tiny_tmall)


def test_load_dataset_unknown_option_lists_the_options():
    with pytest.raises(ValueError, match=r"movielens-small has no option 'window'.*gap"):
        load_dataset("movielens-small", window=3)
    with pytest.raises(ValueError, match="tmall has no option 'gap'; its options: none"):
        load_dataset("tmall", gap="30min")


def test_load_dataset_root_of_the_environment_is_found(tiny_tmall, monkeypatch):
    monkeypatch.setenv(registry.ROOT_VARIABLE, str(tiny_tmall))
    assert load_dataset("tmall", verify=False).num_sessions == 4


def test_embedded_folder_installed_copy_comes_before_the_checkout(tmp_path, monkeypatch):
    package = tmp_path / "graphseq"
    package.mkdir()
    monkeypatch.setattr(registry, "files", lambda name: tmp_path / name)
    assert registry.embedded_folder("movielens-small") == tmp_path / "datasets" / "movielens-small"
    installed = package / "_datasets" / "movielens-small"
    installed.mkdir(parents=True)
    assert registry.embedded_folder("movielens-small") == installed


def test_load_dataset_embedded_file_changed_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "graphseq" / "_datasets" / "movielens-small"
    folder.mkdir(parents=True)
    for file in DATASETS["movielens-small"].files:
        (folder / file).write_bytes(b"PAR1")
    monkeypatch.setattr(registry, "files", lambda name: tmp_path / name)
    with pytest.raises(ValueError, match=r"ratings\.parquet is not the file"):
        load_dataset("movielens-small")


# -- what is read ------------------------------------------------------------------------------


def test_load_dataset_two_files_train_comes_first_in_one_vocabulary(tiny_tmall):
    sessions = load_dataset("tmall", tiny_tmall, verify=False)
    assert sessions.to_lists() == [[5, 7, 5], [7, 9], [9, 11], [5, 9]]
    assert sessions.vocabulary.decode([0, 1, 2, 3]) == [5, 7, 9, 11]
    pd.testing.assert_frame_equal(
        sessions.item_features,
        pd.DataFrame(
            {
                "field_0": pd.array([100, 101, None, None], dtype="Int64"),
                "field_1": pd.array([20, None, None, 21], dtype="Int64"),
            }
        ),
    )


def test_load_split_fixed_test_item_outside_training_is_unknown(tiny_tmall):
    split = load_split("tmall", tiny_tmall, verify=False)
    assert split.num_items == 3
    assert split.test.to_lists() == [[9, None], [5, 9]]
    assert split.report.loc["test", "unknown_targets"] == 1


def test_load_dataset_checksum_of_the_right_file_passes(tiny_tmall, monkeypatch):
    digests = {
        file: hashlib.sha256((tiny_tmall / file).read_bytes()).hexdigest()
        for file in DATASETS["tmall"].files
    }
    right = replace(DATASETS["tmall"], files=digests)
    monkeypatch.setattr(registry, "DATASETS", MappingProxyType({"tmall": right}))
    assert load_dataset("tmall", tiny_tmall).num_clicks == 9


def test_amazon_attributes_become_one_text_an_item(tmp_path):
    reviews, attributes = tmp_path / "reviews.txt.gz", tmp_path / "attributes.json.gz"
    with gzip.open(reviews, "wt", encoding="utf-8") as file:
        file.write("1 30 10\n2 10 20\n")
    with gzip.open(attributes, "wt", encoding="utf-8") as file:
        json.dump({"10": [4, 2], "30": [7]}, file)
    (sessions,) = published.amazon(reviews, attributes)
    assert sessions.to_lists() == [[30, 10], [10, 20]]
    listed = sessions.item_features["attributes"]
    assert listed[:2].tolist() == ["7", "4|2"]
    assert listed.isna().tolist() == [False, False, True]


# -- cards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_card_has_its_sections_and_names_every_file_with_its_checksum(name, cards):
    card = (cards / name / "README.md").read_text(encoding="utf-8")
    for section in ("Source", "License", "Files", "Statistics", "How it is evaluated"):
        assert f"\n## {section}\n" in card
    for file, checksum in DATASETS[name].files.items():
        assert f"| `{file}` | `{checksum}` |" in card
    assert set(statistics(card)) == {"all", "train", "test"}
    assert f"[{name}]({name}/README.md)" in (cards / "README.md").read_text(encoding="utf-8")


def check_card(name: str, cards: Path, root: Path | None) -> None:
    sessions, split = load_dataset(name, root), load_split(name, root)
    expected = {
        "all": [sessions.num_sessions, sessions.num_clicks, np.unique(sessions.items).size, "", ""]
    }
    columns = ["sessions", "clicks", "items", "targets", "unknown_targets"]
    for part in ("train", "test"):
        expected[part] = split.report.loc[part, columns].tolist()
    card = statistics((cards / name / "README.md").read_text(encoding="utf-8"))
    assert card == {part: [str(cell) for cell in cells] for part, cells in expected.items()}


@pytest.mark.parametrize("name", EMBEDDED)
def test_card_of_embedded_data_tells_the_counts_of_its_files(name, cards):
    check_card(name, cards, None)


def test_embedded_data_is_carried_by_the_wheel(cards):
    pyproject = tomllib.loads((cards.parent / "pyproject.toml").read_text(encoding="utf-8"))
    carried = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for name in EMBEDDED:
        assert carried[f"datasets/{name}"] == f"graphseq/_datasets/{name}"


@pytest.mark.data
@pytest.mark.parametrize("name", REMOTE)
def test_card_tells_the_counts_of_its_files(name, cards, data_root):
    check_card(name, cards, data_root)


@pytest.mark.data
@pytest.mark.parametrize("name", REMOTE)
def test_load_split_standard_validation_part_is_cut_from_training(name, data_root):
    whole = load_split(name, data_root)
    cut = load_split(name, data_root, validation=DATASETS[name].validation, verify=False)
    assert cut.validation is not None
    assert cut.validation.num_targets > 0
    assert cut.test.num_targets == whole.test.num_targets
    assert cut.train.num_targets + cut.validation.num_targets <= whole.train.num_targets


@pytest.mark.data
@pytest.mark.parametrize("name", ["ml-1m", "ml-100k"])
def test_load_dataset_movies_have_titles(name, data_root):
    features = load_dataset(name, data_root).item_features
    assert {"title", "year", "genres"} <= set(features)
    assert (features["title"].str.len() > 0).all()


@pytest.mark.data
def test_load_dataset_ml_100k_gap_cuts_histories(data_root):
    sessions = load_dataset("ml-100k", data_root, gap="1h")
    assert sessions.num_sessions > 943
    within = np.diff(sessions.session_index) == 0
    assert np.diff(sessions.time)[within].max() <= 3_600
