"""Numbers that mean nothing are refused in one sentence, by whatever class they are given to."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import graphseq as gs
from graphseq.arguments import (
    check_annotated,
    check_fractions,
    check_heads,
    check_shares,
    check_sizes,
)

NEEDED = {
    "num_items": 30,
    "num_buckets": 8,
    "max_length": 6,
    "channels": 8,
    "in_channels": 8,
    "hidden_channels": 8,
    "name": "extra",
}
ROOMS = (gs.nn, gs.models, gs.data, gs.training)
NO_NUMBERS = ("x", [1], float("nan"), True)


def is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def classes() -> Iterator[tuple[type[Any], str, str]]:
    """Public classes that sizes alone construct, and their parameters that are numbers."""
    public = {name: vars(room).get(name) for room in ROOMS for name in dir(room)}
    for found in public.values():
        if not inspect.isclass(found) or not found.__module__.startswith("graphseq."):
            continue
        parameters = inspect.signature(found).parameters.values()
        if not {p.name for p in parameters if is_needed(p)} <= set(NEEDED):
            continue
        for p in parameters:
            kind = str(p.annotation).removesuffix(" | None")
            if kind in ("int", "float"):
                yield found, p.name, kind


CASES = list(dict.fromkeys(classes()))


def construct(found: type[Any], **given: Any) -> Any:
    needed = [p.name for p in inspect.signature(found).parameters.values() if is_needed(p)]
    return found(**{**{name: NEEDED[name] for name in needed}, **given})


def test_classes_of_every_kind_are_looked_at() -> None:
    looked_at = {found for found, _, _ in CASES}
    assert {gs.nn.SelfAttention, gs.models.SASRec, gs.data.ClickDropout} < looked_at
    assert {gs.nn.LearnedPositions, gs.training.Contrastive} < looked_at


@pytest.mark.parametrize(("found", "name", "kind"), CASES)
def test_number_that_is_none_is_refused_by_name(found: type[Any], name: str, kind: str) -> None:
    construct(found)  # what is refused below is the one value
    for value in NO_NUMBERS:
        if value is True and kind == "float":
            continue
        with pytest.raises(ValueError, match=name.split("_")[-1]) as caught:
            construct(found, **{name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["2", [2], 2.0, float("nan"), True, 0, -3])
def test_sizes_are_whole_numbers_of_at_least_one(value: Any) -> None:
    check_sizes(width=1, depth=None)
    with pytest.raises(ValueError, match="width must be"):
        check_sizes(width=value)
    with pytest.raises(ValueError, match="heads must be"):
        check_heads(8, value)
    with pytest.raises(ValueError, match="hidden_channels must be"):
        check_heads(value, 1)


def test_share_of_all_is_no_share_but_a_fraction() -> None:
    check_shares(dropout=0)
    check_fractions(alpha=0, beta=1)
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got 1"):
        check_shares(dropout=1)
    for value in (-0.1, 1.1, float("nan"), "0.5", None):
        with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\], got"):
            check_fractions(alpha=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["12", 3, 2.5, [1, 2.5], [1, True], ["1"]])
def test_list_of_whole_numbers_is_one(value: Any) -> None:
    kinds = {"widths": "Sequence[int]", "heights": "Sequence[int] | None"}
    check_annotated(kinds, {"widths": (3, 4), "heights": None})
    with pytest.raises(ValueError, match="widths must be a list of whole numbers, got"):
        check_annotated(kinds, {"widths": value})
    with pytest.raises(ValueError, match="heights must be a list of whole numbers or None, got"):
        check_annotated(kinds, {"heights": value})
