"""The paper's form of BST against a plain computation, candidate by candidate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.features import feature_specs
from graphseq.data.sessions.sessions import Sessions
from graphseq.models import BSTRanker
from graphseq.models.features import bst_ranker
from graphseq.models.use.persistence import load
from tests.models.bst_reference import (
    CLICK_FEATURES,
    ITEM_FEATURES,
    SESSIONS,
    batch_of,
    clicks_of,
    close,
    plain_block,
    plain_click,
    sessions_of,
    weights,
)

CONTEXT = [{"name": "page", "kind": "categorical", "size": 2}]
CANDIDATES = torch.tensor([[0, 6], [4, 4], [5, 2], [1, 3], [2, 0]])


def small_model(**arguments: object) -> BSTRanker:
    """A model in evaluation whose weights are large enough for everything to matter."""
    torch.manual_seed(0)
    rich = {
        "heads": 2,
        "max_length": 4,
        "positions": "time",
        "click_features": CLICK_FEATURES,
        "item_features": ITEM_FEATURES,
        "feature_channels": 3,
        "num_users": 4,
        "mlp_channels": [6, 5],
    }
    model = BSTRanker(7, 8, **{**rich, **arguments}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.attach(sessions_of(SESSIONS).catalog())
    return model


def plain_score(
    model: BSTRanker,
    session: list[int],
    candidate: int,
    *,
    user: int = -1,
    page: int | None = None,
    request: float | None = None,
) -> float:
    """The logit of one pair from the paper's equations: the candidate ends the sequence."""
    w = weights(model)
    clicks = clicks_of(session)
    now = clicks[-1][-1] if request is None else request
    clicks = clicks[-model.max_length :]
    x = []
    for back, (item, device, price, time) in zip(range(len(clicks), 0, -1), clicks, strict=True):
        row = int(2 * np.log2(1 + now - time)) if model.timed else back
        x.append(plain_click(w, item, device, price) + w["positions.weight"][row])
    target = plain_click(w, candidate, -1, float("nan"))
    x.append(target + w["positions.weight"][0])
    for layer in range(model.num_layers):
        x = plain_block(x, w, f"blocks.{layer}", model.heads, causal=False)
    z = [x[-1], w["user_embedding.weight"][user] if user >= 0 else np.zeros(8)]
    if page is not None:
        z.append(w["context_embedding.parts.0.weight"][page])
    out = w["lin_first.weight"] @ np.concatenate(z) + w["lin_first.bias"]
    for number in range(1, 2 * len(model.mlp_channels), 2):
        out = np.where(out > 0, out, 0.01 * out)
        out = w[f"mlp.{number}.weight"] @ out + w[f"mlp.{number}.bias"]
    return float(out[0])


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("positions", ["time", "end"])
def test_bst_ranker_scores_equal_the_papers_equations_head_by_head(
    positions: str, num_layers: int
) -> None:
    model = small_model(num_layers=num_layers, positions=positions)
    expected = [
        [plain_score(model, session, c, user=number - 1) for c in range(7)]
        for number, session in enumerate(SESSIONS)
    ]
    close(model.score(batch_of(SESSIONS)), np.array(expected))


