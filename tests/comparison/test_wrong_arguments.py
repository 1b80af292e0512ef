"""Errors of compare and tune for arguments of a wrong type or range."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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


def test_device_that_is_not_there_is_refused_before_the_first_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    said = "^Device 'cuda' is not there, this machine has 0 of 'cuda': use device='cpu'"
    with pytest.raises(ValueError, match=said):
        gs.compare(SPLIT, [("never", Never)], device="cuda", out=tmp_path / "compared")
    with pytest.raises(ValueError, match=said):
        gs.tune(SPLIT, "gru4rec", device=torch.device("cuda"), out=tmp_path / "tuned")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="'cuda' is not on this machine"):
        gs.evaluate(Never(SPLIT.num_items), SPLIT.test, device="cuda")


def test_trained_instance_is_ranked_on_the_device_of_its_own_where_any_will_do() -> None:
    model = gs.models.Popularity(SPLIT.num_items)
    gs.fit(model, SPLIT)
    found = gs.compare(SPLIT, [("mine", model)], device="auto", progress=False)
    assert found.content["rows"][0]["model"] == "mine"


class Never(gs.models.Popularity):
    """A model that must not be fitted."""

    def count(self, *arguments: object, **options: object) -> None:
        raise AssertionError("trained before the folder was looked at")
