"""Rules for values from files: what each accepts, and its error message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from graphseq.data.storage.rules import (
    absent_or,
    check_arguments,
    check_record,
    flag,
    list_of,
    mapping_of,
    number,
    one_of,
    optional,
    record,
    text,
    whole,
)


@pytest.mark.parametrize(
    ("rule", "good", "bad", "says"),
    [
        (whole(1), [1, 10**30], [0, True, 1.0, "1", None], "a whole number, 1 or more"),
        (whole(0, 2), [0, 2], [-1, 3], r"a whole number within 0\.\.2"),
        (number(0), [0, 0.5], [-1e-9, True, float("inf"), float("nan"), "0"], "a finite number"),
        (number(most=1), [-5], [1.1], "a finite number, 1 or less"),
        (flag(), [True, False], ["no", 0, 1, None], "true or false"),
        (text(), ["a"], ["", 1, None, ["a"]], "text"),
        (one_of(1, "a"), [1, "a"], [True, 1.0, "b"], "one of 1, 'a'"),
        (optional(whole()), [None, 1], ["1"], "a whole number"),
        (list_of(flag()), [[], [True]], [(True,), {}, "x"], "a list"),
        (list_of(flag()), [], [[True, 1]], "element 1, must be true or false"),
        (mapping_of(whole()), [{}, {"a": 1}], [[]], "a mapping"),
        (mapping_of(whole()), [], [{"a": "b"}], "a of it must be a whole number"),
        (record({"a": whole()}), [{"a": 1, "b": 2}], [{"a": "x"}], "a of it must be"),
        (record({"a": whole()}), [], [{"b": 1}], "it lacks a"),
        (record({"a": absent_or(whole())}), [{}, {"a": 1}], [{"a": None}], "a of it must be"),
    ],
)
def test_rule_lets_pass_what_it_says(rule: Any, good: Any, bad: Any, says: str) -> None:
    for value in good:
        rule(value, "it")
    for value in bad:
        with pytest.raises(ValueError, match=says):
            rule(value, "it")


def test_error_names_field_rule_and_value_in_a_short_line() -> None:
    with pytest.raises(ValueError, match=r"^epochs of x\.json must be .*, 1 or more, got 1\.5\.$"):
        check_record({"epochs": 1.5}, {"epochs": whole(1)}, "x.json")
    for long in ("x" * 10**6, 10**5000, [[1] * 10**5] * 3):
        with pytest.raises(ValueError, match="got") as caught:
            check_record({"epochs": long}, {"epochs": flag()}, "x.json")
        assert len(str(caught.value)) < 300


def built(
    a: int,
    b: float = 1.0,
    c: bool = True,
    d: str | None = None,
    e: Literal["x", 2] = "x",
    f: Sequence[int] = (),
    g: Mapping[str, Any] | None = None,
    h: object = None,
) -> None:
    """A function with arguments of every kind."""


@pytest.mark.parametrize(
    "given",
    [
        {"a": 1},
        {"a": 1, "b": 2, "c": False, "d": None, "e": 2, "f": [1], "g": {}, "h": [{}]},
        {"a": 1, "d": "text", "g": None},
    ],
)
def test_arguments_of_the_declared_types_pass(given: dict[str, Any]) -> None:
    check_arguments(built, given, "it")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "it lack a, which built needs"),
        ({"a": 1, "z": 1}, "z of it is not an argument of built"),
        ({"a": True}, "a of it must be int, got True"),
        ({"a": 1.0}, "a of it must be int, got 1.0"),
        ({"a": 1, "b": "1"}, "b of it must be float"),
        ({"a": 1, "b": True}, "b of it must be float"),
        ({"a": 1, "c": "no"}, "c of it must be bool, got 'no'"),
        ({"a": 1, "d": 1}, "d of it must be"),
        ({"a": 1, "e": "y"}, "e of it must be"),
        ({"a": 1, "f": "xy"}, "f of it must be"),
        ({"a": 1, "g": []}, "g of it must be"),
    ],
)
def test_arguments_of_another_type_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_arguments(built, given, "it")
