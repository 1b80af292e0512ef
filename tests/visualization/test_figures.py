from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pytest

from graphseq.visualization.figures import new_figure, numbers_of, save_figure


def test_figure_is_written_whole_into_a_new_folder(tmp_path: Path) -> None:
    path = save_figure(new_figure(2, 1), tmp_path / "deep" / "a.png")
    assert matplotlib.image.imread(path).shape[:2] == (150, 300)
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_figure_is_written_in_the_format_of_its_suffix(tmp_path: Path, suffix: str) -> None:
    start = save_figure(new_figure(2, 1), tmp_path / f"a.{suffix}").read_bytes()[:5]
    assert start == {"svg": b"<?xml", "pdf": b"%PDF-"}[suffix]


@pytest.mark.parametrize("name", ["a.doc", "a"])
def test_figure_of_an_unknown_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"name it like a\.png"):
        save_figure(new_figure(2, 1), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_figure_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_figure(new_figure(2, 1), tmp_path / "a.png")
    old = path.read_bytes()
    figure = new_figure(3, 1)

    def full(target: Path, **_: object) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(ValueError, match="No space left on device"):
        save_figure(figure, path)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_figure_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="could not be written"):
        save_figure(new_figure(2, 1), tmp_path / "file" / "a.png")


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.75, -0.2, 0.0, 0.001], [".75", "-.20", "0", "0"]),
        ([12.34, 123.4, -9.999], ["12.3", "123", "-10.00"]),
        ([0.0012, -0.00004, 0.0], ["1e-3", "-4e-5", "0"]),
        ([0.0, 0.0], ["0", "0"]),
        ([], []),
    ],
)
def test_numbers_of_a_picture_are_short_and_none_is_lost(
    values: list[float], texts: list[str]
) -> None:
    assert numbers_of(values) == texts
