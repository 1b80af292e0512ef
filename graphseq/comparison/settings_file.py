"""Settings of a data set: its models with their settings, from one small file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from graphseq.comparison.entries import Entry, entries_of
from graphseq.data.datasets.registry import DATASETS
from graphseq.data.storage.rules import (
    Rule,
    absent_or,
    anything,
    check_record,
    flag,
    list_of,
    mapping_of,
    number,
    optional,
    record,
    text,
    whole,
)
from graphseq.evaluation.metrics import metric_names
from graphseq.training.settings import ks_of

LINE: dict[str, Rule] = {
    "name": text(),
    "model": text(),
    "arguments": absent_or(mapping_of(anything())),
    "fit": absent_or(mapping_of(anything())),
}
RULES: dict[str, Rule] = {
    "models": list_of(record(LINE)),
    "default": absent_or(list_of(text())),
    "ks": absent_or(list_of(whole(1))),
    "exclude_seen": absent_or(flag()),
    "validation": absent_or(optional(number(0))),
    "note": absent_or(text(may_be_empty=True)),
}
"""The rules of the fields of a settings file, and of each of its lines."""

FOLDER = files("graphseq") / "comparison" / "settings"
"""Settings of the data sets, ``<name>.json``, and ``default.json`` for all others."""


@dataclass(frozen=True)
class Settings:
    """Settings of a data set.

    Args:
        models: The lines of the table.
        default: Names of the lines that run by default; empty: all.
        ks: Cut-offs of the metrics; ``mrr`` at the last one orders the table and is tested.
        exclude_seen: Whether items of the history are removed from the ranking.
        validation: Size of the held-out validation part; ``None``: no validation, all epochs are
            run.
        note: The reason for these settings, for readers of the file.
    """

    models: tuple[Entry, ...] = ()
    default: tuple[str, ...] = ()
    ks: tuple[int, ...] = (5, 10, 20)
    exclude_seen: bool = False
    validation: float | None = None
    note: str = ""

    @classmethod
    def for_dataset(cls, dataset: str) -> Settings:
        """The settings of a data set, or the default settings if it has none."""
        file = FOLDER / f"{dataset}.json"
        return cls._read(file if file.is_file() else FOLDER / "default.json")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Settings:
        """Reads a settings file, such as ``best.json`` of a search.

        Raises:
            ValueError: If there is no such file, or it holds no settings.
        """
        return cls._read(Path(path))

    @classmethod
    def _read(cls, file: Traversable) -> Settings:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            check_record(content, RULES, "the file")
            for fields, known in ((content, RULES), *((line, LINE) for line in content["models"])):
                if unknown := [name for name in fields if name not in known]:
                    raise ValueError(f"{unknown[0]!r} is none of the fields {', '.join(known)}")
            lists = {name: tuple(content[name]) for name in ("default", "ks") if name in content}
            models = tuple(Entry(**line) for line in content["models"])
            settings = cls(**{**content, **lists, "models": models})
            entries_of(models)
            settings.select(None)
        except (OSError, ValueError) as error:
            said = str(error).rstrip(".")
            raise ValueError(f"{file} holds no settings of models: {said}.") from error
        return settings

    def to_dict(self) -> dict[str, Any]:
        """The content of a settings file, as :meth:`read` takes it."""
        lines = [{"name": entry.name, **entry.settings} for entry in self.models]
        return {
            "note": self.note,
            "ks": list(self.ks),
            "default": list(self.default),
            "exclude_seen": self.exclude_seen,
            "validation": self.validation,
            "models": lines,
        }

    def select(self, names: Sequence[str] | None) -> list[Entry]:
        """The lines with these names of lines or models.

        Args:
            names: Names; ``["all"]``: every line; ``None``: the lines that run by default.

        Raises:
            ValueError: If there is no line with a given name.
        """
        if names is None:
            names = self.default or ["all"]
        return list(self.models) if list(names) == ["all"] else entries_of(names, self.models)


def settings_of(settings: str | os.PathLike[str] | Settings | None) -> Settings:
    """The settings themselves, or read by data set name or from a file, or the default."""
    if isinstance(settings, Settings):
        return settings
    if isinstance(settings, (str, os.PathLike)) and Path(settings).suffix == ".json":
        return Settings.read(settings)
    if settings is None:
        return Settings.for_dataset("default")
    own = sorted(file.name.removesuffix(".json") for file in FOLDER.iterdir())
    own.remove("default")
    if not isinstance(settings, str) or settings not in {"default", *own, *DATASETS}:
        raise ValueError(
            f"There are no settings {settings!r}: pass the path of a .json file, or the name of a "
            f"data set; {', '.join(own)} have settings of their own."
        )
    return Settings.for_dataset(settings)


def ranked_by(
    settings: Settings, ks: int | Iterable[int] | None, monitor: str | None
) -> tuple[tuple[int, ...], str]:
    """The cut-offs of a comparison, ascending, and the metric that orders its models.

    Args:
        settings: Settings whose cut-offs are used for ``ks=None``.
        ks: Cut-offs.
        monitor: One of their metrics; ``None``: ``mrr`` at the largest of them.

    Raises:
        ValueError: If a cut-off is invalid, or the metric is unknown or at another cut-off.
    """
    given = settings.ks if ks is None else ks
    listed = list(given) if isinstance(given, Iterable) else [given]
    names = metric_names(listed)
    cutoffs = tuple(sorted({int(k) for k in listed}))
    monitor = f"mrr@{cutoffs[-1]}" if monitor is None else monitor
    missing = [k for k in ks_of(monitor) if k not in cutoffs]
    if missing and monitor not in names:
        raise ValueError(
            f"monitor={monitor!r} is at no cut-off that is ranked, which are "
            f"{', '.join(map(str, cutoffs))}: add {missing[0]} to ks, or choose one of "
            f"{', '.join(names)}."
        )
    return cutoffs, monitor
