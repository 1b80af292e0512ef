"""The embedded data set: its counts, order, card and license terms."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graphseq.data.datasets.registry import DATASETS, load_dataset, load_split
from graphseq.data.sessions.sessions import Sessions


@pytest.fixture(scope="module")
def movielens() -> Sessions:
    return load_dataset("movielens-small")


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(__file__).resolve().parents[2] / "datasets" / "movielens-small"


def test_movielens_small_has_the_counts_of_its_source(movielens):
    assert movielens.num_clicks == 100_004
    assert movielens.num_sessions == 671
    assert movielens.num_items == 9_066
    assert np.unique(movielens.users).size == 671
    assert np.bincount(movielens.items, minlength=9_066).min() >= 1


def test_movielens_small_a_user_rates_no_movie_twice(movielens):
    pairs = movielens.session_index * movielens.num_items + movielens.items
    assert np.unique(pairs).size == movielens.num_clicks


def test_movielens_small_every_movie_has_title_and_genres(movielens):
    features = movielens.item_features
    assert list(features) == ["title", "year", "genres"]
    assert (features["title"].str.len() > 0).all()
    assert (features["genres"].str.len() > 0).all()
    unnamed = movielens.vocabulary.ids[features["year"].isna()]
    assert sorted(unnamed) == [108548, 108583, 143410, 151307, 162376]
    titles = features["title"][features["year"].isna()]
    assert titles.tolist() == [f"Movie {movie}" for movie in unnamed]


def test_movielens_small_features_are_in_code_order(movielens):
    code = int(movielens.vocabulary.encode([318])[0])
    assert movielens.item_features["title"][code] == "Shawshank Redemption, The"
    assert movielens.item_features["year"][code] == 1994


def test_movielens_small_clicks_of_a_user_follow_their_times(movielens):
    within = np.diff(movielens.session_index) == 0
    assert (np.diff(movielens.time)[within] >= 0).all()
    ratings = movielens.click_features["rating"]
    assert (ratings.min(), ratings.max()) == (0.5, 5.0)


def test_movielens_small_ties_of_time_are_not_in_the_order_of_movie_ids(movielens):
    ids = np.asarray(movielens.vocabulary.decode(movielens.items))
    tied = (np.diff(movielens.session_index) == 0) & (np.diff(movielens.time) == 0)
    assert tied.sum() > 20_000
    assert 0.48 < (np.diff(ids)[tied] > 0).mean() < 0.52


def test_movielens_small_gap_cuts_histories_into_bursts(movielens):
    bursts = load_dataset("movielens-small", gap="30min")
    assert bursts.num_sessions == 6_511
    assert bursts.num_clicks == movielens.num_clicks
    within = np.diff(bursts.session_index) == 0
    assert np.diff(bursts.time)[within].max() <= 1_800


def test_movielens_small_split_leaves_ten_cases_of_every_user(movielens):
    split = load_split("movielens-small")
    assert split.test.num_targets == 6_710
    np.testing.assert_array_equal(split.test.lengths - split.test.targets_from, 10)
    np.testing.assert_array_equal(split.train.lengths, movielens.lengths - 10)
    assert split.validation is None
    assert split.catalog.item_features["title"].notna().all()


def test_movielens_small_validation_is_cut_from_training():
    split = load_split("movielens-small", validation=DATASETS["movielens-small"].validation)
    assert split.validation is not None
    assert split.validation.num_targets == 671 * 5
    assert split.train.lengths.min() == 5


def test_movielens_small_prepared_again_is_the_same_to_the_last_bit(folder, tmp_path):
    spec = importlib.util.spec_from_file_location("prepare_movielens", folder / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    ratings = pd.read_parquet(folder / "ratings.parquet")
    movies = pd.read_parquet(folder / "movies.parquet")
    source = ratings.merge(movies, on="movie_id").sort_values(["user_id", "movie_id"])
    source = source.rename(columns={"user_id": "userId", "movie_id": "movieId"})
    source.loc[source["year"].isna(), "title"] = None

    again, titles = prepare.tables(source)

    pd.testing.assert_frame_equal(again.to_pandas(), ratings)
    pd.testing.assert_frame_equal(titles.to_pandas(), movies)


def test_movielens_small_files_are_small_and_come_with_terms(folder):
    assert sum(path.stat().st_size for path in folder.glob("*.parquet")) < 2_000_000
    terms = (folder / "LICENSE").read_text(encoding="utf-8")
    assert "GroupLens" in terms
    assert "10.1145/2827872" in terms
