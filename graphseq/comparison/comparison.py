"""The result of a comparison of models: frame, tests in words, tables and plots."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from graphseq.comparison import tables
from graphseq.comparison.record import read_results, rules_of, write_text
from graphseq.comparison.verdicts import sentence
from graphseq.metric_scale import name_among
from graphseq.visualization import plot_comparison, plot_cost

TESTED = (
    "model",
    "against",
    "metric",
    "difference",
    "low",
    "high",
    "p_value",
    "cases",
    "clusters",
    "p_corrected",
)
"""Columns of :meth:`Comparison.tests`."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models evaluated on the same cases; made by :func:`graphseq.compare`.

    Everything comes from its record, the content of a ``results.json``, so that :meth:`load`
    restores it completely.

    Args:
        content: The record.
    """

    content: Mapping[str, Any]

    @classmethod
    def load(cls, path: str | os.PathLike[str], *more: str | os.PathLike[str]) -> Comparison:
        """Loads the comparison from a ``results.json``, or from the folder that holds it.

        Args:
            path: The file or folder.
            *more: Further comparisons of the same data and protocol, whose rows join the table.
                Models of different comparisons are not tested against each other.

        Raises:
            ValueError: If there is no such file, it has another format, or results of different
                data or protocols would be mixed in one table.
        """
        content = dict(read_results(path))
        for other in more:
            found = read_results(other)
            for key, what in (("data", "other data"), ("protocol", "another protocol")):
                ours, theirs = content[key], found[key]
                if key == "data":
                    ours, theirs = ours.get("fingerprint"), theirs.get("fingerprint")
                else:
                    ours, theirs = rules_of(ours), rules_of(theirs)
                if ours != theirs:
                    raise ValueError(
                        f"{other} holds results of {what} than {path}: they belong in two tables."
                    )
            both = {row["model"] for row in content["rows"]} & {r["model"] for r in found["rows"]}
            if both:
                raise ValueError(
                    f"{other} and {path} both hold rows of {', '.join(sorted(both))}: a line of a "
                    "table is of one run."
                )
            content["rows"] = [*content["rows"], *found["rows"]]
            content["tests"] = [*content.get("tests", []), *found.get("tests", [])]
        return cls(content)

    @property
    def monitor(self) -> str:
        """The metric that orders the models."""
        return tables.leading_metric(self.content)

    @property
    def models(self) -> list[str]:
        """Names of the lines, best first."""
        return list(tables.by_model(self.content))

    def to_frame(self) -> pd.DataFrame:
        """One row per model, best first, all numbers as fractions.

        For every metric, its mean over the seeds, and ``<metric> spread``, their standard deviation
        (NaN for one seed). ``<metric> low`` and ``<metric> high`` are the 95 % interval over the
        test sessions, averaged over the seeds. Then ``seeds``, and the means of ``epochs``,
        ``train_seconds``, ``eval_seconds`` and ``num_parameters``.
        """
        lines = {}
        for model, rows in tables.by_model(self.content).items():
            line: dict[str, float] = {}
            for metric in rows[0]["metrics"]:
                values = np.array([row["metrics"][metric] for row in rows])
                low, high = tables.mean_interval(rows, metric) or (np.nan, np.nan)
                line[metric] = float(values.mean())
                line[f"{metric} spread"] = values.std(ddof=1) if len(rows) > 1 else np.nan
                line |= {f"{metric} low": low, f"{metric} high": high}
            line["seeds"] = len(rows)
            for key in ("epochs", "train_seconds", "eval_seconds", "num_parameters"):
                line[key] = tables.mean_of(rows, key)
            lines[model] = line
        return pd.DataFrame.from_dict(lines, orient="index").rename_axis("model")

    def tests(self, metric: str | None = None) -> pd.DataFrame:
        """Paired tests of every model against every other, clustered by session or user.

        Args:
            metric: One of the tested metrics (``"sampled "`` may be left out); ``None``: all of
                them.

        Returns:
            One row per pair and metric, with ``model``, ``against``, ``metric``, ``cases``,
            ``clusters``. ``difference`` is the first minus the second, averaged over seeds; ``low``
            and ``high`` are its 95 % interval. ``p_value`` is uncorrected, ``p_corrected`` is
            corrected (Holm) over all pairs of the metric.

        Raises:
            ValueError: If the metric was not tested.
        """
        return pd.DataFrame(self._tests(metric), columns=list(TESTED))

    def sentences(self, metric: str | None = None, *, of: str | None = None) -> list[str]:
        """The tests in words: ``"srgnn beats markov by 1.3 points of hr@20, interval ..."``.

        Args:
            metric: As for :meth:`tests`.
            of: The model whose tests are described; ``None``: the best one, at the top of the
                table.

        Raises:
            ValueError: If there is no such model, or the metric was not tested.
        """
        order = self.models
        if of is not None and of not in order:
            raise ValueError(f"There is no model {of!r} here; the models are {', '.join(order)}.")
        of = order[0] if of is None else of
        told = [test for test in self._tests(metric) if of in (test["model"], test["against"])]

        def other(test: Mapping[str, Any]) -> int:
            return order.index(test["against" if test["model"] == of else "model"])

        metrics = list(dict.fromkeys(test["metric"] for test in told))
        return [
            sentence(test)
            for name in metrics
            for test in sorted((t for t in told if t["metric"] == name), key=other)
        ]

    def to_markdown(self) -> str:
        """The table in percent, best first, with half of each interval after ±."""
        return tables.markdown(self.content)

    def to_latex(self) -> str:
        """The same as a LaTeX table with ``booktabs``; the best value of each column is bold."""
        return tables.latex(self.content)

    def plot(
        self,
        *,
        metrics: str | Sequence[str] | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> Figure:
        """Bars of all models with their intervals: :func:`graphseq.visualization.plot_comparison`.

        Args:
            metrics: One name or several, one panel each, the first one orders the models;
                ``None``: the table's leading metric, and ``hr`` or ``mrr`` at the largest cut-off.
            path: File to write the figure to.
        """
        if metrics is None:
            shown = tables.shown_metrics(self.content)[:2]
            metrics = list(dict.fromkeys([self.monitor, *shown]))[:2]
        return plot_comparison(self.content, metrics=metrics, path=path)

    def plot_cost(self, *, path: str | os.PathLike[str] | None = None) -> Figure:
        """Quality against seconds of training: :func:`graphseq.visualization.plot_cost`."""
        return plot_cost(self.content, metric=self.monitor, path=path)

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes ``table.md``, ``table.tex``, ``comparison.png`` and ``cost.png``.

        Returns:
            The files.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / n for n in ("table.md", "table.tex", "comparison.png", "cost.png")]
        said = "".join(f"\n- {line}" for line in self.sentences())
        said += "".join(f"\n- {line}" for line in tables.audited(self.content))
        tables_written = (f"{self.to_markdown()}\n{said}\n", self.to_latex())
        for path, text in zip(files, tables_written, strict=False):
            write_text(text, path)
        self.plot(path=files[2])
        self.plot_cost(path=files[3])
        return files

    def _tests(self, metric: str | None) -> list[dict[str, Any]]:
        tests: list[dict[str, Any]] = self.content.get("tests", [])
        tested = list(dict.fromkeys(test["metric"] for test in tests))
        metric = None if metric is None else name_among(metric, [tested])
        if metric is not None and metric not in tested:
            raise ValueError(f"{metric!r} was not tested, but {', '.join(tested) or 'nothing'}.")
        return [test for test in tests if metric in (None, test["metric"])]

    def __repr__(self) -> str:
        name, models = self.content["data"]["name"], ", ".join(self.models)
        return f"{type(self).__name__}({name}: {models})"
