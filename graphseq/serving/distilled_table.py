"""A table of lists in place of a model: what a teacher recommends after each item."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch_geometric.data import Batch

from graphseq.arguments import check_positive, whole
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.inputs import read_inputs, require_model
from graphseq.evaluation.targets import Targets
from graphseq.models.base import SessionModel
from graphseq.models.counting.lists import highest
from graphseq.models.counting.sequential_rules import SequentialRules
from graphseq.models.use.inference import inference
from graphseq.ragged import ptr_of
from graphseq.serving.item_vectors import Codes

MOST_SCORES = 2**24
"""Scores of the teacher that are held at once."""


def distill_table(
    teacher: SessionModel,
    sessions: Sessions,
    *,
    k: int = 200,
    temperature: float = 1.0,
) -> SequentialRules:
    r"""A table with the best items after each item, learned from a teacher.

    .. math::
        w_{ij} = \frac{1}{n_i} \sum_{s \text{ ends in } i} p_j(s), \qquad
        p(s) = \mathrm{softmax}(\hat r(s) / T)

    over the ``k`` best items of each history s of these sessions, and of the item alone. Each item
    keeps its ``k`` highest. Of all tables that read the last click only, these means are
    closest to the teacher by Kullback-Leibler divergence, but for what is cut off. An answer is one
    look-up.

    Args:
        teacher: A fitted model of any family.
        sessions: The training sessions; histories are those before their targets.
        k: Items per list.
        temperature: T; scores that are no logits need the one that
            :func:`~graphseq.training.temperature_of` finds.

    Returns:
        A model of the same items that scores by the list of the last click, and saves and loads
        like any other.

    Raises:
        ValueError: If an argument is not positive, or no session has a target.
    """
    k = whole("k", k)
    check_positive(temperature=temperature)
    require_model(teacher, sessions, "teacher")
    _, recoded = read_inputs(teacher, sessions)
    size = teacher.num_items
    last = np.concatenate([_last_clicks(recoded), np.arange(size)])  # and each item alone
    num_samples = len(last) - size
    dataset = SessionGraphDataset(recoded, max_length=teacher.max_length)
    order = np.argsort(last, kind="stable")  # histories that share a list come together
    rows = max(1, min(1_024, MOST_SCORES // size))
    blocks = []
    with inference(teacher):
        for start in range(0, len(order), rows):
            part = order[start : start + rows]
            told, alone = part[part < num_samples], part[part >= num_samples] - num_samples
            if len(told):
                blocks.append(_shares(teacher, dataset.batch(told), k, temperature))
            if len(alone):
                single = build_session_graphs(
                    torch.from_numpy(alone),
                    torch.arange(len(alone) + 1),
                    click_fields=_now(recoded, len(alone)),
                )
                blocks.append(_shares(teacher, single, k, temperature))
    table = SequentialRules(size, window=1)
    times = np.bincount(last, minlength=size)
    counts = times if teacher.catalog is None else teacher.catalog.counts
    table.set_buffer("item_counts", counts.astype(np.int64))
    if teacher.catalog is not None:
        table.attach(teacher.catalog)
    means = _best_of_rows(_sum(blocks), k)
    table.set_buffer("rule_ptr", means.indptr.astype(np.int64))
    table.set_buffer("rule_item", means.indices.astype(np.int32))
    table.set_buffer("rule_weight", means.data / times[_row_of(means)])
    return table


def _now(sessions: Sessions, number: int) -> dict[str, torch.Tensor]:
    """The time of clicks that are in no session: that of the newest one."""
    if sessions.time is None or not len(sessions.time):
        return {}
    newest = torch.from_numpy(np.asarray(sessions.time).max(keepdims=True))
    return {"click_time": newest.repeat(number)}


def _last_clicks(sessions: Sessions) -> Codes:
    """The last known click before each target that has one, in the order of the dataset."""
    cases = Targets(sessions)
    items = np.asarray(sessions.items)
    known = items >= 0
    start = ptr_of(known)[np.asarray(sessions.ptr)]  # of each session among the known clicks
    has = cases.history > 0
    return items[known][start[cases.session[has]] + cases.history[has] - 1].astype(np.int64)


def _shares(teacher: SessionModel, batch: Batch, k: int, temperature: float) -> csr_matrix:
    """Probabilities of the best items of each history, added up by its last click, [V, V]."""
    size = teacher.num_items
    scores = teacher.score(batch.to(teacher.device)).cpu().double()
    share, items = (scores / temperature).softmax(1).topk(min(k, size))
    share = share.nan_to_num(0.0)  # a teacher that recommends nothing: all scores are -inf
    last = batch.click_item[batch.click_ptr[1:] - 1].cpu().numpy()
    pairs = (np.repeat(last, items.size(1)), items.numpy().ravel())
    # Rows that later blocks go on with keep more than they will have in the end.
    return _best_of_rows(csr_matrix((share.numpy().ravel(), pairs), (size, size)), 4 * k)


def _sum(blocks: list[csr_matrix]) -> csr_matrix:
    """The sum of blocks, few of which share a row."""
    parts = [block.tocoo() for block in blocks]
    value, row, column = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("data", "row", "col")
    )
    return csr_matrix((value, (row, column)), blocks[0].shape)


def _best_of_rows(sums: csr_matrix, k: int) -> csr_matrix:
    """The same with the ``k`` highest values of each row, columns ascending."""
    sums.sum_duplicates()
    row = _row_of(sums)
    kept = highest(row, sums.data, k) & (sums.data > 0)
    pairs = (row[kept], sums.indices[kept])
    best = csr_matrix((sums.data[kept], pairs), sums.shape)
    best.sort_indices()
    return best


def _row_of(matrix: csr_matrix) -> Codes:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
