"""Training in a fixed order: sessions by their last click, or as the log has them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from graphseq.data import SessionGraphDataset, Sessions, fixed_split
from graphseq.models import SRGNN, GRU4Rec, SessionModel
from graphseq.training import TrainingSettings, fit
from graphseq.training.lightning.collectives import SINGLE_PROCESS
from graphseq.training.lightning.data_module import training_batches

LAST = [50.0, 10.0, 30.0, 30.0, 20.0]
"""When each session ends; the third and the fourth end at one moment."""


def sessions(with_times: bool = True) -> Sessions:
    # Session n clicks 2n and then 2n + 1; lengths differ, so that bucketing would show.
    lists = [[2 * n] * (1 + (7 * n) % 4) + [2 * n + 1] for n in range(5)]
    log = Sessions.from_lists(lists)
    if not with_times:
        return log
    time = np.zeros(log.num_clicks)
    time[log.ptr[1:] - 1] = LAST
    return dataclasses.replace(log, time=time)


def order_of(model: SessionModel, log: Sessions, settings: TrainingSettings) -> list[list[int]]:
    """The session that each graph is of, in the order of two epochs."""
    loader = training_batches(
        model,
        log,
        settings,
        SINGLE_PROCESS,
        augmentation=None,
        target_fields=(),
        num_workers=0,
    )
    epochs = []
    for _ in range(2):
        items = torch.cat([batch.click_item[batch.click_ptr[:-1]] for batch in loader])
        numbers = log.vocabulary.decode(items.numpy())
        epochs.append([int(number) // 2 for number in numbers])
    return epochs


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_order_of_time_is_that_of_last_clicks_in_every_epoch(batch_size: int) -> None:
    log = sessions()
    settings = TrainingSettings(order="time", batch_size=batch_size)
    assert order_of(GRU4Rec(10, 4), log, settings) == [[1, 4, 2, 3, 0]] * 2
    prefixes = [n for n in [1, 4, 2, 3, 0] for _ in range(log.lengths[n] - 1)]
    assert order_of(SRGNN(10, 4), log, settings) == [prefixes] * 2


def test_order_of_lanes_is_that_of_time() -> None:
    settings = TrainingSettings(order="time", lanes=1)
    found = order_of(GRU4Rec(10, 4), sessions(), settings)[0]
    assert list(dict.fromkeys(found)) == [1, 4, 2, 3, 0]


@pytest.mark.parametrize("with_times", [True, False])
def test_order_of_the_log_is_kept_in_every_epoch(with_times: bool) -> None:
    log = sessions(with_times)
    settings = TrainingSettings(order="log", batch_size=2)
    assert order_of(GRU4Rec(10, 4), log, settings) == [[0, 1, 2, 3, 4]] * 2
    prefixes = [n for n in range(5) for _ in range(log.lengths[n] - 1)]
    assert order_of(SRGNN(10, 4), log, settings) == [prefixes] * 2
    lanes = order_of(GRU4Rec(10, 4), log, TrainingSettings(order="log", lanes=1))[0]
    assert list(dict.fromkeys(lanes)) == [0, 1, 2, 3, 4]


def test_random_order_is_another_every_epoch() -> None:
    log = sessions()
    one, other = order_of(SRGNN(10, 4), log, TrainingSettings(batch_size=2))
    assert sorted(one) == sorted(other)
    assert one != other


def test_fit_in_the_order_of_time_sees_the_newest_sessions_last() -> None:
    # Of two that contradict each other, what was seen last stands: 0 -> 1 first, then 0 -> 2.
    lists = [[0, 2]] * 20 + [[0, 1]] * 20
    newest = np.repeat([1.0, 0.0], 20)
    for time, better in ((newest, 2), (1 - newest, 1)):
        log = Sessions.from_lists(lists)
        log = dataclasses.replace(log, time=np.repeat(time, 2))
        torch.manual_seed(0)
        model = GRU4Rec(log.num_items, 8)
        fit(model, log, order="time", max_epochs=8, batch_size=4, learning_rate=0.05)
        (best, _), *_ = model.recommend([[0]], k=1)[0]
        assert best == better


def test_order_of_time_without_times_or_of_other_data_is_refused() -> None:
    model, log = SRGNN(10, 4), sessions()
    timeless = sessions(with_times=False)
    with pytest.raises(ValueError, match="needs the times of clicks, and these sessions have none"):
        fit(model, timeless, order="time")
    with pytest.raises(ValueError, match="needs the times of clicks"):
        fit(model, fixed_split(timeless, timeless), order="time")
    with pytest.raises(ValueError, match="or use order='log' if sessions stand in the order of"):
        fit(model, timeless, order="time")
    for order in ("time", "log"):
        with pytest.raises(ValueError, match=f"order='{order}' keeps the order of sessions: use"):
            fit(model, log, order=order, max_clicks=100)
        with pytest.raises(ValueError, match=f"order='{order}' is about sessions, and a Session"):
            fit(model, SessionGraphDataset(log), order=order)
