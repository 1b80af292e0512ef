"""Places under an item table: those of the whole scores, however the product is cut."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import graphseq.evaluation.table_ranks as table_ranks
from graphseq.evaluation import rank_counts
from graphseq.evaluation.table_ranks import TableRanks


@st.composite
def cases(draw):
    """Vectors and rows of small whole numbers: no product rounds, and ties are many."""
    seed = draw(st.integers(0, 2**31))
    rows, items, d = draw(st.integers(0, 90)), draw(st.integers(1, 60)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(seed)

    def whole(*shape):
        return torch.randint(-2, 3, shape, generator=generator).float()

    bias = whole(items) if draw(st.booleans()) else None
    targets = torch.randint(-1, items, (rows,), generator=generator)

    def pairs():
        row, item = (torch.rand(rows, items, generator=generator) < 0.2).nonzero().t()
        shuffled = torch.randperm(len(row), generator=generator)
        return row[shuffled], item[shuffled]

    excluded = pairs() if draw(st.booleans()) else None
    added = None
    if draw(st.booleans()):
        row, item = pairs()
        added = row, item, whole(len(row))
    return whole(rows, d), whole(items, d), bias, targets, added, excluded


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from([torch.float32, torch.float64]), st.sampled_from([1, 7, 2048]))
def test_table_ranks_of_any_cut_equal_those_of_whole_scores(case, dtype, items_at_once):
    vectors, weight, bias, targets, added, excluded = case
    vectors, weight = vectors.to(dtype), weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    scores = torch.nn.functional.linear(vectors, weight, bias)
    if added is not None:
        added = *added[:2], added[2].to(dtype)
        for row, item, value in zip(*added, strict=True):
            scores[row, item] += value
    expected = rank_counts(scores, targets, excluded=excluded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_ranks, "ITEMS_AT_ONCE", items_at_once)
        patch.setattr(table_ranks, "ROWS_AT_ONCE", 40)
        patch.setattr(table_ranks, "MOST_SCORES", 100)
        found = TableRanks(weight, bias).counts(vectors, targets, added=added, excluded=excluded)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert found[0].dtype == found[1].dtype == torch.int64


def test_table_ranks_of_rounded_products_are_those_of_one_set_of_scores(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(600, 33, generator=generator)
    weight = torch.randn(5_000, 33, generator=generator)
    weight[2_500:] = weight[:2_500]  # every item ties with another, which no rounding may part
    targets = torch.randint(0, 5_000, (600,), generator=generator)
    better, tied = TableRanks(weight).counts(vectors, targets)
    exact = vectors.double() @ weight.double().t()
    expected = rank_counts(exact, targets)
    assert (better - expected[0]).abs().max() <= 2  # neighbors that float32 cannot tell apart
    assert (better == expected[0]).float().mean() > 0.98
    assert int((tied < 1).sum()) == 0


def test_table_ranks_of_targets_whose_score_rounds_in_another_way_are_counted_again(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(64, 8, generator=generator)
    weight = torch.randn(300, 8, generator=generator)
    targets = torch.randint(-1, 300, (64,), generator=generator)
    row, item = (torch.rand(64, 300, generator=generator) < 0.1).nonzero().t()
    added = row[::2], item[::2], torch.randn(len(row[::2]), generator=generator)
    pairs = {"added": added, "excluded": (row, item)}
    expected = TableRanks(weight).counts(vectors, targets, **pairs)
    product = torch.mm

    def rounding(x, w, out=None):
        made = product(x, w) if out is None else product(x, w, out=out)
        return made if out is not None else made * (1 + 1e-6)  # the targets' own rows alone

    monkeypatch.setattr(torch, "mm", rounding)
    found = TableRanks(weight).counts(vectors, targets, **pairs)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("added", [1e38, torch.inf, -torch.inf])
def test_table_ranks_of_additions_out_of_range_are_those_of_whole_scores(added):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 3, generator=generator) * 1e18
    weight = torch.randn(9, 3, generator=generator) * 1e19
    row, item = torch.arange(40), torch.arange(40) % 9
    scores = vectors @ weight.t()
    scores[row, item] += added
    for targets in (item, (item + 1) % 9):
        expected = rank_counts(scores, targets)
        pairs = row, item, torch.full((40,), added)
        found = TableRanks(weight).counts(vectors, targets, added=pairs)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, 3e38])
@pytest.mark.parametrize("where", ["vectors", "weight", "bias"])
def test_table_ranks_of_numbers_out_of_range_are_those_of_whole_scores(broken, where):
    generator = torch.Generator().manual_seed(0)
    parts = {
        "vectors": torch.randn(50, 2, generator=generator),
        "weight": torch.randn(9, 2, generator=generator),
        "bias": torch.randn(9, generator=generator),
    }
    parts[where].view(-1)[3] = broken
    scores = torch.nn.functional.linear(parts["vectors"], parts["weight"], parts["bias"])
    targets = torch.randint(0, 9, (50,), generator=generator)
    table = TableRanks(parts["weight"], parts["bias"])
    if scores.isnan().any():
        with pytest.raises(ValueError, match="NaN"):
            table.counts(parts["vectors"], targets)
    else:
        better, tied = table.counts(parts["vectors"], targets)
        expected = rank_counts(scores, targets)
        assert torch.equal(better, expected[0])
        assert torch.equal(tied, expected[1])
