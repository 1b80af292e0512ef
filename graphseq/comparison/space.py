"""Search spaces of the families: small readable files, and their interface to Optuna.

A space is ``{"arguments": {...}, "fit": {...}}``, arguments of the model and fields of
``TrainingSettings``. A list is a choice, as are a tuple, range or array of Python.
``{"low": 1, "high": 9}`` is a range, of whole numbers if both ends are; with ``"log": true`` it is
uniform on a log scale. Anything else is a fixed value.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from graphseq.comparison.entries import Entry, check_names, plain
from graphseq.deprecation import old_classmethod

FOLDER = files("graphseq") / "comparison" / "spaces"
"""Spaces of the families, ``<model>.json``."""


class Space:
    """The settings that a search tries for one family, on top of known good settings.

    Args:
        base: Base settings, which are kept unless the space names them.
        content: The space, as in its file.

    Raises:
        ValueError: If the space names an unknown argument or setting, or a range is invalid.
    """

    def __init__(self, base: Entry, content: Mapping[str, Mapping[str, Any]]) -> None:
        if not isinstance(content, Mapping):
            raise ValueError(
                f"A space maps 'arguments' and 'fit' to mappings, got {content!r:.60}."
            )
        foreign = sorted(set(content) - {"arguments", "fit"})
        if foreign:
            raise ValueError(f"A space has 'arguments' and 'fit', got {', '.join(foreign)}.")
        for part, values in content.items():
            if not isinstance(values, Mapping):
                raise ValueError(f"{part!r} of a space maps names to values, got {values!r}.")
            for name, value in values.items():
                if any(map(callable, value if isinstance(value, list) else [value])):
                    raise ValueError(
                        f"A space has values of files, and {part}.{name} is a function: pass it "
                        f"with the model, as in ({base.name!r}, {{{name!r}: ...}})."
                    )
        self.base = base
        self.content = {
            part: {name: _as_in_file(value) for name, value in content.get(part, {}).items()}
            for part in ("arguments", "fit")
        }
        check_names(base, self.content["arguments"], self.content["fit"])
        for name, value in self.searched():
            if isinstance(value, list) and not value:
                raise ValueError(f"{name} has no choice to try.")
            if isinstance(value, dict):
                _check_range(name, value)

    @classmethod
    def from_entry(cls, base: Entry) -> Space:
        """The predefined space of a family.

        Raises:
            ValueError: If the family has none.
        """
        file = FOLDER / f"{base.model}.json"
        if not file.is_file():
            known = ", ".join(sorted(f.name.removesuffix(".json") for f in FOLDER.iterdir()))
            raise ValueError(
                f"{base.model} has no predefined search space, as {known} have: write one, as in "
                "{'arguments': {'hidden_channels': [64, 128]}}, and pass it."
            )
        return cls(base, json.loads(file.read_text(encoding="utf-8")))

    of = old_classmethod("Space.of", "from_entry")

    @classmethod
    def read(cls, base: Entry, path: str | os.PathLike[str]) -> Space:
        """Reads a space from a file.

        Raises:
            ValueError: If there is no such file, or it holds no space.
        """
        try:
            return cls(base, json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            said = str(error).rstrip(".")
            raise ValueError(f"{path} holds no search space: {said}.") from error

    def searched(self) -> Iterator[tuple[str, Any]]:
        """The searched settings: ``part.name``, and its list or range."""
        for part, values in self.content.items():
            for name, value in values.items():
                if isinstance(value, list) or _is_range(value):
                    yield f"{part}.{name}", value

    def suggest(self, trial: Any) -> Entry:
        """The settings of one trial of Optuna."""
        chosen = {name: self._draw(trial, name, value) for name, value in self.searched()}
        return self.entry(chosen)

    def entry(self, chosen: Mapping[str, Any]) -> Entry:
        """The settings with these values of the searched settings, ``part.name`` -> value."""
        parts = {"arguments": dict(self.base.arguments), "fit": dict(self.base.fit)}
        for part, values in self.content.items():
            for name, value in values.items():
                parts[part][name] = chosen.get(f"{part}.{name}", value)
        return replace(self.base, arguments=parts["arguments"], fit=parts["fit"])

    def of_base(self) -> dict[str, Any]:
        """The known good settings as a first trial, as far as they lie in the space."""
        known = {}
        for name, value in self.searched():
            part, _, field = name.partition(".")
            given = self.base.settings[part]
            if field not in given:
                continue
            if isinstance(value, list):
                if given[field] in value:
                    known[name] = _label(given[field])
            elif (  # None, as in no patience, lies in no range
                given[field] is not None and value["low"] <= given[field] <= value["high"]
            ):
                known[name] = given[field]
        return known

    @staticmethod
    def _draw(trial: Any, name: str, value: Any) -> Any:
        if isinstance(value, list):
            labels = {_label(choice): choice for choice in value}  # Optuna stores plain values only
            return labels[trial.suggest_categorical(name, list(labels))]
        low, high, log = value["low"], value["high"], value.get("log", False)
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(name, low, high, log=log)
        drawn = trial.suggest_float(name, low, high, log=log)
        digits = 3 - math.floor(math.log10(abs(drawn))) if drawn else 3
        # Four digits, as people read the file; rounding may not leave the range.
        return float(min(max(round(drawn, digits), low), high))


def _as_in_file(value: Any) -> Any:
    return plain(list(value) if isinstance(value, (tuple, range, np.ndarray)) else value)


def _is_range(value: Any) -> bool:
    return isinstance(value, dict) and bool({"low", "high"} & set(value))


def _check_range(name: str, value: dict[str, Any]) -> None:
    if not {"low", "high"} <= set(value) <= {"low", "high", "log"}:
        raise ValueError(
            f"{name} is a range of 'low' and 'high', of 'log' if its scale is logarithmic, got "
            f"{value!r}."
        )
    low, high, log = value["low"], value["high"], value.get("log", False)
    if not all(type(end) in (int, float) and math.isfinite(end) for end in (low, high)):
        raise ValueError(f"{name} is a range between two numbers, got {low!r}, {high!r}.")
    if not low < high:
        raise ValueError(f"{name} needs low < high, got {low}, {high}.")
    if not isinstance(log, bool) or (log and low <= 0):
        raise ValueError(
            f"{name} has 'log' of true or false, and true needs low > 0, got log {log!r} and low "
            f"{low}."
        )


def _label(choice: Any) -> Any:
    plain = choice is None or isinstance(choice, (str, bool, int, float))
    return choice if plain else json.dumps(choice)
