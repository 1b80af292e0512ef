"""Options of the scripts: what is refused before any work begins."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path

import pytest

import graphseq as gs
from experiments import audit, budget, habits, rolling
from experiments.lib.arguments import (
    Once,
    out_folder,
    positive_number,
    seed_number,
    whole_number,
)


@pytest.mark.parametrize("text", ["-1", "1.5", "one", ""])
def test_seed_is_a_whole_number_of_at_least_0(text: str) -> None:
    assert seed_number("0") == 0
    with pytest.raises(argparse.ArgumentTypeError, match="whole number of at least 0, got"):
        seed_number(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "one"])
def test_whole_number_is_at_least_1(text: str) -> None:
    assert whole_number("1") == 1
    with pytest.raises(argparse.ArgumentTypeError, match="whole number of at least 1, got"):
        whole_number(text)


@pytest.mark.parametrize("text", ["0", "-5", "nan", "inf", "long"])
def test_positive_number_is_finite_and_above_0(text: str) -> None:
    assert positive_number("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match="finite number above 0, got"):
        positive_number(text)


def test_values_are_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", nargs="*", type=int, action=Once, default=[7])
    assert parser.parse_args([]).seeds == [7]
    assert parser.parse_args(["--seeds", "1", "0"]).seeds == [1, 0]
    assert parser.parse_args(["--seeds"]).seeds == []
    with pytest.raises(SystemExit):
        parser.parse_args(["--seeds", "1", "0", "1"])
    assert "argument --seeds: 1 is given twice" in capsys.readouterr().err


def test_folder_of_results_is_created_or_refused(tmp_path: Path) -> None:
    assert out_folder(str(tmp_path / "a" / "b")).is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(argparse.ArgumentTypeError, match="cannot be written to"):
        out_folder(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("main", "options", "message"),
    [
        (budget.main, ["--seconds", "0"], "--seconds: it is a finite number above 0"),
        (budget.main, ["--learning-rate", "-1"], "--learning-rate: it is a finite number above 0"),
        (budget.main, ["--seeds", "-2"], "--seeds: a seed is a whole number"),
        (budget.main, ["--datasets", "beauty", "beauty"], "'beauty' is given twice"),
        (habits.main, ["--seeds", "0", "0"], "--seeds: 0 is given twice"),
        (habits.main, ["--families", "SASRec", "SASRec"], "'SASRec' is given twice"),
        (rolling.main, ["--sessions", "0"], "--sessions: it is a whole number of at least 1"),
        (rolling.main, ["--epochs", "0"], "--epochs: it is a whole number of at least 1"),
        (rolling.main, ["--more-epochs", "-1"], "--more-epochs: it is a whole number"),
    ],
)
def test_wrong_options_of_studies_are_refused_before_any_work(
    main: object, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(options)  # type: ignore[operator]
    assert message in capsys.readouterr().err


def test_audit_of_nothing_is_refused(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="There is no data set 'nope' here; choose of "):
        audit.main(["--root", str(tmp_path), "--datasets", "nope", *out])
    with pytest.raises(SystemExit, match="beauty"):
        audit.main(["--root", str(tmp_path / "none"), "--datasets", "beauty", *out])
    assert not list((tmp_path / "out").iterdir())


def test_page_of_audits_is_that_of_the_committed_file(repository: Path) -> None:
    folder = repository / "docs" / "results"
    page = audit.page(json.loads((folder / "audit.json").read_text()))
    assert page.split() == (folder / "audit.md").read_text().split()  # whose lines are wrapped


def test_audit_of_what_is_there_leaves_out_the_rest_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = gs.session_split(gs.generate_sessions(60, 20, seed=0), 0.3)

    def load(name: str, root: Path) -> gs.Split:
        if name != "beauty":
            raise FileNotFoundError(name)
        return split

    monkeypatch.setattr(gs, "load_split", load)
    (row,) = audit.audited(tmp_path, [])
    assert row["name"] == "beauty"
    assert row["findings"] == gs.evaluation.audit(split).to_dict()["findings"]
    with pytest.raises(FileNotFoundError, match="tmall"):
        audit.audited(tmp_path, ["beauty", "tmall"])
    monkeypatch.setattr(gs, "load_split", lambda name, root: load("", root))
    with pytest.raises(ValueError, match="There is nothing to audit"):
        audit.audited(tmp_path, [])


def test_audit_of_published_sequences_joins_their_prefixes(tmp_path: Path) -> None:
    folder = tmp_path / "diginetica"
    folder.mkdir()
    (folder / "all_train_seq.txt").write_bytes(pickle.dumps([[1, 2, 3], [2, 3]]))
    prefixes = [[3, 1, 2], [3, 1], [3]], [1, 2, 1]
    (folder / "test.txt").write_bytes(pickle.dumps(prefixes))
    name = "diginetica (all_train_seq)"
    split = audit.splits(tmp_path, [name])[name]()
    assert split.train.num_sessions == 2
    assert split.test.to_lists() == [[3, 1, 2, 1]]
    assert "retailrocket (all_train_seq)" not in audit.splits(tmp_path, [])
