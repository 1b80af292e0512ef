"""The embedded shop: its counts, features and license terms, and equality to the publisher's
data."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graphseq.data.datasets.registry import DATASETS, load_dataset, load_split
from graphseq.data.formats.readers import read_uci_eshop
from graphseq.data.sessions.sessions import Sessions

OF_THE_MODEL = ["colour", "location", "photography", "price", "above_average_price", "page"]


@pytest.fixture(scope="module")
def eshop() -> Sessions:
    return load_dataset("uci-eshop")


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(__file__).resolve().parents[2] / "datasets" / "uci-eshop"


def test_uci_eshop_has_the_counts_and_the_first_visit_of_its_source(eshop: Sessions) -> None:
    assert (eshop.num_sessions, eshop.num_clicks, eshop.num_items) == (24_026, 165_474, 217)
    assert eshop[0] == ["A13", "A16", "B4", "B17", "B8", "C56", "C57", "P67", "P82"]
    assert eshop.time is not None
    assert pd.Timestamp(eshop.time[0], unit="s") == pd.Timestamp("2008-04-01")
    assert pd.Timestamp(eshop.time[-1], unit="s") == pd.Timestamp("2008-08-13")


def test_uci_eshop_clicks_carry_the_features_of_their_item(eshop: Sessions) -> None:
    assert list(eshop.click_features) == ["category", *OF_THE_MODEL, "country"]
    assert eshop.item_features is not None
    assert list(eshop.item_features) == OF_THE_MODEL
    for name in OF_THE_MODEL:
        of_items = eshop.item_features[name].to_numpy()
        np.testing.assert_array_equal(eshop.click_features[name], of_items[eshop.items])
    code = int(eshop.vocabulary.encode(["A13"])[0])
    assert eshop.item_features.loc[code].tolist() == [1, 5, 1, 28, 2, 1]
    assert eshop.click_features["category"][:4].tolist() == [1, 1, 2, 2]


def test_uci_eshop_split_is_by_date(eshop: Sessions) -> None:
    split = load_split("uci-eshop", validation=DATASETS["uci-eshop"].validation)
    cut = pd.Timestamp("2008-07-31", tz="UTC").timestamp()
    assert split.train.time is not None
    assert split.validation is not None
    assert split.validation.time is not None
    assert split.test.time is not None
    assert split.test.time.min() == cut
    assert split.train.time.max() < split.validation.time.min() <= cut - 14 * 86_400
    assert split.validation.time.max() < cut


def test_uci_eshop_prepared_again_is_the_same_to_the_last_bit(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("prepare_eshop", folder / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    clicks = pd.read_parquet(folder / "clicks.parquet")
    models = pd.read_parquet(folder / "models.parquet")
    source = clicks.merge(models, on="item_id")
    source["order"] = source.groupby("session_id").cumcount() + 1
    days = pd.to_datetime(source["timestamp"], unit="s").dt
    source = source.assign(year=days.year, month=days.month, day=days.day)
    names = {**prepare.OF_THE_CLICK, **prepare.OF_THE_MODEL}
    names |= {"session ID": "session_id", "page 2 (clothing model)": "item_id"}
    source = source.rename(columns={new: old for old, new in names.items()})

    again = prepare.tables(source.sample(frac=1, random_state=0))

    for table, written in zip(again, (clicks, models), strict=True):
        pd.testing.assert_frame_equal(table.to_pandas(), written)


def test_uci_eshop_files_are_small_and_come_with_terms(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.glob("*.parquet")) < 400_000
    terms = (folder / "LICENSE").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by/4.0/legalcode" in terms
    assert "Łapczyński and S. Białowąs. 2013" in terms
    assert "What was changed here" in terms


@pytest.mark.data
def test_uci_eshop_is_the_data_of_the_publishers_file(eshop: Sessions, data_root: Path) -> None:
    source = read_uci_eshop(next((data_root / "uci_eshop").glob("*.zip")))
    assert eshop.fingerprint() == source.fingerprint()
    assert eshop.item_features is not None
    assert source.item_features is not None
    pd.testing.assert_frame_equal(eshop.item_features, source.item_features)
    np.testing.assert_array_equal(eshop.session_ids, source.session_ids)
