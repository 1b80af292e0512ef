"""The sampler's distribution and purity, and the scores it is used with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from graphseq.training.losses import full_cross_entropy, sampled_softmax
from graphseq.training.negatives.sampler import NegativeSampler, _alias_table, shared_scores


@settings(max_examples=150, deadline=None)
@given(counts=st.lists(st.integers(0, 6) | st.integers(0, 10**6), min_size=1, max_size=40))
def test_alias_table_of_any_counts_gives_each_item_its_probability(counts: list[int]) -> None:
    counts = [*counts, 1]
    probability = np.array(counts) / sum(counts)
    keep, alias = _alias_table(probability)
    given_to = np.bincount(alias, weights=1 - keep, minlength=len(counts))
    np.testing.assert_allclose((keep + given_to) / len(counts), probability, atol=1e-12)
    assert keep.min() >= -1e-12
    assert keep.max() <= 1 + 1e-12
    assert not np.isin(alias[keep < 1], np.nonzero(np.array(counts) == 0)[0]).any()


@pytest.mark.parametrize("alpha", [0.5, 0.75, 1.0])
def test_sample_follows_counts_to_the_power_alpha(alpha: float) -> None:
    counts = np.array([1, 0, 7, 40, 3, 0, 100, 9])
    sampler = NegativeSampler(counts, 200_000, alpha=alpha, seed=3)
    drawn = np.bincount(sampler.sample(0, 0).numpy(), minlength=len(counts))
    clicked = counts > 0
    assert (drawn[~clicked] == 0).all()
    expected = counts[clicked] ** alpha
    expected = expected / expected.sum() * sampler.num_negatives
    assert chisquare(drawn[clicked], expected).pvalue > 0.01


@pytest.mark.parametrize("counts", [6, np.array([5, 0, 1, 900, 2, 2])])
def test_sample_with_alpha_zero_draws_all_items_alike(counts: int | np.ndarray) -> None:
    sampler = NegativeSampler(counts, 60_000, seed=1)
    drawn = np.bincount(sampler.sample(2, 5).numpy(), minlength=6)
    assert chisquare(drawn).pvalue > 0.01


def test_sample_is_a_function_of_seed_epoch_and_step() -> None:
    counts = np.arange(1, 1001)
    sampler = NegativeSampler(counts, 64, alpha=0.5, seed=7)
    first = sampler.sample(1, 2)
    sampler.sample(0, 0)
    assert sampler.sample(1, 2).equal(first)
    torch.manual_seed(5)
    assert NegativeSampler(counts, 64, alpha=0.5, seed=7).sample(1, 2).equal(first)
    others = [sampler.sample(2, 1), sampler.sample(1, 3), sampler.sample(0, 2)]
    others.append(NegativeSampler(counts, 64, alpha=0.5, seed=8).sample(1, 2))
    assert not any(other.equal(first) for other in others)


def test_sample_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    NegativeSampler(10, 5).sample(0, 0)
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_sample_of_rows_draws_each_row_its_own_whatever_rows_are_asked_for(alpha: float) -> None:
    sampler = NegativeSampler(np.arange(1, 1001), 16, alpha=alpha)
    assert sampler.sample(0, 0).shape == (16,)
    negatives = sampler.sample(0, 0, torch.arange(40))
    assert negatives.shape == (40, 16)
    assert negatives.dtype == torch.int64
    assert len(negatives.unique(dim=0)) == 40
    some = torch.tensor([31, 0, 7])
    assert sampler.sample(0, 0, some).equal(negatives[some])
    assert not sampler.sample(0, 1, some).equal(negatives[some])
    assert sampler.sample(0, 0, some[:0]).shape == (0, 16)


SAMPLERS = {
    "uniform": {},
    "popularity": {"alpha": 0.75},
    "mixed": {"alpha": 1.0, "uniform_share": 0.3},
    "uniform alone": {"alpha": 1.0, "uniform_share": 1.0},
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("each", [False, True])
def test_sample_of_every_sampler_follows_the_probabilities_it_reports(
    name: str, each: bool
) -> None:
    counts = np.array([1, 0, 7, 40, 3, 0, 100, 9])
    options = SAMPLERS[name]
    sampler = NegativeSampler(counts, 500 if each else 200_000, seed=3, **options)
    drawn = sampler.sample(4, 1, torch.arange(400) if each else None).reshape(-1)
    observed = np.bincount(drawn.numpy(), minlength=len(counts))
    u, alpha = options.get("uniform_share", 0.0), options.get("alpha", 0.0)
    power = counts**alpha
    probability = u / 8 + (1 - u) * power / power.sum()
    possible = probability > 0
    assert observed[~possible].sum() == 0
    expected = probability[possible] * len(drawn)
    assert chisquare(observed[possible], expected).pvalue > 0.01
    reported = sampler.log_q.double().exp().numpy()[possible] / sampler.num_negatives
    np.testing.assert_allclose(reported, probability[possible], rtol=1e-5)


def test_sample_against_another_power_of_popularity_is_told_apart() -> None:
    counts = np.array([1, 7, 40, 3, 100, 9])
    drawn = NegativeSampler(counts, 200_000, alpha=0.75).sample(0, 0)
    other = counts**0.7 / (counts**0.7).sum() * len(drawn)
    assert chisquare(np.bincount(drawn.numpy()), other).pvalue < 1e-6


def test_sample_of_a_single_item_is_that_item() -> None:
    assert NegativeSampler(1, 3).sample(0, 0).tolist() == [0, 0, 0]
    assert NegativeSampler([0, 4, 0], 3, alpha=1.0).sample(0, 0).tolist() == [1, 1, 1]


def test_log_q_is_the_log_of_the_expected_count() -> None:
    sampler = NegativeSampler([1, 4, 0, 4], 10, alpha=0.5)
    expected = [math.log(10 / 5), math.log(20 / 5), math.log(10 / 5), math.log(20 / 5)]
    torch.testing.assert_close(sampler.log_q, torch.tensor(expected))
    torch.testing.assert_close(NegativeSampler(8, 2).log_q, torch.full((8,), math.log(0.25)))


def test_sampler_shows_its_settings() -> None:
    sampler = NegativeSampler(torch.tensor([3, 4]), 5, alpha=0.5, seed=2)
    assert repr(sampler) == "NegativeSampler(2, 5, alpha=0.5, uniform_share=0.0, seed=2)"


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        (0, {}, "at least one item"),
        ([], {"alpha": 1.0}, "at least one item"),
        (5, {"alpha": 0.5}, "only the number of items"),
        ([1, -2], {"alpha": 0.5}, "got -2.0 for item 1"),
        ([1, math.nan], {}, "got nan for item 1"),
        ([[1, 2]], {}, r"counts must be \[V\]"),
        ([0, 0], {"alpha": 0.5}, "All 2 counts are 0"),
        ([1, 2], {"alpha": -1.0}, "alpha must be a finite number of at least 0, got -1"),
        ([1, 2], {"uniform_share": 1.5}, r"uniform_share must lie in \[0, 1\], got 1\.5"),
        ([1, 2], {"num_negatives": 0}, "num_negatives must be at least 1"),
    ],
)
def test_sampler_with_wrong_arguments_is_refused(
    counts: object, options: dict[str, float], message: str
) -> None:
    arguments = {"num_negatives": 3, **options}
    with pytest.raises(ValueError, match=message):
        NegativeSampler(counts, **arguments)  # type: ignore[arg-type]


def scoring_example() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Vectors, weight, bias, targets [3] and log_q; four dimensions, six items."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    bias, log_q = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    return vectors, weight, bias, torch.tensor([5, 0, 2]), log_q


@pytest.mark.parametrize("with_offset", [False, True])
def test_shared_scores_equal_the_columns_of_all_scores(with_offset: bool) -> None:
    vectors, weight, bias, targets, _ = scoring_example()
    negatives = torch.tensor([2, 5, 1, 2])
    all_scores = vectors @ weight.t() + (bias if with_offset else 0)
    drawn = torch.cat([targets, negatives])
    positive, scores, mask = shared_scores(
        vectors, weight[drawn], targets, negatives, bias[drawn] if with_offset else None
    )
    each_row = negatives.expand(3, -1)
    torch.testing.assert_close(positive, all_scores[torch.arange(3), targets])
    torch.testing.assert_close(scores, all_scores.gather(1, each_row))
    assert mask.tolist() == [
        [item != target for item in row]
        for row, target in zip(each_row.tolist(), targets.tolist(), strict=True)
    ]


def test_sampled_softmax_over_every_other_item_equals_the_full_one() -> None:
    vectors, weight, bias, targets, _ = scoring_example()
    drawn = torch.cat([targets, torch.arange(6)])
    scored = shared_scores(vectors, weight[drawn], targets, torch.arange(6), bias[drawn])
    torch.testing.assert_close(
        sampled_softmax(*scored), full_cross_entropy(vectors, weight, targets, bias)
    )


def test_sampled_softmax_with_log_q_learns_the_distribution_that_popular_negatives_distort() -> (
    None
):
    # The posterior of a biased draw is a softmax of r - log q: at the true log probabilities the
    # corrected loss has no slope, the uncorrected one has.
    probability = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    counts = (probability * 10).numpy()
    sampler = NegativeSampler(counts, 1, alpha=1.0)
    targets, others = torch.cartesian_prod(torch.arange(4), torch.arange(4)).t()
    share = probability[targets] * probability[others]  # of each (target, negative) pair
    slopes = []
    for log_q in (sampler.log_q.double(), None):
        bias = probability.log().requires_grad_()
        loss = torch.zeros((), dtype=torch.float64)
        for target, other, pair_share in zip(targets, others, share, strict=True):
            if target == other:  # no negative of this row counts: nothing to learn from
                continue
            drawn = torch.stack([target, other])
            scored = shared_scores(
                torch.zeros(1, 1, dtype=torch.float64),
                torch.zeros(2, 1, dtype=torch.float64),
                target.view(1),
                other.view(1),
                bias[drawn] if log_q is None else bias[drawn] - log_q[drawn],
            )
            loss = loss + pair_share * sampled_softmax(*scored)
        slopes.append(torch.autograd.grad(loss, bias)[0].abs().max().item())
    assert slopes[0] < 1e-6
    assert slopes[1] > 0.02


def test_shared_scores_of_wrong_shapes_are_refused() -> None:
    vectors, weight, _, targets, _ = scoring_example()
    with pytest.raises(ValueError, match="one for each vector"):
        shared_scores(vectors, weight[:3], targets[:2], torch.tensor([1]))
    with pytest.raises(ValueError, match=r"negatives must be \[N\] and rows"):
        shared_scores(vectors, weight, targets, torch.zeros(3, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"got \[2\] and \[6, 4\] for 3 targets"):
        shared_scores(vectors, weight, targets, torch.zeros(2, dtype=torch.long))
