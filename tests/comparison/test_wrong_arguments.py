"""Errors of compare and tune for arguments of a wrong type or range."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphseq as gs

SPLIT = gs.session_split(gs.generate_sessions(60, 20, seed=0), 0.3, validation=0.3)


@pytest.mark.parametrize("value", [SPLIT.train, [[1, 2]], None, "uci-eshop"])
def test_split_is_a_split(value: Any) -> None:
    said = f"split must be a gs.Split, got {type(value).__name__}: gs.temporal_split"
    with pytest.raises(ValueError, match=said):
        gs.compare(value, ["popularity"])
    with pytest.raises(ValueError, match=said):
        gs.tune(value, "markov")


@pytest.mark.parametrize("seeds", [0, -1, 1.5, None, "3", True, [], [-1], ["a"], [0, 0]])
def test_seeds_are_a_number_of_runs_or_different_seeds(seeds: Any) -> None:
    with pytest.raises(ValueError, match="seed"):
        gs.compare(SPLIT, ["popularity"], seeds=seeds, progress=False)


def test_numbers_of_numpy_and_one_cut_off_are_taken() -> None:
    found = gs.compare(SPLIT, ["popularity"], seeds=np.int64(1), ks=7, progress=False)  # type: ignore
    assert found.content["protocol"]["ks"] == [7]
    assert found.monitor == "mrr@7"


@pytest.mark.parametrize("options", [{"monitor": "mrr@7"}, {"ks": [5], "monitor": "hr@20"}])
def test_monitor_is_at_a_cut_off_that_is_ranked(options: dict[str, Any]) -> None:
    k = options["monitor"].split("@")[1]
    with pytest.raises(ValueError, match=f"at no cut-off that is ranked.*add {k} to ks"):
        gs.compare(SPLIT, ["popularity"], progress=False, **options)
    with pytest.raises(ValueError, match=f"at no cut-off that is ranked.*add {k} to ks"):
        gs.tune(SPLIT, "markov", **options)


@pytest.mark.parametrize("settings", ["nope", 5])
def test_settings_that_are_none_are_not_the_default_ones(settings: Any) -> None:
    with pytest.raises(ValueError, match=r"There are no settings .*uci-eshop.* have settings of"):
        gs.compare(SPLIT, ["popularity"], settings=settings, progress=False)


def test_bars_in_a_label_do_not_break_the_table() -> None:
    found = gs.compare(SPLIT, {"a|b": "popularity"}, seeds=1, progress=False).to_markdown()
    assert found.splitlines()[-1].startswith(r"| a\|b | ")


def test_folder_that_cannot_be_written_to_is_refused_before_training(tmp_path: Path) -> None:
    split = gs.session_split(
        gs.Sessions.from_lists([[1, 2, 3], [2, 3, 1]] * 6), 0.3, validation=0.3
    )
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=f"folder of results {out} cannot be written to"):
            gs.compare(split, [("never", Never)], out=out)
        with pytest.raises(ValueError, match=f"folder of results {out} cannot be written to"):
            gs.tune(split, "gru4rec", trials=1, out=out)


class Never(gs.models.Popularity):
    """A model that must not be fitted."""

    def count(self, *arguments: object, **options: object) -> None:
        raise AssertionError("trained before the folder was looked at")
