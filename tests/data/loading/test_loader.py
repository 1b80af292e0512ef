"""The order of batches: every sample once, disjoint ranks, and reproducible by seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphseq.data.graphs.dataset import Samples, SessionGraphDataset
from graphseq.data.loading import samplers
from graphseq.data.loading.loader import SessionGraphLoader
from graphseq.data.loading.samplers import ClickBatchSampler, SessionBatchSampler
from graphseq.data.sessions.sessions import Sessions


@pytest.fixture
def dataset() -> SessionGraphDataset:
    generator = np.random.default_rng(0)
    lists = [generator.integers(0, 20, size=n).tolist() for n in generator.integers(2, 9, size=40)]
    return SessionGraphDataset(Sessions.from_lists(lists))


def samples_of(loader: SessionGraphLoader) -> list[tuple[tuple[int, ...], int]]:
    return [
        (tuple(graph.click_item.tolist()), int(graph.y))
        for batch in loader
        for graph in batch.to_data_list()
    ]


@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([20, 1 << 23]),
)
def test_ranks_share_each_sample_once_in_equal_steps(
    size: int,
    batch_size: int,
    world_size: int,
    shuffle: bool,
    bucket: bool,
    epoch: int,
    at_once: int,
) -> None:
    if size < world_size:
        size = world_size
    lengths = np.arange(size) % 7
    batches = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "ORDERED_AT_ONCE", at_once)
        patch.setattr(samplers, "BUCKET_BATCHES", 3)
        for rank in range(world_size):
            sampler = SessionBatchSampler(
                lengths,
                batch_size,
                shuffle=shuffle,
                bucket=bucket,
                rank=rank,
                world_size=world_size,
                seed=3,
            )
            sampler.set_epoch(epoch)
            batches.append(list(sampler))
            assert len(batches[-1]) == len(sampler)
            sampler.first_step = len(sampler) // 2
            rest = np.concatenate(list(sampler))
            assert (rest == np.concatenate(batches[-1][sampler.first_step :])).all()
    assert len({len(of_rank) for of_rank in batches}) == 1
    assert sorted(np.concatenate([b for of_rank in batches for b in of_rank])) == list(range(size))
    most = max(batch_size, 2)  # one sample more where single ones cannot be shared
    assert all(0 < len(b) <= most for of_rank in batches for b in of_rank)


def test_order_depends_on_seed_and_epoch_alone(dataset: SessionGraphDataset) -> None:
    first = SessionGraphLoader(dataset, 16, shuffle=True, seed=1)
    epochs = [samples_of(first), samples_of(first)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])
    second = SessionGraphLoader(dataset, 16, shuffle=True, seed=1)
    assert [samples_of(second), samples_of(second)] == epochs
    assert samples_of(SessionGraphLoader(dataset, 16, shuffle=True, seed=2)) != epochs[0]


def test_workers_change_nothing(dataset: SessionGraphDataset) -> None:
    alone = SessionGraphLoader(dataset, 16, shuffle=True, seed=1)
    helped = SessionGraphLoader(dataset, 16, shuffle=True, seed=1, num_workers=2)
    assert samples_of(alone) == samples_of(helped)


def test_unshuffled_order_is_that_of_the_dataset(dataset: SessionGraphDataset) -> None:
    expected = [(tuple(graph.click_item.tolist()), int(graph.y)) for graph in dataset]
    assert samples_of(SessionGraphLoader(dataset, 7)) == expected


def test_buckets_hold_like_lengths(dataset: SessionGraphDataset) -> None:
    def spread(loader: SessionGraphLoader) -> int:
        return sum(int(np.ptp(batch.click_ptr.diff().numpy())) for batch in loader)

    plain = SessionGraphLoader(dataset, 8, shuffle=True, seed=0)
    bucketed = SessionGraphLoader(dataset, 8, shuffle=True, seed=0, bucket=True)
    assert spread(bucketed) < spread(plain) / 3
    assert sorted(samples_of(bucketed)) == sorted(samples_of(plain))


@pytest.mark.parametrize("bucket", [False, True])
@pytest.mark.parametrize("at_once", [20, 1 << 23])
def test_restored_position_goes_on_with_the_next_batch(
    dataset: SessionGraphDataset, bucket: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "ORDERED_AT_ONCE", at_once)
    monkeypatch.setattr(samplers, "BUCKET_BATCHES", 2)
    whole = SessionGraphLoader(dataset, 16, shuffle=True, seed=1, bucket=bucket)
    samples_of(whole)
    expected = [batch.y.tolist() for batch in whole]

    halfway = SessionGraphLoader(dataset, 16, shuffle=True, seed=1, bucket=bucket)
    samples_of(halfway)
    iterator = iter(halfway)
    seen = [next(iterator).y.tolist() for _ in range(3)]
    state = halfway.state_dict()
    assert state == {"seed": 1, "epoch": 1, "step": 3}

    restored = SessionGraphLoader(dataset, 16, shuffle=True, seed=1, bucket=bucket)
    restored.load_state_dict(state)
    assert seen + [batch.y.tolist() for batch in restored] == expected
    assert restored.state_dict() == {"seed": 1, "epoch": 2, "step": 0}


def test_position_of_another_seed_is_refused(dataset: SessionGraphDataset) -> None:
    loader = SessionGraphLoader(dataset, 16, shuffle=True, seed=1)
    with pytest.raises(ValueError, match="belongs to seed 2"):
        loader.load_state_dict({"seed": 2, "epoch": 0, "step": 0})


def test_position_beyond_the_epoch_is_refused(dataset: SessionGraphDataset) -> None:
    loader = SessionGraphLoader(dataset, 16, shuffle=True, seed=1)
    with pytest.raises(ValueError, match="Step 999 lies outside"):
        loader.load_state_dict({"seed": 1, "epoch": 0, "step": 999})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, r"rank must lie in 0\.\.1"),
        ({"batch_size": 4, "num_steps": 2}, r"num_steps must lie in 3\.\.10 for 10 samples"),
        ({"batch_size": 4, "num_steps": 11}, r"num_steps must lie in 3\.\.10"),
        ({"batch_size": 4, "bucket": True}, "length of every sample"),
        ({"batch_size": 4, "rank": 0, "world_size": 99}, "cannot be shared by 99 ranks"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SessionBatchSampler(10, **arguments)  # type: ignore[arg-type]


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=200),
    st.integers(12, 60),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 3),
)
def test_ranks_share_batches_of_at_most_max_clicks(
    lengths: list[int], max_clicks: int, world_size: int, shuffle: bool, epoch: int
) -> None:
    clicks = np.array(lengths * world_size)  # enough for all ranks
    batches = []
    for rank in range(world_size):
        sampler = ClickBatchSampler(
            clicks, max_clicks, shuffle=shuffle, rank=rank, world_size=world_size, seed=3
        )
        steps = len(sampler)
        sampler.set_epoch(epoch)
        batches.append(list(sampler))
        assert len(batches[-1]) == len(sampler) == steps
    assert len({len(of_rank) for of_rank in batches}) == 1
    flat = [batch for of_rank in batches for batch in of_rank]
    assert sorted(np.concatenate(flat)) == list(range(len(clicks)))
    assert all(0 < clicks[batch].sum() <= max_clicks for batch in flat)


def test_order_of_many_samples_differs_by_seed_and_epoch_and_buckets_lengths(
    dataset: SessionGraphDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "ORDERED_AT_ONCE", 20)
    monkeypatch.setattr(samplers, "BUCKET_BATCHES", 8)
    test_order_depends_on_seed_and_epoch_alone(dataset)
    test_buckets_hold_like_lengths(dataset)


@pytest.mark.parametrize("samples_are", ["prefixes", "sessions"])
def test_batches_by_clicks_are_full_and_hold_like_lengths(samples_are: Samples) -> None:
    sessions = Sessions.from_lists([[1] * n for n in np.random.default_rng(0).integers(2, 60, 900)])
    dataset = SessionGraphDataset(sessions, samples_are)
    loader = SessionGraphLoader(dataset, max_clicks=1000, shuffle=True)
    lengths = [batch.click_ptr.diff().numpy() for batch in loader]
    clicks = np.array([each.sum() for each in lengths])
    assert clicks.max() <= 1000
    assert clicks.sum() == dataset.num_clicks().sum()
    assert len(loader) <= 1.05 * clicks.sum() / 1000 + 1
    padded = sum(len(each) * int(each.max()) for each in lengths)
    assert padded < 1.1 * clicks.sum()


def test_batches_by_clicks_mix_other_samples_every_epoch(dataset: SessionGraphDataset) -> None:
    def epochs(seed: int) -> list[list[tuple[tuple[int, ...], int]]]:
        loader = SessionGraphLoader(dataset, max_clicks=20, shuffle=True, seed=seed)
        return [samples_of(loader), samples_of(loader)]

    first = epochs(1)
    assert first[0] != first[1]
    assert sorted(first[0]) == sorted(first[1])
    assert epochs(1) == first
    assert epochs(2) != first


def test_batches_by_clicks_go_on_with_the_next_one(dataset: SessionGraphDataset) -> None:
    whole = SessionGraphLoader(dataset, max_clicks=20, shuffle=True, seed=1)
    expected = [batch.y.tolist() for batch in whole]
    restored = SessionGraphLoader(dataset, max_clicks=20, shuffle=True, seed=1)
    restored.load_state_dict({"seed": 1, "epoch": 0, "step": 3})
    assert [batch.y.tolist() for batch in restored] == expected[3:]


def test_sample_longer_than_max_clicks_is_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"2 samples have more than max_clicks=4 clicks, up to 7"):
        ClickBatchSampler(np.array([1, 5, 2, 7]), 4)


def test_batches_too_few_for_the_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be shared by 2 ranks"):
        ClickBatchSampler(np.array([4, 4, 4]), 4, rank=0, world_size=2)
    with pytest.raises(ValueError, match="max_clicks must be at least 1"):
        ClickBatchSampler(np.array([4, 4, 4]), 0)


@given(st.integers(4, 200), st.integers(1, 2), st.booleans(), st.booleans(), st.data())
def test_steps_asked_for_hold_about_as_many_samples_each(
    size: int, world_size: int, shuffle: bool, bucket: bool, data: st.DataObject
) -> None:
    num_steps = data.draw(st.integers(1, size // world_size))
    batches = []
    for rank in range(world_size):
        sampler = SessionBatchSampler(
            np.arange(size) % 7,
            size,
            num_steps=num_steps,
            shuffle=shuffle,
            bucket=bucket,
            rank=rank,
            world_size=world_size,
        )
        assert len(sampler) == num_steps
        batches.append(list(sampler))
        assert len(batches[-1]) == num_steps
    sizes = [len(batch) for of_rank in batches for batch in of_rank]
    assert 0 < min(sizes) <= max(sizes) <= min(sizes) + 1
    assert sorted(np.concatenate([b for of_rank in batches for b in of_rank])) == list(range(size))


def test_number_of_steps_and_of_clicks_together_are_refused(dataset: SessionGraphDataset) -> None:
    with pytest.raises(ValueError, match="max_clicks makes its own"):
        SessionGraphLoader(dataset, max_clicks=20, num_steps=3)
