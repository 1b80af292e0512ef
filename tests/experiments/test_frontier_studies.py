"""Studies of new items and of exploration: what they hold out, and what they write."""

import json

import numpy as np
import pytest

import graphseq as gs
from experiments.studies import cold_items, exploration


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
