"""Grows models to a larger catalog, and keeps the parameters of known items."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, eye, hstack, vstack

from graphseq.data.graphs.item_graph import near_counts
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.features import Feature, encode_column, feature_specs
from graphseq.data.sessions.item_table import join_tables
from graphseq.data.sessions.sessions import Sessions, only_sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.data.splits.split_parts import Split
from graphseq.deprecation import renamed_value
from graphseq.models.base import SessionModel
from graphseq.models.counting.counting import CountingModel
from graphseq.nn.chance import OwnDraws
from graphseq.nn.features import ItemFeatures
from graphseq.nn.item_table import EncodedItemTable

logger = logging.getLogger(__name__)

Initial = Literal["mean", "neighbors", "features"]

STEPS = 3
"""Maximum distance of neighboring items, in clicks."""

NUM_BUCKETS = 10
"""Number of buckets in which items share the value of a numeric feature."""

NEAREST = 10
"""Number of known items that represent the vector of a new one."""

ROWS_AT_ONCE = 1024
"""New items whose cosines with all known ones are in memory at once."""

Rows = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Rows of the known items [num_known, d] -> rows of the new ones [num_new, d]."""


def grow(
    model: SessionModel, data: Split | Sessions | Catalog, *, initial: Initial = "mean"
) -> SessionModel:
    r"""The same model over a larger catalog: its items, plus the new items of ``data``.

    Known items keep their codes, their rows and therefore their scores, bit by bit. Parameters that
    do not belong to items are unchanged. The row of a new item j in every table with one row per
    item is

    .. math::
        e_j = \frac{\sum_i w_{ji} e_i}{\sum_i w_{ji}}

    over the known items i: with ``"mean"`` :math:`w_{ji} = 1`; with ``"neighbors"`` the number of
    times that i occurs within three clicks of j in ``data``. With ``"features"`` it is the sum,
    over the feature values shared by i and j, of one over the number of known items with the value.
    Then :math:`e_j` is the mean of the means of its values. Numbers are shared by decile; a vector,
    as of a text, counts as one value of the ten known items with the nearest vectors, weighted by
    their cosines. If all :math:`w_{ji}` are zero, it is the mean. In a model whose item rows
    include features (:class:`~graphseq.models.WithFeatures`), ``"features"`` represents new items
    only by these. New users start at zero, like unknown users.

    ``fit(grown, sessions)`` then continues training: it recodes sessions to the codes of the model
    (:func:`in_model_codes`). A counting model counts ``data`` again, so pass the whole log.

    Args:
        model: A model with a catalog, which every fitted model has; it is not changed.
        data: The new log (for a split its training part), or only the new catalog.
        initial: ``"mean"``, ``"neighbors"``, which needs sessions, or ``"features"``, which needs
            ``item_features``.

    Returns:
        A model of the same class, settings, device and mode; its codes are those of
        ``grown.catalog``.

    Raises:
        ValueError: If the model has no catalog, or ``data`` lacks what ``initial`` needs. Also if a
            parameter of a custom class depends on the number of items, but not with one row per
            item.
    """
    initial = renamed_value("grow(initial=...)", initial, {"neighbours": "neighbors"})
    if initial not in get_args(Initial):
        raise ValueError(f"initial is 'mean', 'neighbors' or 'features', got {initial!r}.")
    if not isinstance(model, SessionModel):
        raise ValueError(
            f"grow takes the model first, then the new data, got {type(model).__name__} and "
            f"{type(data).__name__}."
        )
    if model.catalog is None:
        raise ValueError(
            f"This {type(model).__name__} does not know the ids of its items, so those that are "
            "new cannot be told: fit it, or call model.attach(train.catalog()), first."
        )
    sessions = data.train if isinstance(data, Split) else data
    if not isinstance(sessions, Catalog):
        only_sessions("data", sessions)
    by_members = getattr(model, "grown_by", None)  # of a model that is made of models
    if by_members is not None:
        made: SessionModel | None = by_members(lambda each: grow(each, data, initial=initial))
        if made is not None:
            return made
    catalog = sessions if isinstance(sessions, Catalog) else sessions.catalog()
    grown_catalog = _union(model.catalog, catalog)
    grown = _rebuilt(model, grown_catalog)
    log = None
    if isinstance(sessions, Sessions):
        log = grown_catalog.encode(sessions)
    grown.attach(grown_catalog, log)
    if isinstance(model, CountingModel) and isinstance(grown, CountingModel):
        if log is None:
            raise ValueError(
                f"{type(model).__name__} counts sessions, a catalog has none: pass the log."
            )
        return grown.fit_counts(log).train(model.training)
    rows = _rows(model, grown_catalog, log, initial)
    with torch.no_grad():
        _fill(model, grown, rows)
    if initial == "features":
        for module in grown.modules():
            if isinstance(module, EncodedItemTable):  # features replace the ids of new items
                module.clicked[model.num_items :] = False
    logger.info(
        "%s grew from %d to %d items.", type(model).__name__, model.num_items, grown.num_items
    )
    return grown.to(model.device).train(model.training)


