"""Options of the scripts: what is refused before any work begins."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from experiments import audit, budget, habits
from experiments.lib.arguments import Once, out_folder, positive_number, seed_number


@pytest.mark.parametrize("text", ["-1", "1.5", "one", ""])
def test_seed_is_a_whole_number_of_at_least_0(text: str) -> None:
    assert seed_number("0") == 0
    with pytest.raises(argparse.ArgumentTypeError, match="whole number of at least 0, got"):
        seed_number(text)


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
