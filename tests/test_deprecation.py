"""Old names work for one release: the same object, with one warning that states the new name."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import graphseq
from graphseq.deprecation import (
    MOVED,
    in_new_names,
    old_classmethod,
    old_name,
    old_names,
    renamed,
    renamed_value,
)

Finished = Callable[[str], tuple[Path, int, str]]


@renamed(neighbours="neighbors", colour="color")
def nearest(number: int, *, neighbors: int = 100, color: str = "red") -> tuple[int, int, str]:
    return number, neighbors, color


class Model:
    @renamed(neighbours="neighbors")
    def __init__(self, neighbors: int = 1) -> None:
        self.neighbors = neighbors

    def replace(self, neighbors: int) -> Model:
        return Model(neighbors)

    but = old_name("Model.but", replace)

    @classmethod
    def from_number(cls, neighbors: int) -> Model:
        return cls(neighbors)

    of = old_classmethod("Model.of", "from_number")


def test_old_argument_is_passed_by_its_new_name_with_one_warning() -> None:
    with pytest.warns(DeprecationWarning, match="neighbors") as caught:
        assert nearest(3, neighbours=7) == (3, 7, "red")
    assert [str(each.message) for each in caught] == [
        "nearest(neighbours=...) is now nearest(neighbors=...); the old name will be removed in "
        "graphseq 0.3."
    ]
    assert caught[0].filename == __file__


def test_old_argument_of_a_class_warns_where_the_class_is_called() -> None:
    with pytest.warns(DeprecationWarning, match=r"Model\(neighbours=\.\.\.\) is now") as caught:
        assert Model(neighbours=7).neighbors == 7  # type: ignore[call-arg]
    assert caught[0].filename == __file__


def test_new_arguments_warn_of_nothing() -> None:
    with warnings.catch_warnings(action="error"):
        assert nearest(3, neighbors=7, color="blue") == (3, 7, "blue")
        assert Model(2).replace(5).neighbors == 5


def test_old_and_new_argument_together_are_refused() -> None:
    with pytest.raises(TypeError, match="nearest got neighbors and its old name neighbours"):
        nearest(3, neighbours=7, neighbors=7)


def kind_of(kind: Any) -> Any:
    return renamed_value("kind_of(kind=...)", kind, {"colour": "color"})


def test_old_value_of_an_argument_is_passed_by_its_new_name() -> None:
    with pytest.warns(DeprecationWarning, match=r"'colour' of kind_of\(kind=...\) is now 'color'"):
        assert kind_of("colour") == "color"
    with warnings.catch_warnings(action="error"):
        assert [kind_of(kind) for kind in ("color", None, 3, ["x"])] == ["color", None, 3, ["x"]]


def test_old_method_calls_the_new_one() -> None:
    with pytest.warns(
        DeprecationWarning, match=r"Model.but\(\) is now Model.replace\(\)"
    ) as caught:
        assert Model(2).but(neighbors=5).neighbors == 5
    assert caught[0].filename == __file__


def test_old_class_method_makes_one_of_the_class_that_is_asked() -> None:
    class Other(Model):
        pass

    with pytest.warns(DeprecationWarning, match=r"Model.of\(\) is now Other.from_number") as caught:
        made = Other.of(4)
    assert (type(made), made.neighbors) == (Other, 4)
    assert caught[0].filename == __file__


def test_old_name_of_a_module_gives_the_object_with_its_new_name() -> None:
    find = old_names("graphseq.data", {"Clicks": "graphseq.data.Sessions"})
    with pytest.warns(DeprecationWarning, match=r"data\.Clicks is now graphseq\.data\.Sess"):
        assert find("Clicks") is graphseq.data.Sessions
    with pytest.raises(AttributeError, match=r"module 'graphseq\.data' has no attribute 'Sale'"):
        find("Sale")


PACKAGES = [
    ("graphseq.data.sessions", "Sessions", "graphseq.data"),
    ("graphseq.data.splits", "Split", "graphseq.data"),
    ("graphseq.models.counting", "CountingModel", "graphseq.models"),
    ("graphseq.training.negatives", "NegativeSampler", "graphseq.training"),
]


def programs(folder: Path) -> dict[str, list[str]]:
    moved = (
        "import graphseq.models\n"
        "from graphseq.models.grow import grow\n"
        "import graphseq.models.grow, graphseq.data.readers\n"
        "from graphseq.models.use import grow as module\n"
        "import sys, graphseq.data.formats.readers as readers\n"
        "assert graphseq.models.grow is grow is module.grow\n"
        "assert graphseq.data.readers is readers is sys.modules['graphseq.data.readers']\n"
        "assert readers.__spec__.name == readers.__name__ == 'graphseq.data.formats.readers'\n"
    )
    old = "\n".join(f"from {old} import {name}" for old, name, _ in PACKAGES)
    warn = ["-W", "always::DeprecationWarning:__main__", "-c"]
    return {"moved modules": [*warn, moved], "names of packages": [*warn, old]}


def printed(name: str, finished: Finished) -> list[str]:
    """What a new process has printed, each warning a line on its own."""
    _, code, output = finished(name)
    assert code == 0, output
    return [line for line in output.splitlines() if not line.startswith("  ")]


def test_module_that_moved_is_one_module_under_both_paths(finished: Finished) -> None:
    lines = printed("moved modules", finished)
    end = "; the old name will be removed in graphseq 0.3."
    assert [line.partition("DeprecationWarning: ")[2] for line in lines] == [
        "graphseq.models.grow is now graphseq.models.use.grow" + end,
        "graphseq.data.readers is now graphseq.data.formats.readers" + end,
    ]


def test_every_old_path_gives_the_module() -> None:
    with warnings.catch_warnings(action="ignore"):
        for old, new in MOVED.items():
            assert importlib.import_module(old) is importlib.import_module(new)


@pytest.mark.parametrize(("old", "name", "home"), PACKAGES)
def test_module_that_became_a_package_keeps_its_names(old: str, name: str, home: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{old}.{name} is now {old}\.\w+\.{name};"):
        found = getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match=f"module '{old}' has no attribute 'Nothing'"):
        importlib.import_module(old).Nothing  # noqa: B018


def test_import_of_an_old_name_from_a_package_warns_once(finished: Finished) -> None:
    lines = printed("names of packages", finished)
    assert [line.partition(" is now ")[0] for line in lines] == [
        f"<string>:{number}: DeprecationWarning: {old}.{name}"
        for number, (old, name, _) in enumerate(PACKAGES, start=1)
    ]


@renamed(values={"weight": {"linear": "1/n", "same": "equal"}}, weights="weight")
def weighed(number: int, *, weight: object = "1/n") -> object:
    return weight


def test_old_value_by_name_becomes_the_new_one_with_one_warning() -> None:
    with pytest.warns(DeprecationWarning, match="weighed") as caught:
        assert weighed(3, weight="linear") == "1/n"
    assert [str(each.message) for each in caught] == [
        "weighed(weight='linear') is now weighed(weight='1/n'); the old name will be removed in "
        "graphseq 0.3."
    ]
    assert caught[0].filename == __file__


def test_values_that_were_not_renamed_pass_without_a_warning() -> None:
    with warnings.catch_warnings(action="error"):
        assert [weighed(3, weight=each) for each in ("1/n", "equal", "other", 2, None)] == [
            "1/n",
            "equal",
            "other",
            2,
            None,
        ]
        assert weighed(3) == "1/n"


def test_old_value_under_the_old_name_of_its_argument_is_renamed_too() -> None:
    with pytest.warns(DeprecationWarning, match=r"weighed\(weights=\.\.\.\) is now weighed"):
        assert weighed(3, weights="same") == "equal"  # type: ignore[call-arg]


def test_saved_arguments_are_read_in_new_names_and_values_without_a_warning() -> None:
    with warnings.catch_warnings(action="error"):
        found = in_new_names(weighed, {"number": 3, "weights": "same"})
        assert found == {"number": 3, "weight": "equal"}
        assert in_new_names(weighed, {"weight": ["linear"]}) == {"weight": ["linear"]}
        assert in_new_names(len, {"weight": "linear"}) == {"weight": "linear"}