def in_model_codes(model: SessionModel, sessions: Sessions) -> Sessions:
    """Sessions in the codes of the model's items, users and click features, for training.

    Item features that the sessions lack come from the model.

    Args:
        model: Any model; without a catalog, sessions are not recoded.
        sessions: The log.

    Raises:
        ValueError: If the model lacks an item, or a user if it has a user table.
    """
    catalog = model.catalog
    if catalog is None:
        return sessions
    with_users = model.settings.get("num_users") is not None
    same_users = catalog.users == sessions.user_vocabulary or not with_users
    if catalog.items == sessions.vocabulary and same_users:
        return sessions
    used = np.bincount(sessions.items[sessions.items >= 0], minlength=sessions.num_items) > 0
    kinds = [("items", catalog.items, sessions.vocabulary, used)]
    if with_users and sessions.user_vocabulary is not None:
        users = catalog.users or Vocabulary([])
        everyone = np.ones(len(sessions.user_vocabulary), dtype=bool)
        kinds.append(("users", users, sessions.user_vocabulary, everyone))
    for kind, known, given, occurs in kinds:
        ids = given.ids[occurs]
        foreign = known.encode(ids, what=kind) < 0
        if foreign.any():
            raise ValueError(
                f"{int(foreign.sum())} of {len(ids)} {kind} of these sessions, {ids[foreign][0]!r} "
                f"the first, are not among the {len(known)} of this {type(model).__name__}: "
                "gs.grow(model, sessions) gives them rows, or build a new model."
            )
    return catalog.encode(sessions)


# -- the larger catalog ----------------------------------------------------------------------


def _union(old: Catalog, new: Catalog) -> Catalog:
    """The old catalog followed by the new items; counts are the new ones."""
    items = old.items.extended([new.items], "items")
    code = new.items.encode(items.ids)
    counts = np.where(code >= 0, np.append(new.counts, 0)[code], 0)
    users = old.users if new.users is None else new.users
    if old.users is not None and new.users is not None:
        users = old.users.extended([new.users], "users")
    known = [(old.items, old.item_features), (new.items, new.item_features)]
    features = join_tables(items, known)
    vocabularies = {**new.click_vocabularies, **old.click_vocabularies}
    grown = Catalog(items, counts, users, features, vocabularies)
    return grown.delisted_as(old).delisted_as(new)


# -- the larger model --------------------------------------------------------------------------


def _rebuilt(model: SessionModel, catalog: Catalog) -> SessionModel:
    """A model of the same settings, except for the numbers of items and users, on the CPU."""
    num_users = 0 if catalog.users is None else len(catalog.users)

    def resized(settings: Mapping[str, Any]) -> dict[str, Any]:
        changed = dict(settings)
        if changed.get("num_users") is not None:
            changed["num_users"] = max(changed["num_users"], num_users)
        if isinstance(changed.get("arguments"), Mapping):  # for a contained base
            changed["arguments"] = resized(changed["arguments"])
        return changed

    with OwnDraws(0):  # initial weights are drawn, then replaced
        return type(model)(**{**resized(model.settings), "num_items": catalog.num_items})


def _fill(model: SessionModel, grown: SessionModel, rows: Rows) -> None:
    """Copies the known parameters; new items get their rows, new users zeros."""
    items = (model.num_items, grown.num_items)
    users = tuple(each.settings.get("num_users") or 0 for each in (model, grown))
    learnt = dict(grown.named_parameters())
    from_catalog = set(_feature_buffers(grown))
    before = model.state_dict()
    for name, tensor in (*grown.named_parameters(), *grown.named_buffers()):
        if name in from_catalog or name not in before:
            continue
        old = before[name].detach().cpu()
        tensor.data = tensor.data.to(old.dtype)
        if tensor.shape == old.shape:
            tensor.copy_(old)
            continue
        sizes = (old.size(0), tensor.size(0))
        if tensor.shape[1:] != old.shape[1:] or sizes not in (items, users):
            raise ValueError(
                f"{name} of {type(model).__name__} has shape {list(old.shape)} for "
                f"{items[0]} items and {list(tensor.shape)} for {items[1]}: grow knows tables with "
                "one row per item or user."
            )
        tensor[: sizes[0]] = old
        if name in learnt and sizes == items:
            known = old.double().flatten(1).numpy() if old.dim() > 1 else old.double()[:, None]
            made = torch.from_numpy(rows(np.asarray(known)))
            tensor[sizes[0] :] = made.view(-1, *old.shape[1:]).to(tensor.dtype)
        elif name in learnt:
            tensor[sizes[0] :] = 0


