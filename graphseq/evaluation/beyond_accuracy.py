"""Metrics of recommendation lists beyond accuracy: diversity, novelty, calibration and more."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from graphseq.arguments import whole
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.evaluate import clusters_of, narrowed
from graphseq.evaluation.inputs import inference_mode, read_inputs
from graphseq.evaluation.protocol import Protocol, protocol_of
from graphseq.evaluation.scoring import score_cases
from graphseq.evaluation.shortlist import shortlist
from graphseq.evaluation.significance import mean_interval
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.models.use.inference import blocks
from graphseq.random import torch_stream
from graphseq.typing import Floats, Ints

logger = logging.getLogger(__name__)

SMOOTHING = 0.01
"""Share of the history mixed into a list for calibration, so that no category is missing."""

MOST_CELLS = 2**22
"""Items of histories, and cells of tables of categories, that are held at once."""


@dataclass(frozen=True, eq=False)
class ListReport:
    r"""The first k recommendations of every case, and their metrics.

    With L the list of a case, :math:`c_j` the training clicks of an item and N all of them:

    ================== ==========================================================================
    metric             of what
    ================== ==========================================================================
    coverage           share of the catalog that is in any list
    gini               inequality of the items' exposure (0: all equal, 1: one item only)
    personalization    1 - the mean overlap :math:`|L \cap L'| / \max(|L|, |L'|)` of all pairs of
                       lists
    average_popularity mean of :math:`c_j` over the list
    novelty            mean of :math:`-\log_2(c_j / N)` over the list (Zhou et al., PNAS 2010)
    serendipity        target in the list, but not among the k most popular items (Ge et al.,
                       RecSys 2010)
    repeat             share of the list that is in the history of the case
    explore            share that is not
    diversity          share of the pairs of the list of two categories (Ziegler et al., WWW 2005)
    miscalibration     :math:`KL(p \| 0.99 q + 0.01 p)` of the categories p of the history's
                       distinct items and q of the list (Steck, RecSys 2018); 0: calibrated
    ================== ==========================================================================

    Args:
        k: Length of a list.
        metrics: Name (``"coverage@20"``) -> value; the last two need categories.
        lists: Item codes, best first, int64 [num_cases, k]; -1: no recommendation.
        cases: Metric without its k -> its values per case, for metrics that are defined per case.
        cluster: The session or user of each case, int64 [num_cases].
    """

    k: int
    metrics: dict[str, float]
    lists: Ints
    cases: dict[str, Floats]
    cluster: Ints

    def values(self, metric: str) -> Floats:
        """The values of a metric per case, float64 [num_cases]; NaN if it is not defined.

        Raises:
            ValueError: If the report has no such metric, or the metric is defined only for all
                lists together.
        """
        name = metric.removesuffix(f"@{self.k}")
        if name not in self.cases:
            raise ValueError(f"Metrics per case are {', '.join(self.cases)}, got {metric!r}.")
        return self.cases[name]

    def confidence_interval(self, metric: str, level: float = 0.95) -> tuple[float, float]:
        """The cluster-robust interval of a metric that has values per case.

        Raises:
            ValueError: As :meth:`values`, or if ``level`` is not between 0 and 1.
        """
        values = self.values(metric)
        known = ~np.isnan(values)
        return mean_interval(values[known], self.cluster[known], level=level)

    def to_frame(self) -> pd.DataFrame:
        """One row per metric: ``value``, and ``low`` and ``high`` if it has an interval."""
        rows = {}
        for name, value in self.metrics.items():
            has = name.removesuffix(f"@{self.k}") in self.cases and not np.isnan(value)
            rows[name] = (value, *(self.confidence_interval(name) if has else (np.nan, np.nan)))
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
        return frame.rename_axis("metric")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4f}" for name, value in self.metrics.items())
        return f"{type(self).__name__}({shown}, num_cases={len(self.lists)})"


def evaluate_lists(
    model: SessionModel,
    sessions: Sessions | Sequence[Sequence[Any]],
    *,
    k: int = 20,
    categories: ArrayLike | None = None,
    protocol: Protocol | str | None = None,
    batch_size: int = 512,
    cluster: str = "session",
    seed: int = 0,
    device: torch.device | str | None = None,
) -> ListReport:
    """Measures the first k recommendations of every case.

    Cases are defined as in :func:`~graphseq.evaluation.evaluate`. A case with no known click before
    its target gets the most popular items. Ties for the last places are broken at random.

    Args:
        model: Any model with a catalog.
        sessions: A part of a split, or lists of item ids.
        k: Length of a list.
        categories: The category of each item in the order of the catalog, [num_items]; a mapping
            from item ids to categories; or the name of a column of ``model.catalog.item_features``.
            Items without a category (``None``, NaN, no key) are together a category of their own.
            ``None``: metrics of categories are left out.
        protocol: Which clicks are targets, and whether seen items are removed from the lists.
        batch_size: Session graphs per batch.
        cluster: Clusters of dependent cases: ``"session"`` or ``"user"``.
        seed: Seed of the random tie breaking.
        device: Device to run on; ``None``: the model's device.

    Raises:
        ValueError: If the model has no catalog, or categories do not match it. Also if the protocol
            draws candidates or has ``seen="both"``, or as ``evaluate``.
    """
    k, batch_size = whole("k", k), whole("batch_size", batch_size)
    seed = whole("seed", seed, at_least=0)
    protocol = protocol_of(protocol)
    if protocol.sampled or protocol.seen == "both":
        raise ValueError(
            "Lists are of all items, with seen items or without, got a protocol with candidates="
            f"{protocol.candidates!r} and seen={protocol.seen!r}."
        )
    given, sessions = read_inputs(model, sessions)
    if model.catalog is None:
        raise ValueError(
            "Lists are measured by training counts, but the model has no catalog: fit it, or "
            "attach that of training as model.catalog."
        )
    codes = _categories(categories, model)
    given, sessions, _ = narrowed(given, sessions, protocol)
    cases = Targets(sessions)
    size = min(k, model.num_items)
    groups = clusters_of(given, cases, cluster)
    lists = np.full((len(cases), size), -1, dtype=np.int64)
    counts = np.asarray(model.catalog.counts)
    popular = np.argsort(-counts, kind="stable")[:size]
    first = np.argsort(-model.without_history().cpu().numpy(), kind="stable")[:size]
    lists[cases.history == 0] = first
    generator = torch_stream("lists", seed)
    tolerance = None if model.scores_by_table else model.score_tolerance
    with inference_mode(model, device):
        for case, scores in score_cases(model, sessions, cases, batch_size):
            if protocol.seen == "remove":
                row, item = (torch.from_numpy(part).to(scores.device) for part in cases.seen(case))
                scores = scores.index_put((row, item), scores.new_tensor(-torch.inf))
            items, present = shortlist(scores, size, generator, tolerance)
            lists[case] = torch.where(present, items, -1).cpu().numpy()
    # Histories of all prefixes are quadratic in the length of sessions.
    widest = 1 if codes is None else int(codes.max()) + 1
    parts = [
        _by_case(lists[part], cases, np.arange(len(cases))[part], counts, popular, codes)
        for part in blocks(np.maximum(cases.num_seen(), widest), len(cases), MOST_CELLS)
    ]
    by_case = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    together = {
        "coverage": coverage(lists, model.num_items),
        "gini": gini(np.bincount(lists[lists >= 0], minlength=model.num_items)),
        "personalization": personalization(lists, k),
    }
    means = {
        name: float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")
        for name, values in by_case.items()
    }
    metrics = {f"{name}@{k}": value for name, value in (together | means).items()}
    return ListReport(k, metrics, lists, by_case, groups)


def coverage(lists: Ints, num_items: int) -> float:
    """Share of the items that occur in any list, int64 [n, k]; -1: no item (PyG's metric)."""
    from torch_geometric.metrics import LinkPredCoverage  # loads torchmetrics, slowly

    metric = LinkPredCoverage(max(1, lists.shape[1]), num_items)
    seen = torch.from_numpy(np.unique(lists[lists >= 0])).unsqueeze(1)
    metric.update(seen, torch.empty(2, 0, dtype=torch.long))
    return float(metric.compute())


def gini(exposure: ArrayLike) -> float:
    r"""Gini's index of how often items are recommended.

    .. math::
        G = \frac{\sum_i (2 i - V - 1) \, x_i}{V \sum_i x_i}, \qquad x_1 \le \dots \le x_V

    >>> gini([0, 0, 4, 0])
    0.75

    Args:
        exposure: Number of lists that hold each item, [num_items].

    Returns:
        From 0, all equal, up to 1; NaN if no list holds an item.

    Raises:
        ValueError: If they are not finite numbers of at least 0, [num_items].
    """
    ordered = np.sort(np.atleast_1d(np.asarray(exposure, dtype=np.float64)), axis=0)
    if np.ndim(exposure) != 1 or not np.isfinite(ordered).all() or (ordered < 0).any():
        raise ValueError(
            "exposure holds one finite number of at least 0 per item, [num_items], got "
            f"{exposure!r:.60}."
        )
    total = ordered.sum()
    if total == 0:
        return float("nan")
    size = len(ordered)
    return float(((2 * np.arange(1, size + 1) - size - 1) * ordered).sum() / (size * total))


def personalization(lists: Ints, k: int) -> float:
    r"""1 - the mean overlap of all pairs of lists, exact, in time linear in the number of lists.

    The overlap :math:`|L \cap L'| / \max(|L|, |L'|)` is 1 for equal lists, however short. An item
    in c lists of one length is shared by c (c - 1) / 2 pairs. PyG's metric compares pairs one by
    one, and therefore only the first 4,096 lists.

    Args:
        lists: Item codes, int64 [n, length], each item at most once per row; -1: no item.
        k: Number of items of a list that count, from the first.

    Returns:
        From 0, all lists equal, to 1, no item in two of them. Empty lists are left out; NaN if
        fewer than two are left.
    """
    lists = lists[:, :k]
    length = (lists >= 0).sum(1)
    n = int((length > 0).sum())
    if n < 2:
        return float("nan")
    shorter = np.zeros(int(lists.max()) + 1)  # lists so far that hold each item
    overlap = 0.0
    for size in np.unique(length[length > 0]):
        group = lists[length == size]
        number = np.bincount(group[group >= 0], minlength=len(shorter))
        # Pairs within the group, and with a shorter list: the larger length is the group's.
        overlap += float((number * ((number - 1) / 2 + shorter)).sum()) / size
        shorter += number
    return float(1 - overlap / (n * (n - 1) / 2))


def _by_case(
    lists: Ints, cases: Targets, case: Ints, counts: Ints, popular: Ints, codes: Ints | None
) -> dict[str, Floats]:
    """Values of every metric per case, for the cases with these numbers and lists."""
    present = lists >= 0
    length = np.where(present.any(1), present.sum(1), np.nan)  # NaN: an empty list

    def mean(values: NDArray[Any]) -> Floats:
        return np.where(present, values, 0.0).sum(1) / length

    of_item = counts.astype(np.float64)
    surprise = -np.log2(np.maximum(of_item, 1) / max(1.0, of_item.sum()))
    hit = (lists == cases.target[case][:, None]) & present
    row, item = cases.seen(case)
    width = len(counts)
    place = np.arange(len(lists))[:, None]
    repeat = np.isin(lists + place * width, item + row * width) & present
    found = {
        "average_popularity": mean(of_item[lists]),
        "novelty": mean(surprise[lists]),
        "serendipity": (hit & ~np.isin(lists, popular)).any(1).astype(np.float64),
        "repeat": mean(repeat),
        "explore": mean(~repeat),
    }
    if codes is None:
        return found
    category = np.where(present, codes[lists], -1 - np.arange(lists.shape[1]))
    ordered = np.sort(category, axis=1)
    # Equal pairs of a row: a run of m equal items has m (m - 1) / 2 pairs.
    run = np.zeros(len(lists))
    length_of_run = np.zeros(len(lists))
    for column in range(1, ordered.shape[1]):
        length_of_run = np.where(ordered[:, column] == ordered[:, column - 1], length_of_run + 1, 0)
        run += length_of_run
    pairs = present.sum(1) * (present.sum(1) - 1) / 2
    found["diversity"] = 1 - run / np.where(pairs > 0, pairs, np.nan)
    num_categories = int(codes.max()) + 1
    of_list = _shares(
        place.repeat(lists.shape[1], 1)[present], codes[lists[present]], lists, num_categories
    )
    of_history = _shares(row, codes[item], lists, num_categories)
    mixed = (1 - SMOOTHING) * of_list + SMOOTHING * of_history
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(of_history > 0, of_history * np.log(of_history / mixed), 0.0)
    known = (of_history.sum(1) > 0) & present.any(1)
    found["miscalibration"] = np.where(known, terms.sum(1), np.nan)
    return found


def _shares(row: Ints, category: Ints, lists: Ints, num_categories: int) -> Floats:
    """Share of each category in each row, float64 [n, num_categories]; zeros for an empty row."""
    cells = np.bincount(row * num_categories + category, minlength=len(lists) * num_categories)
    counts = cells.reshape(len(lists), num_categories).astype(np.float64)
    total = counts.sum(1, keepdims=True)
    return counts / np.where(total > 0, total, 1.0)


def _categories(given: Any, model: SessionModel) -> Ints | None:
    """A code of the category of each item, int64 [num_items]."""
    if given is None:
        return None
    assert model.catalog is not None
    if isinstance(given, str):
        table = model.catalog.item_features
        columns = [] if table is None else [str(name) for name in table]
        if table is None or given not in columns:
            raise ValueError(
                f"The catalog has no item feature {given!r}; it has {', '.join(columns) or 'none'}."
            )
        given = table[given]
    if isinstance(given, Mapping):
        ids = model.catalog.items.ids.tolist()
        if not any(item in given for item in ids):
            raise ValueError(
                "categories has no item of the catalog as a key: a mapping is from item ids, such "
                f"as {ids[0]!r}, to categories."
            )
        given = [given.get(item) for item in ids]
    if isinstance(given, (str, set, frozenset)) or not isinstance(given, Iterable):
        raise ValueError(
            "categories holds one category per item in the order of the catalog, or is a mapping "
            f"from item ids, got {type(given).__name__}."
        )
    values = pd.Series(list(given), dtype=object)
    if len(values) != model.num_items:
        raise ValueError(f"There is one category per item, [{model.num_items}], got {len(values)}.")
    missing = values.isna().to_numpy()
    if missing.any():
        logger.warning(
            "%d of %d items have no category: together they are one.", missing.sum(), len(values)
        )
    # Not a text of their own, which could be the name of a category.
    codes, names = pd.factorize(values.where(~missing, "").astype(str))
    return np.where(missing, len(names), codes).astype(np.int64)
