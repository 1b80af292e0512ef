"""Models used by many threads: modes are restored, results stay the same; blocks bound memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch_geometric
from hypothesis import given
from hypothesis import strategies as st

import graphseq as gs
from graphseq.models.sequence.sasrec import SASRec
from graphseq.models.use import inference as module
from graphseq.models.use.inference import blocks, inference


def test_inference_left_by_the_first_of_two_threads_keeps_the_second_in_evaluation() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(1, 1))
    model[1].eval()
    with inference(model):
        inside, leave = threading.Event(), threading.Event()

        def other() -> None:
            with inference(model):
                inside.set()
                leave.wait()

        thread = threading.Thread(target=other)
        thread.start()
        inside.wait()
        assert [m.training for m in model.modules()] == [False, False, False]
    # The other one is still inside: what was training stays in evaluation mode until it leaves.
    assert [m.training for m in model.modules()] == [False, False, False]
    leave.set()
    thread.join()
    assert [m.training for m in model.modules()] == [True, True, False]
    assert not module._readers
    assert not module._trained


def test_inference_of_a_part_that_outlives_the_whole_keeps_the_part_in_evaluation() -> None:
    whole = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:  # of its own thread: gradients are switched thread by thread
        with inference(whole[0]):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with inference(whole):
        thread.start()
        inside.wait()
    assert [m.training for m in whole.modules()] == [True, False, True]
    leave.set()
    thread.join()
    assert [m.training for m in whole.modules()] == [True, True, True]
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_inference_of_a_model_in_evaluation_writes_no_mode() -> None:
    class Watched(torch.nn.Dropout):
        written = 0

        def train(self, mode: bool = True) -> Watched:
            self.written += 1
            return super().train(mode)

    model = Watched().eval()
    before = model.written
    with inference(model):
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled()
    assert model.written == before


@pytest.mark.parametrize("training", [True, False])
def test_recommend_and_evaluate_from_eight_threads_equal_those_from_one(training: bool) -> None:
    torch.manual_seed(0)
    sessions = gs.generate_sessions(60, 30, mean_length=5.0, seed=0)
    model = SASRec(sessions.num_items, 8, heads=2, num_layers=1, max_length=10, dropout=0.5)
    model.attach(sessions.catalog())
    model.train(training)
    asked = [[code % 30, (7 * code) % 30] for code in range(40)]
    alone = gs.recommend(model, asked, k=5)
    ranks = gs.evaluate(model, sessions).ranks

    def read(number: int) -> bool:
        if number % 8 == 0:
            return gs.evaluate(model, sessions).ranks.equals(ranks)
        return gs.recommend(model, asked, k=5) == alone

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(64)))
    assert all(part.training == training for part in model.modules())


@given(
    st.lists(st.integers(0, 9), max_size=12),
    st.integers(1, 5),
    st.integers(0, 20),
)
def test_blocks_of_any_sessions_are_as_large_as_both_limits_allow(
    lengths: list[int], most_sessions: int, most_clicks: int
) -> None:
    found = list(blocks(np.array(lengths, dtype=np.int64), most_sessions, most_clicks))
    assert [i for part in found for i in range(part.start, part.stop)] == list(range(len(lengths)))
    for part in found:
        clicks = lengths[part]
        assert len(clicks) == 1 or (len(clicks) <= most_sessions and sum(clicks) <= most_clicks)
        one_more = lengths[part.start : part.stop + 1]
        full = len(one_more) > most_sessions or sum(one_more) > most_clicks
        assert full or part.stop == len(lengths)


def test_evaluate_of_a_long_session_reads_few_clicks_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Watched(gs.models.SRGNN):
        def forward(self, batch: torch_geometric.data.Batch) -> torch.Tensor:
            read.append(batch.click_index.numel())
            return super().forward(batch)

    read: list[int] = []
    items = np.random.default_rng(0).integers(0, 9, 60).tolist()
    sessions = gs.Sessions.from_lists([items, items[:3]])
    model = Watched(sessions.num_items, 4)
    whole = gs.evaluate(model, sessions)
    assert max(read) == sum(range(1, 60)) + 1 + 2  # all prefixes at once
    read.clear()
    monkeypatch.setattr(module, "MOST_CLICKS", 100)
    bounded = gs.evaluate(model, sessions)
    assert max(read) <= 100
    assert bounded.ranks.equals(whole.ranks)
    read.clear()
    gs.recommend(model, [items] * 5, k=1)
    assert read == [60] * 5
