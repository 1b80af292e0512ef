"""Batches of shards: each sample once per epoch, in steps independent of the number of readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch

from graphseq.data.graphs.augment import ClickDropout
from graphseq.data.graphs.dataset import Samples, SessionGraphDataset
from graphseq.data.graphs.session_graph import join_session_graphs
from graphseq.data.loading import shard_loader
from graphseq.data.loading.shard_loader import ShardLoader, ShardSampler, shards_of
from graphseq.data.loading.shards import Shards, build_shards, open_shards


def samplers(
    sizes: list[int], batch_size: int, world_size: int, *, bucket: bool = False
) -> list[ShardSampler]:
    """The samplers of all ranks; the length of a sample is its number modulo 7."""
    return [
        ShardSampler(
            sizes,
            {n: lambda index: index % 7 for n in shards_of(rank, world_size, len(sizes))},
            batch_size,
            seed=3,
            bucket=bucket,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]


def together(ranks: list[ShardSampler], epoch: int) -> list[list[tuple[int, int]]]:
    """Shard and number of the samples of each step, all ranks one after the other."""
    steps: list[list[tuple[int, int]]] = []
    for sampler in ranks:
        sampler.set_epoch(epoch)
    for parts in zip(*ranks, strict=True):
        flat = [part for of_rank in parts for part in of_rank]
        steps.append([(shard, int(n)) for shard, samples in flat for n in samples])
    return steps


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any),
    batch_size=st.integers(1, 20),
    bucket=st.booleans(),
    at_once=st.booleans(),
)
def test_steps_hold_each_sample_once_and_do_not_depend_on_the_number_of_ranks(
    sizes: list[int], batch_size: int, bucket: bool, at_once: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_loader, "BUCKET_BATCHES", 3)
        patch.setattr(shard_loader, "ORDERED_AT_ONCE", 1 << 23 if at_once else 0)
        every = sorted((shard, n) for shard, size in enumerate(sizes) for n in range(size))
        one = samplers(sizes, batch_size, 1, bucket=bucket)
        for epoch in (0, 1):
            steps = together(one, epoch)
            assert len(steps) == len(one[0]) == -(-len(every) // batch_size)
            assert sorted(sample for step in steps for sample in step) == every
            assert max(map(len, steps)) < batch_size + len(sizes)
            for world_size in range(2, len(sizes) + 1):
                ranks = samplers(sizes, batch_size, world_size, bucket=bucket)
                assert together(ranks, epoch) == steps


@pytest.mark.parametrize("bucket", [False, True])
def test_sampler_goes_on_at_any_step_and_epochs_differ(
    bucket: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_loader, "BUCKET_BATCHES", 4)
    (sampler,) = samplers([30, 11], 3, 1, bucket=bucket)

    def numbers() -> list[list[tuple[int, list[int]]]]:
        return [[(shard, n.tolist()) for shard, n in step] for step in sampler]

    whole = numbers()
    for first in range(len(sampler) + 1):
        sampler.first_step = first
        assert numbers() == whole[first:]
    sampler.first_step = 0
    sampler.set_epoch(1)
    assert numbers() != whole


def test_bucketed_steps_are_of_like_length_in_all_shards() -> None:
    (sampler,) = samplers([350, 140], 14, 1, bucket=True)
    spread = [np.ptp(np.concatenate([n for _, n in step]) % 7) for step in sampler]
    assert max(spread) <= 1


def test_sampler_without_samples_or_batches_is_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 5"):
        samplers([5], 0, 1)
    with pytest.raises(ValueError, match="must be at least 1, got 4 and 0"):
        samplers([0, 0], 4, 1)


# -- graphs of shards ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    session = random.integers(0, 40, 200)
    frame = pd.DataFrame(
        {
            "session_id": session,
            "item_id": random.integers(0, 25, 200) * 10,
            "t": random.integers(0, 50, 200),
            "user": session % 7,
            "colour": random.choice(["red", "blue", None], 200),
            "price": random.normal(size=200),
        }
    )
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "log.parquet")
    build_shards(
        tmp_path / "log.parquet",
        tmp_path / "shards",
        3,
        time="t",
        user="user",
        features=["colour", "price"],
        item_features=pd.DataFrame({"weight": np.arange(25.0)}, index=np.arange(25) * 10),
    )
    return tmp_path / "shards"


def assert_same(one: Batch, other: Batch) -> None:
    assert set(one.keys()) == set(other.keys())
    assert one.num_graphs == other.num_graphs
    for key in other.keys():  # noqa: SIM118 (PyG's Data is no mapping)
        assert one[key].dtype == other[key].dtype, key
        assert torch.equal(one[key], other[key]), key
    assert set(one._slice_dict) == set(other._slice_dict)
    for key, slices in other._slice_dict.items():
        assert torch.equal(one._slice_dict[key], slices), key
        assert torch.equal(one._inc_dict[key], other._inc_dict[key].view(-1)), key


@pytest.mark.parametrize("samples", ["prefixes", "sessions"])
def test_joined_batches_equal_the_batch_of_all_graphs(folder: Path, samples: Samples) -> None:
    shards = Shards(folder)
    batches = []
    for number in range(3):
        dataset = SessionGraphDataset(shards[number], samples)
        batches.append(dataset.batch(np.arange(len(dataset))[: 4 + number]))
    batches.insert(1, dataset.batch([]))
    singles = [graph for batch in batches for graph in batch.to_data_list()]
    joined = join_session_graphs(batches)
    assert_same(joined, Batch.from_data_list(singles))
    assert {"user", "click_time", "click_colour", "click_price", "y"} <= set(joined.keys())
    assert join_session_graphs(batches[:1]) is batches[0]


def loader(
    shards: Shards, samples: Samples, rank: int, world_size: int, **kwargs: Any
) -> ShardLoader:
    own = shards_of(rank, world_size, len(shards))
    datasets = {number: SessionGraphDataset(shards[number], samples) for number in own}
    ranks = {"rank": rank, "world_size": world_size}
    return ShardLoader(datasets, shards.num_samples(samples), 16, **ranks, **kwargs)


@pytest.mark.parametrize("samples", ["prefixes", "sessions"])
@pytest.mark.parametrize("augmentation", [None, ClickDropout(0.3)])
def test_batches_of_ranks_make_up_those_of_one_process(
    folder: Path, samples: Samples, augmentation: Any
) -> None:
    shards = Shards(folder)
    options = {"bucket": samples == "sessions", "seed": 5, "augmentation": augmentation}
    whole = loader(shards, samples, 0, 1, **options)
    parts = [loader(shards, samples, rank, 2, **options) for rank in (0, 1)]
    for _ in range(2):
        number = 0
        for together, *of_ranks in zip(whole, *parts, strict=True):
            assert_same(together, join_session_graphs(of_ranks))
            number += together.num_graphs
        assert number == sum(shards.num_samples(samples))


def test_rank_without_a_sample_in_a_step_has_an_empty_batch(folder: Path) -> None:
    shards = Shards(folder)
    datasets = {0: SessionGraphDataset(shards[0])}
    batch = shard_loader._BatchesOfShards(datasets, None, 0)[0, []]
    assert (batch.num_graphs, batch.y.numel()) == (0, 0)


def test_number_of_samples_and_counts_are_those_of_the_sessions(folder: Path) -> None:
    shards, whole = Shards(folder), open_shards(folder, rank=0, world_size=1)
    for samples in ("prefixes", "sessions"):
        lengths = [len(SessionGraphDataset(shards[n], samples)) for n in range(len(shards))]
        assert shards.num_samples(samples) == lengths
    assert shards.counts.tolist() == whole.catalog().counts.tolist()
    assert shards.num_items == whole.num_items
    assert isinstance(shards[1].items, np.memmap)
    with pytest.raises(IndexError, match="Shard 3 does not exist: there are 3"):
        shards[3]
    each = shards.each_item_once()
    assert sorted(each.items.tolist()) == np.flatnonzero(shards.counts).tolist()
    assert each.vocabulary == whole.vocabulary
    assert each.user_vocabulary == whole.user_vocabulary
    assert each.item_features is not None
    assert each.item_features.equals(whole.item_features)
    (folder / "item_counts.npy").unlink()
    with pytest.raises(ValueError, match=r"item_counts\.npy is missing"):
        Shards(folder)
