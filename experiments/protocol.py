"""What an experiment does on a data set: its models with their settings, from one small file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import graphseq as gs

FOLDER = Path(__file__).parent / "settings"


def part_size(text: str) -> float:
    """The size of a validation part on a command line: clicks are whole, shares and days not."""
    return int(text) if text.isdigit() else float(text)


@dataclass(frozen=True)
class Entry:
    """One line of the table: a model of ``MODELS`` with arguments, trained in one way.

    Args:
        name: How the table calls it.
        model: Its name in ``graphseq.models.MODELS``.
        arguments: Arguments of the model, beside ``num_items``.
        fit: Fields of ``TrainingSettings``, as JSON has them.
    """

    name: str
    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def settings(self) -> dict[str, Any]:
        return {"model": self.model, "arguments": self.arguments, "fit": self.fit}

    @property
    def training(self) -> gs.TrainingSettings:
        return gs.TrainingSettings.from_dict(self.fit)


@dataclass(frozen=True)
class Protocol:
    """How a data set is used.

    Args:
        models: The lines of the table.
        default: Names of the lines that run where none are named; empty: all.
        ks: Cutoffs of the metrics; tests and the table's order go by ``mrr`` at the last.
        exclude_seen: Whether items of the history leave the ranking.
        validation: How much of training is held out; ``None``: nothing, all epochs are run.
        note: Why it is so, for the reader of the file.
    """

    models: tuple[Entry, ...]
    default: tuple[str, ...] = ()
    ks: tuple[int, ...] = (5, 10, 20)
    exclude_seen: bool = False
    validation: float | None = None
    note: str = ""

    @classmethod
    def read(cls, dataset: str, path: Path | None = None) -> Protocol:
        """The protocol of a data set, or the default one where it has none of its own."""
        file = path or FOLDER / f"{dataset}.json"
        file = file if file.exists() or path is not None else FOLDER / "default.json"
        content = json.loads(file.read_text())
        models = tuple(Entry(**entry) for entry in content.pop("models"))
        default, ks = tuple(content.pop("default", ())), tuple(content.pop("ks", cls.ks))
        return cls(models=models, default=default, ks=ks, **content)

    def select(self, names: list[str] | None) -> list[Entry]:
        """The lines of these models, by the name of line or model; ``["all"]``: every line.

        ``None``: the lines that the settings name as default.

        Raises:
            SystemExit: If there is none of that name.
        """
        if names is None:
            names = list(self.default) or ["all"]
        if names == ["all"]:
            return list(self.models)
        chosen = [e for name in names for e in self.models if name in (e.name, e.model)]
        known = {label for entry in self.models for label in (entry.name, entry.model)}
        for name in names:
            if name not in known:
                raise SystemExit(
                    f"There are no settings for the model {name!r} here, but for "
                    f"{', '.join(sorted(known))}: see experiments/settings or pass --settings."
                )
        return list({entry.name: entry for entry in chosen}.values())
