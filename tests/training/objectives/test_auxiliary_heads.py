"""Further tasks: what they read of targets, their loss by hand, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from graphseq.data.graphs.augment import ClickDropout
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models import HSTU, SRGNN, TAGNN, BERT4Rec, SASRec
from graphseq.models.base import SessionModel
from graphseq.training.objectives.auxiliary import (
    Auxiliary,
    Step,
    auxiliary_names,
    auxiliary_sums,
    check_auxiliary,
    read_step,
)
from graphseq.training.objectives.auxiliary_heads import DwellTime, NextFeature
from graphseq.training.objectives.objective import Objective

NUM_ITEMS = 6
LISTS = [[0, 1, 2, 0], [3, 1], [2, 2, 5], [4, 0, 1, 1]]
CATEGORY = ["a", "b", "a", None, "c", "b"]


def sessions() -> Sessions:
    made = Sessions.from_lists(LISTS, vocabulary=Vocabulary(np.arange(NUM_ITEMS)))
    clicks = made.num_clicks
    return replace(
        made,
        time=np.cumsum(np.arange(clicks) ** 2.0),
        click_features={"action": np.arange(clicks) % 3 - 1, "price": np.arange(float(clicks))},
        feature_vocabularies={"action": Vocabulary(np.array(["buy", "view"]))},
        item_features=pd.DataFrame({"category": CATEGORY, "size": np.arange(6.0) / 3}),
    )


def model_of(kind: type[Any]) -> SessionModel:
    torch.manual_seed(0)
    model: SessionModel = kind(NUM_ITEMS, 8)
    model.attach(sessions().catalog())
    return model


def step_of(model: SessionModel, fields: tuple[str, ...] = ()) -> Step:
    by_session = model.samples in ("sessions", "cloze")
    dataset = SessionGraphDataset(
        sessions(),
        "sessions" if by_session else "prefixes",
        target_fields=fields,
        request_time=model.reads_request_time,
    )
    return read_step(model, dataset.batch(range(len(dataset))), (0, 0))


@pytest.mark.parametrize("samples", ["prefixes", "sessions"])
def test_target_fields_tell_of_the_click_that_is_the_target(samples: Any) -> None:
    whole = sessions()
    whole = replace(whole, first_target=np.array([2, 1, 1, 1]))
    dataset = SessionGraphDataset(whole, samples, target_fields=["time", "price"])
    plain = SessionGraphDataset(whole, samples)
    everything = range(len(dataset))
    for batch in (
        dataset.batch(everything),
        dataset.augmented_batch(everything, ClickDropout(0.5)),
    ):
        place = batch.y_price.long()  # the number of the target's click in the log
        known = batch.y >= 0
        assert torch.from_numpy(whole.items)[place][known].tolist() == batch.y[known].tolist()
        assert batch.y_time.tolist() == whole.time[place.numpy()].tolist()
        graphs = batch.to_data_list()
        assert all(g.y_time.shape == g.y.shape for g in graphs)
        assert "y_time" not in plain.batch(everything)
    with pytest.raises(ValueError, match="target_fields are of action, price, time"):
        SessionGraphDataset(whole, target_fields=["colour"])
    with pytest.raises(ValueError, match="target_fields are of none"):
        SessionGraphDataset(Sessions.from_lists(LISTS), target_fields=["time"])


@pytest.mark.parametrize("kind", [SRGNN, SASRec, BERT4Rec, TAGNN])
def test_next_feature_of_items_equals_a_loop_over_targets(kind: type[Any]) -> None:
    model = model_of(kind)
    task = NextFeature("category")
    task.prepare(model, sessions())
    step = step_of(model)
    values = list(pd.unique(pd.Series(CATEGORY).dropna()))
    assert task.lin is not None
    logits = task.lin(step.vectors).log_softmax(1).detach()
    rows = [
        (row, values.index(CATEGORY[target]))
        for row, target in enumerate(step.targets.tolist())
        if CATEGORY[target] is not None
    ]
    expected = -sum(float(logits[row, value]) for row, value in rows) / len(rows)
    assert task(step).item() == pytest.approx(expected, rel=1e-5)
    measured = task.measure(step)
    best = [float(logits[row].argmax() == value) for row, value in rows]
    assert measured["accuracy"].tolist() == best
    rank = [1 + int((logits[row] > logits[row, value]).sum()) for row, value in rows]
    assert measured["mrr"].tolist() == pytest.approx([1 / place for place in rank])


@pytest.mark.parametrize("kind", [SRGNN, SASRec])
def test_next_feature_of_clicks_reads_the_targets_own(kind: type[Any]) -> None:
    model = model_of(kind)
    task = NextFeature("action", name="what")
    task.prepare(model, sessions())
    assert task.target_fields == ("action",)
    step = step_of(model, task.target_fields)
    value = step.of_target("action")
    assert task.lin is not None
    logits = task.lin(step.vectors)[value >= 0]
    expected = torch.nn.functional.cross_entropy(logits, value[value >= 0].long())
    torch.testing.assert_close(task(step), expected)


@pytest.mark.parametrize("kind", [SRGNN, SASRec])
def test_dwell_time_is_the_time_between_last_click_and_target(kind: type[Any]) -> None:
    model, whole = model_of(kind), sessions()
    task = DwellTime()
    task.prepare(model, whole)
    step = step_of(model, ("time",))
    assert whole.time is not None
    gaps = np.concatenate([np.diff(part) for part in np.split(whole.time, whole.ptr[1:-1])])
    assert task.lin is not None
    assert task.lin.bias.item() == pytest.approx(np.log1p(gaps).mean(), rel=1e-6)
    found = task.lin(step.vectors).squeeze(1)
    wanted = torch.from_numpy(np.log1p(gaps)).float()
    torch.testing.assert_close(task(step), torch.nn.functional.smooth_l1_loss(found, wanted))
    torch.testing.assert_close(task.measure(step)["mae"], (found - wanted).abs())


def test_rows_without_a_known_target_take_no_part() -> None:
    model = model_of(SRGNN)
    dataset = SessionGraphDataset(sessions(), target_fields=("time", "action"))
    batch, kept = dataset.batch(range(4)), dataset.batch([0, 2, 3])
    batch.y[1] = -1
    for task in (NextFeature("category"), NextFeature("action"), DwellTime()):
        task.prepare(model, sessions())
        losses = [task(read_step(model, each, (0, 0))) for each in (batch, kept)]
        torch.testing.assert_close(*losses)


def test_tasks_of_a_batch_without_a_value_are_zero() -> None:
    model = model_of(SRGNN)
    batch = SessionGraphDataset(sessions(), target_fields=("time",)).batch([0, 1])
    batch.y[:] = -1
    for task in (NextFeature("category"), DwellTime()):
        task.prepare(model, sessions())
        assert task(read_step(model, batch, (0, 0))).item() == 0.0


@pytest.mark.parametrize("kind", [SRGNN, SASRec, TAGNN])
def test_objective_adds_further_losses_with_their_weights(kind: type[Any]) -> None:
    model = model_of(kind).eval()
    tasks = [NextFeature("category", 0.3), DwellTime(2.0)]
    for task in tasks:
        task.prepare(model, sessions())
    step = step_of(model, ("time",))
    plain = Objective("cross_entropy", NUM_ITEMS, None, 0)
    alone = plain(model, step.batch, 0, 0)
    assert plain.parts == {}
    objective = Objective("cross_entropy", NUM_ITEMS, None, 0, tasks)
    loss = objective(model, step.batch, 0, 0)
    parts = [task(step) for task in tasks]
    torch.testing.assert_close(loss, alone + 0.3 * parts[0] + 2.0 * parts[1])
    assert list(objective.parts) == ["next_item", "category", "dwell_time"]
    torch.testing.assert_close(objective.parts["next_item"], alone.detach())
    torch.testing.assert_close(objective.parts["dwell_time"], parts[1].detach())


@pytest.mark.parametrize("kind", [SRGNN, SASRec, partial(HSTU, time="request")])
def test_measured_metrics_are_means_over_all_targets(kind: type[Any]) -> None:
    model = model_of(kind).eval()
    tasks = [NextFeature("category"), DwellTime()]
    for task in tasks:
        task.prepare(model, sessions())
    step = step_of(model, ("time",))
    names = auxiliary_names(tasks)
    assert names == ["category_accuracy", "category_mrr", "dwell_time_mae"]
    sums, numbers = auxiliary_sums(model, tasks, sessions())
    measured = dict(zip(names, (sums / numbers).tolist(), strict=True))
    for task in tasks:
        for name, values in task.measure(step).items():
            assert measured[f"{task.name}_{name}"] == pytest.approx(values.mean().item(), rel=1e-5)


def test_measured_without_anything_that_measures_is_nothing() -> None:
    class Zero(Auxiliary):
        def forward(self, step: Step) -> Tensor:
            return step.vectors.sum() * 0

    assert auxiliary_sums(model_of(SRGNN), [Zero("zero", 1.0)], sessions()).shape == (2, 0)


@pytest.mark.parametrize("kind", [SRGNN, SASRec])
def test_validation_part_in_which_no_target_has_a_history_measures_nothing(kind: Any) -> None:
    model, task = model_of(kind), NextFeature("category")
    task.prepare(model, sessions())
    part = sessions().select([1])
    part = replace(part, items=np.array([-1, part.items[1]], dtype=np.int32))
    assert part.num_targets == 1
    assert not auxiliary_sums(model, [task], part).any()


def test_tasks_that_do_not_fit_the_data_are_refused() -> None:
    model, bare = model_of(SRGNN), Sessions.from_lists(LISTS)
    with pytest.raises(ValueError, match="'colour' in the training data, which has category, size"):
        NextFeature("colour").prepare(model, sessions())
    with pytest.raises(ValueError, match="with a fraction"):
        NextFeature("size").prepare(model, sessions())
    with pytest.raises(ValueError, match="which has none"):
        NextFeature("category").prepare(SRGNN(NUM_ITEMS, 8), bare)
    with pytest.raises(ValueError, match="DwellTime learns from the times of clicks"):
        DwellTime().prepare(model, bare)
    task = DwellTime()
    task.prepare(model, sessions())
    with pytest.raises(ValueError, match=r"target_fields=\['time'\]"):
        task(step_of(model))
    with pytest.raises(ValueError, match="BERT4Rec draws its own training targets"):
        task(step_of(model_of(BERT4Rec), ("time",)))
    with pytest.raises(ValueError, match="weight of dwell_time must be positive, got -1"):
        DwellTime(-1.0)
    with pytest.raises(ValueError, match="got ''"):
        DwellTime(name="")
    with pytest.raises(ValueError, match="got 'dwell_time' twice"):
        check_auxiliary([DwellTime(), DwellTime()])
    assert math.isfinite(DwellTime(name="other").weight)
