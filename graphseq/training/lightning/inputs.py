"""What a training reads: sessions in the codes of the model, checked, and batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch_geometric.data import Batch

from graphseq.data.graphs.augment import Augmentation
from graphseq.data.graphs.dataset import Samples, SessionGraphDataset
from graphseq.data.loading.loader import EpochLoader, SessionGraphLoader
from graphseq.data.loading.session_parallel import SessionParallelLoader
from graphseq.data.loading.shard_loader import ShardLoader, shards_of
from graphseq.data.loading.shards import Shards
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.splits import Split
from graphseq.evaluation.inputs import in_codes_of
from graphseq.models.base import SessionModel
from graphseq.models.counting.counting import CountingModel
from graphseq.models.use.grow import in_model_codes
from graphseq.training.lightning.collectives import Ranks, ShareOfBatches
from graphseq.training.objectives.auxiliary import Auxiliary
from graphseq.training.settings import TrainingSettings

MADE_HERE = (Split, Sessions, Shards, SessionGraphDataset)
"""Data of which ``fit`` makes the batches."""


def sessions_and_catalog(
    model: SessionModel, data: object
) -> tuple[Sessions | None, Catalog | None]:
    """The sessions behind what a training is given, and what is known of their items.

    Args:
        model: Split, sessions and shards are read in the codes of a model that knows its items.
        data: A split, sessions, shards, a dataset or a loader of batches.

    Returns:
        Both ``None`` for a loader that does not tell; no sessions of shards.
    """
    sessions: Sessions | None = None
    if isinstance(data, Shards):
        return None, _catalog_of_shards(model, data)
    if isinstance(data, (Split, Sessions)):
        sessions = data.train if isinstance(data, Split) else data
        if not isinstance(model, CountingModel):
            sessions = in_model_codes(model, sessions)
    elif isinstance(data, SessionGraphDataset):
        sessions = data.sessions
    elif isinstance(data, EpochLoader):
        sessions = data.graphs.sessions
    else:
        # PyG's own loader over our dataset.
        dataset = getattr(data, "dataset", None)
        if isinstance(dataset, SessionGraphDataset):
            sessions = dataset.sessions
    return sessions, None if sessions is None else sessions.catalog()


def _catalog_of_shards(model: SessionModel, shards: Shards) -> Catalog:
    """The catalog of all shards in the codes of the model, without a look at their clicks."""
    each = shards.each_item_once()
    recoded = in_model_codes(model, each)
    counts = np.zeros(recoded.num_items, dtype=np.int64)
    counts[recoded.items] = shards.counts[each.items]
    return replace(recoded.catalog(), counts=counts)


def checked_validation(model: SessionModel, validation: Sessions) -> Sessions:
    """The validation part in the codes of the model; refused now rather than after an epoch.

    Raises:
        ValueError: If there is no target in it, or its items are not those of the model.
    """
    if validation.num_targets == 0:
        raise ValueError(
            f"The validation part is empty: none of its {validation.num_sessions} sessions has a "
            "click at or after its first_target. Hold out more, or train without validation: pass "
            "split.train in place of the split."
        )
    return in_codes_of(model, validation)


def check_combination(
    model: SessionModel,
    data: object,
    settings: TrainingSettings,
    augmentation: Augmentation | None,
    auxiliary: Sequence[Auxiliary],
    world_size: int,
) -> None:
    """Refuses settings, data and model that do not go together.

    Args:
        world_size: How many processes train together.

    Raises:
        ValueError: If they do not, with the way out.
    """
    made_here, several = isinstance(data, MADE_HERE), world_size > 1
    lanes = settings.lanes
    if lanes is not None and not model.keeps_state:
        raise ValueError(
            f"lanes={lanes} walks through sessions click by click, for a model that keeps "
            f"states between steps, as GRU4Rec does; {type(model).__name__} does not: use "
            "lanes=None."
        )
    if lanes is not None and settings.max_clicks is not None:
        raise ValueError(
            f"lanes={lanes} takes one click a lane a step: max_clicks goes with batches "
            "of whole samples, leave one of the two None."
        )
    if augmentation is not None and (lanes is not None or not made_here):
        raise ValueError(
            "augmentation changes samples of a split, sessions or a dataset; it does not go with "
            "lanes, and a loader of your own takes it itself: SessionGraphLoader(augmentation=...)."
        )
    if auxiliary and lanes is not None:
        raise ValueError(
            "Auxiliary losses read whole sessions, and lanes give them click by click: use "
            "lanes=None."
        )
    if several and lanes is not None:
        raise ValueError(
            f"lanes={lanes} carries states from step to step in one process: train with "
            "devices=1, or with lanes=None."
        )
    if isinstance(data, Shards):
        _check_shards(model, data, settings, world_size)
    if several and not made_here:
        raise ValueError(
            f"Several processes share out the batches of sessions, not those of a "
            f"{type(data).__name__}: pass a split, sessions, shards or a SessionGraphDataset."
        )


def _check_shards(
    model: SessionModel, shards: Shards, settings: TrainingSettings, world_size: int
) -> None:
    if settings.lanes is not None or settings.max_clicks is not None:
        raise ValueError(
            f"Batches of shards are made by samples, got lanes={settings.lanes} and "
            f"max_clicks={settings.max_clicks}: use batch_size."
        )
    sizes = shards.num_samples(_samples_of(model))
    for rank in range(world_size):
        if sum(sizes[number] for number in shards_of(rank, world_size, len(sizes))) == 0:
            raise ValueError(
                f"{len(sizes)} shards of {sum(sizes)} samples give process {rank} of {world_size} "
                "none: train with fewer processes, or build more shards."
            )


def training_batches(
    model: SessionModel,
    source: Any,
    settings: TrainingSettings,
    ranks: Ranks,
    *,
    augmentation: Augmentation | None,
    target_fields: Sequence[str],
    num_workers: int,
) -> Iterable[Batch]:
    """The batches of an epoch, or a process's share of them.

    Args:
        model: What they are for: it says whether it reads whole sessions or prefixes.
        source: Sessions, shards, a dataset, or a loader of batches, which stays as it is.
        settings: Batch size or clicks, lanes, seed.
        ranks: The processes that train together.
        augmentation: What changes the samples.
        target_fields: What batches tell of the targets' clicks.
        num_workers: Processes that build batches ahead.
    """
    if not isinstance(source, (Sessions, Shards, SessionGraphDataset)):
        return source
    by_session = _samples_of(model) == "sessions"
    workers: dict[str, Any] = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
    if isinstance(source, Shards):
        sizes = source.num_samples(_samples_of(model))
        own = [n for n in shards_of(ranks.rank, ranks.size, len(sizes)) if sizes[n]]
        return ShardLoader(
            {n: _dataset(model, in_model_codes(model, source[n]), target_fields) for n in own},
            sizes,
            settings.batch_size * ranks.size,
            seed=settings.seed,
            bucket=by_session,
            rank=ranks.rank,
            world_size=ranks.size,
            augmentation=augmentation,
            **workers,
        )
    dataset = source
    if isinstance(dataset, Sessions):
        dataset = _dataset(model, dataset, target_fields)
    kwargs: dict[str, Any] = {"shuffle": True, "seed": settings.seed, **workers}
    if settings.lanes is not None:
        return SessionParallelLoader(dataset, settings.lanes, **kwargs)
    # That of one process, of which each takes its share.
    whole = SessionGraphLoader(
        dataset,
        settings.batch_size * ranks.size,
        max_clicks=None if settings.max_clicks is None else settings.max_clicks * ranks.size,
        bucket=by_session,
        augmentation=augmentation,
        rank=0,
        world_size=1,
        **kwargs,
    )
    if not ranks.are_several:
        return whole
    share = ShareOfBatches(whole.sampler_of_batches, ranks)
    return EpochLoader(
        dataset, whole.dataset, share, with_epoch=augmentation is not None, **workers
    )


def _samples_of(model: SessionModel) -> Samples:
    return "sessions" if model.samples in ("sessions", "cloze") else "prefixes"


def _dataset(
    model: SessionModel, sessions: Sessions, target_fields: Sequence[str]
) -> SessionGraphDataset:
    samples = _samples_of(model)
    # A model that sees the newest clicks alone need not have the older ones built for it.
    longest = None if samples == "sessions" else model.max_length
    return SessionGraphDataset(
        sessions,
        samples,
        max_length=longest,
        target_fields=target_fields,
        request_time=model.reads_request_time,
    )
