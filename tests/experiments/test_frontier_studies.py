"""Studies of new items and of exploration: what they hold out, and what they write."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import graphseq as gs
from experiments.studies import (
    causal,
    cold_items,
    contrastive,
    exploration,
    knowledge_graph,
    language,
    trending,
)


def test_new_items_by_time_are_those_whose_first_click_is_latest():
    log = gs.generate_sessions(60, 60, seed=0)
    new = cold_items.new_items(log, "time", 0.25, seed=0)
    clicked = np.unique(log.items)
    assert len(new) == round(0.25 * len(clicked))
    first = {item: log.time[log.items == item].min() for item in clicked}
    old = np.setdiff1d(clicked, new)
    assert min(first[item] for item in new) >= max(first[item] for item in old)


def test_new_items_at_random_are_of_their_seed_and_were_clicked():
    log = gs.generate_sessions(60, 60, seed=0)
    first, again, other = (cold_items.new_items(log, "random", 0.25, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert set(first) <= set(np.unique(log.items))


def test_a_share_out_of_range_is_named():
    with pytest.raises(SystemExit, match="--share lies between 0 and 1"):
        cold_items.main(["--share", "1.5"])


def test_exploration_writes_regret_and_estimates_beside_the_truth(tmp_path):
    exploration.main(["--rounds", "120", "--seeds", "0", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["policy"] for row in rows if "policy" in row] == list(exploration.POLICIES)
    assert all(0 < row["truth"] < 1 for row in rows if "truth" in row)
    assert (tmp_path / "regret.png").stat().st_size > 1000


def test_contrastive_study_keeps_the_exact_loss_and_differs_in_the_term(tmp_path):
    contrastive.main(
        [
            "--sessions",
            "60",
            "--epochs",
            "1",
            "--seeds",
            "0",
            "--angle",
            "0.5",
            "--out",
            str(tmp_path),
        ]
    )
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["model"] for row in rows] == list(contrastive.terms(None))
    assert {row["loss"] for row in rows} == {"exact"}
    assert rows[0]["hr@10 beyond SASRec"] == "-"


def test_planted_effect_of_a_click_is_the_rule_of_the_generator():
    walks = gs.Sessions.from_lists([[1, 2, 3, 0], [4, 4, 2], [0, 1]])
    rule, chance = 0.9 + 0.1 / 5, 0.1 / 5
    # 2 + 3 is 0 modulo 5, 4 + 4 is not 2; without the click before the last: 1 + 2, and [4] alone.
    expected = ((rule - chance) + (chance - 1 / 5)) / 2
    assert causal.planted(walks, 1) == pytest.approx(expected)
    assert causal.planted(walks, 3) == 0  # the last two stay


def test_evenly_shown_targets_are_of_all_items_and_histories_of_the_log():
    log = gs.generate_sessions(
        3000, 200, num_categories=10, pattern=0.0, loops=0.0, repeats=0.0, seed=1
    )
    logged, even = causal.shown_evenly(log, seed=0)
    known = {tuple(each[:-1]) for each in logged.to_lists()}
    assert {tuple(each[:-1]) for each in even.to_lists()} <= known
    clicks = np.bincount(even.items[even.ptr[1:] - 1], minlength=200)
    assert clicks.min() > 0
    assert clicks.max() < 4 * clicks.mean()
    of_log = np.bincount(logged.items[logged.ptr[1:] - 1], minlength=200)
    assert of_log.max() > 6 * of_log.mean()


@pytest.fixture
def films(monkeypatch):
    """Histories of films with titles, years and genres, as every data set's."""
    log = gs.generate_sessions(60, 40, seed=0)
    table = pd.DataFrame(
        {
            "title": [f"{'red' if n % 2 else 'blue'} film {n}" for n in range(log.num_items)],
            "year": [1950.0 + n for n in range(log.num_items)],
            "genres": ["Drama|War" if n % 3 else "Comedy" for n in range(log.num_items)],
        }
    )
    log = replace(log, item_features=table)
    monkeypatch.setattr(gs, "load_dataset", lambda *_, **__: log)
    return log


def rows_of(folder):
    return json.loads((folder / "results.json").read_text())["rows"]


def test_new_items_by_year_are_those_that_came_out_last(films):
    new = cold_items.new_items(films, "year", 0.25, seed=0)
    clicked = np.unique(films.items)
    assert new.tolist() == clicked[-round(0.25 * len(clicked)) :].tolist()


def test_targets_of_neither_kind_are_no_cases_and_seen_items_leave_the_list(films):
    known, whole = cold_items.without(films, np.arange(30))
    model = gs.models.Popularity(known.num_items)
    gs.fit(model, known)
    grown = gs.grow(model, whole)
    ids = films.vocabulary.ids
    test = gs.Sessions.from_lists([[ids[35], ids[0]], [ids[0], ids[1]], [ids[35], "no film"]])
    number = int((grown.catalog.counts == 0).sum())  # 30, and films without a click
    run = cold_items.measured(grown, test)
    assert run.cold.tolist() == [True, True, False]
    assert run.known.tolist() == [False, False, False]
    assert run.among_new == pytest.approx([20 / number, 20 / number])  # all new items are equal
    assert run.chance == pytest.approx(20 / number)
    unseen = cold_items.measured(grown, test, exclude_seen=True)
    assert unseen.among_new == pytest.approx([20 / number, 20 / (number - 1)])
    assert unseen.report.exclude_seen


def test_language_sets_titles_beside_clicks_and_tells_of_both_kinds(films, tmp_path):
    language.main(["--epochs", "1", "--seeds", "0", "--targets", "1", "--out", str(tmp_path)])
    rows = {row["model"]: row for row in rows_of(tmp_path)}
    assert list(rows)[:3] == ["popularity", "markov", "nearest titles, word vectors"]
    assert rows["SASRec"]["known: beyond SASRec"] == "-"
    assert rows["nearest titles, word vectors"]["new: beyond nearest titles"] == "-"
    assert len({row["cases of new, known"] for row in rows.values()}) == 1


def test_trending_is_held_against_popularity(films, tmp_path):
    trending.main(
        ["--test-days", "0.2", "--hourly", "--category", "genres", "--out", str(tmp_path)]
    )
    rows = {row["model"]: row for row in rows_of(tmp_path)}
    assert rows["popularity"]["hr@20 beyond popularity"] == "-"
    assert {"by the hour, 7D", "by genres, 7D", "fades by half in 1D"} < set(rows)


def test_knowledge_graph_is_held_against_attributes_and_factors(films, tmp_path):
    knowledge_graph.main(
        ["--dataset", "ml-1m", "--epochs", "1", "--seeds", "0", "--out", str(tmp_path)]
    )
    rows = {row["model"]: row for row in rows_of(tmp_path)}
    assert rows["attributes"]["unseen hr@20, beyond"] == "-"
    assert rows["R-GCN"]["unseen hr@20, beyond"].startswith("attributes: ")
    assert rows["iALS + R-GCN refining factors"]["unseen hr@20, beyond"].startswith("iALS: ")
    assert all("," in row["weights"] for name, row in rows.items() if "+" in name)
