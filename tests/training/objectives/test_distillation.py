"""A student that learns from a teacher: the loss by hand, and what it does to the student."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.models import GRU4Rec, SASRec, SequentialRules, SessionModel
from graphseq.training import Distillation, temperature_of
from graphseq.training.losses import kl_distillation
from graphseq.training.objectives.auxiliary import read_step

NUM_ITEMS = 12
LISTS = [[0, 1, 2, 0], [3, 1], [2, 2, 5], [4, 0, 1, 1], [6, 7, 8], [9, 10, 11, 6]]


def sessions() -> gs.Sessions:
    return gs.Sessions.from_lists(LISTS)


def model_of(kind: type[Any], seed: int = 0) -> SessionModel:
    torch.manual_seed(seed)
    model: SessionModel = kind(NUM_ITEMS, 8).eval()
    model.attach(sessions().catalog())
    return model


def counting() -> SequentialRules:
    model = SequentialRules(NUM_ITEMS)
    gs.fit(model, sessions())
    return model


@pytest.mark.parametrize("samples", ["sessions", "prefixes"])
@pytest.mark.parametrize("top", [3, 500])
def test_loss_compares_each_prefix_with_what_the_teacher_says_of_it(samples: Any, top: int) -> None:
    student, teacher = model_of(GRU4Rec), model_of(SASRec, 1)
    batch = SessionGraphDataset(sessions(), samples).batch(range(6))
    step = read_step(student, batch, (0, 0))
    loss = Distillation(teacher, temperature=2.0, top=top)(step)
    coded = [sessions().vocabulary.encode(part).tolist() for part in LISTS]
    histories = [part[:end] for part in coded for end in range(1, len(part))]
    if samples == "prefixes":
        histories = histories[:6]
    rows = []
    for history in histories:
        one = build_session_graphs(torch.tensor(history), torch.tensor([0, len(history)]))
        with torch.no_grad():
            given, own = teacher.score(one), student.score(one)
        best = given.topk(min(top, NUM_ITEMS)).indices
        rows.append(kl_distillation(own.gather(1, best), given.gather(1, best) / 2))
    assert loss.item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-4)
    assert loss.requires_grad


def timed(seed: int = 0) -> tuple[gs.Sessions, SessionModel]:
    """Sessions with times, and a teacher that reads when the target is clicked."""
    log = sessions()
    time = 1e9 + np.random.default_rng(seed).integers(1, 10**6, log.num_clicks).cumsum()
    log = replace(log, time=time.astype(np.float64))
    torch.manual_seed(seed)
    teacher = gs.models.HSTU(NUM_ITEMS, 8, time="request", num_layers=1).eval()
    for weight in teacher.parameters():
        torch.nn.init.normal_(weight)
    teacher.attach(log.catalog(), log)
    return log, teacher


@pytest.mark.parametrize("samples", ["sessions", "prefixes"])
def test_teacher_that_reads_the_time_of_the_target_is_told_it(samples: Any) -> None:
    log, teacher = timed()
    student = model_of(GRU4Rec)
    loss = Distillation(teacher, top=NUM_ITEMS)
    loss.prepare(student, log)
    batch = SessionGraphDataset(log, samples, target_fields=loss.target_fields).batch(range(6))
    step = read_step(student, batch, (0, 0))
    cases = SessionGraphDataset(log, request_time=True)  # as evaluate ranks them
    number = len(cases) if samples == "sessions" else 6
    with torch.no_grad():
        given = teacher.score(cases.batch(range(number)))
        own = student.score(cases.batch(range(number)))
        without = teacher.score(SessionGraphDataset(log).batch(range(number)))
    assert not torch.allclose(given, without)
    assert loss(step).item() == pytest.approx(kl_distillation(own, given).item(), rel=1e-4)
    with pytest.raises(ValueError, match="do not hold the time of targets"):
        loss(read_step(student, SessionGraphDataset(log, samples).batch(range(6)), (0, 0)))
    with pytest.raises(ValueError, match="HSTU reads the time of each target, and these sessions"):
        loss.prepare(student, sessions())


def test_fit_teaches_by_a_teacher_that_reads_the_time_of_the_target() -> None:
    log, teacher = timed()
    loss = Distillation(teacher)
    result = gs.fit(model_of(GRU4Rec), log, auxiliary=[loss], max_epochs=1, progress=False)
    assert np.isfinite(result.history["distillation_loss"]).all()


def test_student_comes_close_to_its_teacher_which_stays_as_it_was() -> None:
    teacher = counting()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    batch = SessionGraphDataset(sessions(), "sessions").batch(range(6))
    found = []
    for auxiliary in ([], [Distillation(teacher, weight=10.0)]):
        student = model_of(GRU4Rec)
        options: dict[str, Any] = {"max_epochs": 40, "learning_rate": 0.03, "progress": False}
        gs.fit(student, sessions(), auxiliary=auxiliary, **options)
        found.append(Distillation(teacher)(read_step(student.eval(), batch, (0, 0))).item())
        assert all(not each.state_dict() for each in auxiliary)
    assert found[1] < 0.3 * found[0]
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("scale", [0.05, 1.0, 40.0])
def test_temperature_makes_probabilities_of_scores_of_any_scale(scale: float) -> None:
    torch.manual_seed(0)
    share = torch.tensor([0.5, 0.3, 0.15, 0.05])
    drawn = torch.multinomial(share, 3_000, replacement=True).tolist()
    log = gs.Sessions.from_lists([[0, 1, 2, 3], *([0, item] for item in drawn)])

    class Fixed(gs.models.SessionModel):
        scores_by_table = False

        def score(self, batch: Any, items: Any = None) -> torch.Tensor:
            return (scale * share.log()).expand(batch.num_graphs, -1)

    model = Fixed(4)
    model.attach(log.catalog())
    assert temperature_of(model, log) == pytest.approx(scale, rel=0.12)


def test_wrong_arguments_of_distillation_are_refused() -> None:
    teacher = model_of(GRU4Rec)
    with pytest.raises(ValueError, match="teacher is a fitted model, got str"):
        Distillation("srgnn")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        Distillation(teacher, temperature=0)
    with pytest.raises(ValueError, match="top must be at least 1"):
        Distillation(teacher, top=0)
    with pytest.raises(ValueError, match="SequentialRules does not score by one item table"):
        Distillation(teacher).prepare(counting(), None)
    other = GRU4Rec(NUM_ITEMS, 8)
    other.attach(gs.Sessions.from_lists([list(range(20, 32))]).catalog())
    with pytest.raises(ValueError, match="The teacher GRU4Rec has other items than the student"):
        Distillation(teacher).prepare(other, None)