def _feature_buffers(model: SessionModel) -> Iterator[str]:
    """Names of the buffers of item features, which ``attach`` has filled."""
    for prefix, module in model.named_modules():
        if isinstance(module, ItemFeatures):
            for name, _ in module.named_buffers(recurse=False):
                yield f"{prefix}.{name}" if prefix else name


# -- first rows of new items -------------------------------------------------------------------


def _rows(model: SessionModel, catalog: Catalog, log: Sessions | None, initial: Initial) -> Rows:
    known, total = model.num_items, catalog.num_items
    if initial == "mean":
        return lambda table: np.tile(table.mean(0), (total - known, 1))
    if initial == "neighbors":
        if log is None:
            raise ValueError(
                "initial='neighbors' reads which items stand near each other in the new log, a "
                "catalog alone does not tell: pass sessions."
            )
        near = near_counts(log, STEPS).astype(np.float64)[known:, :known]
        return lambda table: _weighted(near, table, table)
    settings = {**(model.settings.get("arguments") or {}), **model.settings}
    values = _shared_values(catalog, known, settings.get("item_features") or ())
    ours, theirs = values[:known], values[known:]
    having = np.asarray(ours.sum(0)).ravel()  # known items with each value
    sharing = np.asarray(theirs @ (having > 0)).ravel() > 0
    if not sharing.all():
        logger.warning(
            "initial='features': %d of %d new items share no feature value with a known item, and "
            "start at the mean of all.",
            int((~sharing).sum()),
            len(sharing),
        )

    def by_features(table: NDArray[np.float64]) -> NDArray[np.float64]:
        means = (ours.T @ table) / np.maximum(having, 1)[:, None]  # [num_values, d]
        return _weighted(csr_matrix(theirs.multiply(having > 0)), means, table)

    return by_features


def _weighted(
    weights: csr_matrix, rows: NDArray[np.float64], table: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted means of rows; the mean of the table if there are no weights."""
    total = np.asarray(weights.sum(1)).ravel()
    made = (weights @ rows) / np.where(total > 0, total, 1.0)[:, None]
    made[total == 0] = table.mean(0)
    return np.asarray(made)


def _nearest(vectors: NDArray[Any], known: int) -> csr_matrix:
    """Known items as values of their own, and new ones as shares of the nearest, [n, known]."""
    given = np.nan_to_num(vectors.astype(np.float64))
    length = np.linalg.norm(given, axis=1, keepdims=True)
    unit = np.divide(given, length, out=np.zeros_like(given), where=length > 0)
    parts = [eye(known, format="csr")]
    for start in range(known, len(unit), ROWS_AT_ONCE):
        cosine = unit[start : start + ROWS_AT_ONCE] @ unit[:known].T
        near = np.argsort(-cosine, axis=1, kind="stable")[:, :NEAREST]
        weight = np.maximum(np.take_along_axis(cosine, near, axis=1), 0)
        total = weight.sum(1, keepdims=True)
        share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
        row = np.repeat(np.arange(len(near)), near.shape[1])
        parts.append(csr_matrix((share.ravel(), (row, near.ravel())), (len(near), known)))
    made = csr_matrix(vstack(parts, format="csr"))
    made.eliminate_zeros()
    return made


def _shared_values(catalog: Catalog, known: int, specs: Any) -> csr_matrix:
    """How much each item has of each feature value, [num_items, num_values], of all columns."""
    table = catalog.item_features
    if table is None or table.isna().all(axis=None):
        raise ValueError(
            "initial='features' needs the features of the items, and neither the model nor the new "
            "data has any: give the sessions item_features, or take 'mean' or 'neighbors'."
        )
    table = table.dropna(axis=1, how="all")
    told = {spec["name"]: spec for spec in specs}
    none = Sessions(
        np.empty(0, np.int32), np.zeros(1, np.int64), catalog.items, item_features=table
    )
    wanted = [told.get(name, str(name)) for name in table]
    found = feature_specs(none, item=wanted, num_buckets=NUM_BUCKETS)["item_features"]
    blocks = []
    for feature in map(Feature.from_spec, found):
        codes, *ptr = encode_column(feature, table[feature.name])
        if feature.kind == "vector":
            blocks.append(_nearest(codes, known))
            continue
        row = (
            np.arange(len(table)) if not ptr else np.repeat(np.arange(len(table)), np.diff(ptr[0]))
        )
        present = codes >= 0
        place = (row[present], codes[present].astype(np.int64))
        size = (len(table), feature.num_codes)
        blocks.append(csr_matrix((np.ones(int(present.sum())), place), shape=size))
    return csr_matrix(hstack(blocks, format="csr"))
