"""Studies of new items and of exploration: what they hold out, and what they write."""

import json

import numpy as np
import pytest

import graphseq as gs
from experiments.studies import causal, cold_items, contrastive, exploration


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