def test_bst_ranker_request_time_and_context_are_read() -> None:
    model = small_model(context_features=CONTEXT)
    batch = batch_of(SESSIONS)
    late = torch.tensor([clicks_of(session)[-1][-1] + 60.0 for session in SESSIONS])
    batch.request_time, batch.context_page = late.double() + 40, torch.tensor([0, 1, 0, 1, -1])
    expected = [
        plain_score(model, session, 2, user=n - 1, page=n % 2, request=float(batch.request_time[n]))
        for n, session in enumerate(SESSIONS[:4])
    ]
    close(model.score(batch, torch.tensor([2]))[:4, 0], np.array(expected))


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("numbers", [1, 2000])
def test_bst_ranker_candidates_in_chunks_equal_all_at_once(
    num_layers: int, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = small_model(num_layers=num_layers), batch_of(SESSIONS)
    at_once, each = model.score(batch), model.score_candidates(batch, CANDIDATES)
    monkeypatch.setattr(bst_ranker, "MOST_NUMBERS", numbers)  # one by one; a few
    close(model.score(batch), at_once)
    close(model.score_candidates(batch, CANDIDATES), each)
    close(at_once.gather(1, CANDIDATES), each)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_bst_ranker_score_of_a_candidate_ignores_the_others_and_batch_mates(
    num_layers: int,
) -> None:
    model = small_model(num_layers=num_layers, num_users=None)
    together = model.score_candidates(batch_of(SESSIONS), CANDIDATES)
    for row, session in enumerate(SESSIONS):
        for column in range(2):
            one = CANDIDATES[row : row + 1, column : column + 1]
            alone = model.score_candidates(batch_of([session]), one)
            close(alone[0, 0], together[row, column])


def test_bst_ranker_reads_the_newest_clicks_of_two_thousand_alone() -> None:
    model = small_model(num_users=None, positions="end", click_features=None)
    session = np.random.default_rng(0).integers(0, 7, 2000).tolist()
    close(model.score(batch_of([session])), model.score(batch_of([session[-4:]])))


def test_bst_ranker_no_candidates_and_no_sessions_give_no_scores() -> None:
    model = small_model()
    assert model.score(batch_of(SESSIONS), torch.empty(0).long()).shape == (5, 0)
    empty = torch.empty(0, dtype=torch.long)
    assert BSTRanker(7, 8).score(build_session_graphs(empty, torch.tensor([0]))).shape == (0, 7)


@pytest.mark.parametrize("shape", [(2,), (4, 2), (5, 2, 1)])
def test_bst_ranker_candidates_of_the_wrong_shape_raise(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"candidates must be \[5, C\], one row per session, got"):
        small_model().score_candidates(batch_of(SESSIONS), torch.zeros(shape).long())


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("click_price", "BSTRanker was built with the click feature 'price', .* no click_price"),
        ("click_time", "BSTRanker was built with positions='time', but this batch has no click_t"),
    ],
)
def test_bst_ranker_field_missing_in_the_batch_raises_naming_it(field: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_model().score(batch_of(SESSIONS, without=field))


@pytest.mark.parametrize("field", ["click_time", "request_time"])
def test_bst_ranker_times_that_hold_no_single_seconds_are_refused(field: str) -> None:
    batch = batch_of(SESSIONS)
    batch.request_time = batch.click_time[batch.click_ptr[1:] - 1]
    batch[field] = batch[field].float()
    with pytest.raises(ValueError, match=rf"{field} of \d+ is rounded to more than a second"):
        small_model().score(batch)


def test_bst_ranker_context_missing_in_the_batch_raises_naming_it() -> None:
    model = small_model(context_features=CONTEXT)
    with pytest.raises(
        ValueError, match=r"with the context feature 'page', but .* no context_page"
    ):
        model.score(batch_of(SESSIONS))


def test_bst_ranker_width_of_mlp_not_positive_raises() -> None:
    with pytest.raises(ValueError, match=r"mlp_channels must be at least 1 each, got \[8, 0\]"):
        BSTRanker(7, 8, mlp_channels=[8, 0])


def test_bst_ranker_saved_and_loaded_gives_the_same_scores(tmp_path: Path) -> None:
    model, batch = small_model(), batch_of(SESSIONS)
    model.save(tmp_path / "model")
    assert torch.equal(load(tmp_path / "model").score(batch), model.score(batch))


def test_bst_ranker_every_parameter_gets_a_gradient_in_training() -> None:
    model = small_model(num_layers=2).train()
    model.score_candidates(batch_of(SESSIONS), CANDIDATES).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 1e-6, name


def ring(seed: int) -> Sessions:
    """Walks on a ring of ten items whose next step is determined only by a click feature."""
    forward = np.random.default_rng(seed).integers(0, 2, (300, 6))
    step = np.where(forward == 1, 1, -1)
    start = np.random.default_rng(seed + 1).integers(0, 10, (300, 1))
    items = (start + np.cumsum(step, axis=1) - step) % 10
    sessions = Sessions.from_lists(items.tolist(), vocabulary=gs.data.Vocabulary(np.arange(10)))
    return replace(sessions, click_features={"direction": forward.ravel()})


def test_bst_ranker_trained_on_pairs_learns_what_a_click_feature_tells() -> None:
    train, test = ring(0), ring(7)
    specs = feature_specs(train, click=[{"name": "direction", "kind": "categorical"}])
    torch.manual_seed(0)
    model = BSTRanker(10, 16, heads=2, dropout=0.0, max_length=6, mlp_channels=[32], **specs)
    loss = gs.SampledLoss("bce", num_negatives=8, alpha=0.0)
    gs.fit(
        model, train, loss=loss, max_epochs=14, batch_size=32, learning_rate=0.003, progress=False
    )
    assert gs.evaluate(model, test, ks=[1]).metrics["hr@1"] > 0.95


def test_bst_ranker_start_is_wide_in_attention_and_kaiming_in_the_mlp() -> None:
    torch.manual_seed(0)
    model = BSTRanker(50, 64, mlp_channels=[256, 128])
    attention = [part for part in model.blocks.modules() if isinstance(part, torch.nn.Linear)]
    assert len(attention) >= 4
    for part in attention:
        assert part.weight.std().item() == pytest.approx(part.in_features**-0.5, rel=0.05)
    layers = [part for part in model.mlp.modules() if isinstance(part, torch.nn.Linear)]
    for part in (model.lin_first, *layers):
        bound = (6 / ((1 + 0.01**2) * part.in_features)) ** 0.5  # uniform: He et al., ICCV 2015
        assert part.weight.abs().max().item() <= bound
        assert part.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert not part.bias.any()
    before = {name: value.clone() for name, value in model.named_parameters()}
    torch.manual_seed(0)
    model.reset_parameters()
    torch.manual_seed(1)
    other = BSTRanker(50, 64, mlp_channels=[256, 128])
    differing = {n for n, value in other.named_parameters() if not torch.equal(value, before[n])}
    assert {n for n in before if n.endswith("weight") and before[n].dim() > 1} <= differing
