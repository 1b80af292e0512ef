"""What a training reads: sessions in the codes of the model, and batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import sized_len
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
from graphseq.nn.chance import OwnDraws
from graphseq.training.arguments import check_data, check_model, check_samples
from graphseq.training.lightning.collectives import (
    SINGLE_PROCESS,
    Collectives,
    ShareOfBatches,
    share_of,
)
from graphseq.training.lightning.identity import identity_of
from graphseq.training.lightning.resumable_loader import ResumableLoader
from graphseq.training.objectives.auxiliary import Auxiliary
from graphseq.training.settings import TrainingSettings

MADE_HERE = (Split, Sessions, Shards, SessionGraphDataset)
"""Data from which ``fit`` makes the batches."""


PART = 16_384
"""Sessions of the validation part that one step of Lightning's validation ranks."""


class SessionDataModule(pl.LightningDataModule):
    """The batches that a session model is trained on, and the sessions that it is validated on.

    The model gets to know the data at once (:meth:`SessionModel.attach`); see
    :class:`~graphseq.training.lightning.module.SessionModule`.

    Args:
        data: A split; or sessions, shards, a dataset or a loader of batches with ``y``.
        model: The model that is trained.
        settings: Batch size or clicks, lanes, seed; ``None``: all defaults.
        validation: Sessions to watch, instead of the split's own.
        augmentation: Changes the clicks of training samples.
        num_workers: Processes that build batches ahead.

    Raises:
        ValueError: If these do not go together.
    """

    def __init__(
        self,
        data: Split | Sessions | Shards | SessionGraphDataset | Iterable[Batch],
        model: SessionModel,
        settings: TrainingSettings | None = None,
        *,
        validation: Sessions | None = None,
        augmentation: Augmentation | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        check_model(model, data)
        check_data(data)
        check_samples(model, data)
        if isinstance(model, CountingModel):
            raise ValueError(
                f"{type(model).__name__} counts its sessions, and Lightning has nothing to train: "
                "use gs.fit(model, data)."
            )
        self.data = data
        self.model = model
        self.settings = settings or TrainingSettings()
        self.augmentation = augmentation
        self.num_workers = num_workers
        self.sessions = attach(model, data)
        if isinstance(data, Split) and validation is None:
            validation = data.validation
        if validation is not None:
            validation = checked_validation(model, validation)
        self.validation = validation
        # Sessions in the codes of the model, or batches and samples as they are.
        self.source: Any = self.sessions if isinstance(data, (Split, Sessions)) else data
        self.loader: ResumableLoader | None = None

    @property
    def draws_from_torch(self) -> bool:
        """Whether batches come from a loader that may draw from torch's own generator."""
        return not isinstance(self.source, (*MADE_HERE, EpochLoader))

    @property
    def num_batches(self) -> int | None:
        """Batches of an epoch, if the loader has a length."""
        return sized_len(self.loader)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be the same where a training is resumed."""
        return identity_of(
            self.model,
            self.source,
            self.validation,
            self.augmentation,
            self._auxiliary,
            self._trainer.world_size,
        )

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None
        return self.trainer

    @property
    def _auxiliary(self) -> list[Auxiliary]:
        return list(getattr(self._trainer.lightning_module, "auxiliary", ()))

    def setup(self, stage: str) -> None:
        """Has model and further losses read the training sessions, and makes the loader."""
        trainer, settings = self._trainer, self.settings
        auxiliary = self._auxiliary
        self.collectives = Collectives() if trainer.world_size > 1 else SINGLE_PROCESS
        size = self.collectives.size
        check_combination(self.model, self.data, settings, self.augmentation, auxiliary, size)
        if stage != "fit":
            return
        with OwnDraws(settings.seed):
            for each in auxiliary:
                each.prepare(self.model, self.sessions)
        batches = training_batches(
            self.model,
            self.source,
            settings,
            self.collectives,
            augmentation=self.augmentation,
            target_fields=sorted({name for each in auxiliary for name in each.target_fields}),
            num_workers=self.num_workers,
        )
        module: Any = trainer.lightning_module
        self.loader = ResumableLoader(batches, settings.seed, lambda: module.step)

    def train_dataloader(self) -> ResumableLoader:
        assert self.loader is not None
        # Lightning asks a loader without a length for its first batch before it sets the epoch.
        progress: Any = self._trainer.fit_loop.epoch_progress.current
        self.loader.set_epoch(progress.processed)
        return self.loader

    def val_dataloader(self) -> Any:
        if self.validation is None:
            return []
        return SessionParts(share_of(self.validation, self.collectives))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        if isinstance(batch, Sessions):  # they are ranked from where they are
            return batch
        return super().transfer_batch_to_device(batch, device, index)

    def teardown(self, stage: str) -> None:
        if self.loader is not None:
            self.loader.close()

    def on_exception(self, exception: BaseException) -> None:
        """Ends the processes that build batches, for which Lightning calls no ``teardown``."""
        self.teardown("fit")


class SessionParts:
    """Sessions cut into parts, at least one: every process takes part in Lightning's validation.

    Args:
        sessions: The sessions.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    def __len__(self) -> int:
        return max(1, -(-self.sessions.num_sessions // PART))

    def __iter__(self) -> Iterator[Sessions]:
        if len(self) == 1:
            yield self.sessions
            return
        for numbers in np.split(
            np.arange(self.sessions.num_sessions),
            np.arange(PART, self.sessions.num_sessions, PART),
        ):
            yield self.sessions.select(numbers)


def attach(model: SessionModel, data: object) -> Sessions | None:
    """Gives a model its training data to read.

    Returns:
        The sessions behind the data in the codes of the model; ``None`` of shards and loaders.

    Raises:
        ValueError: If model and data have different items.
    """
    sessions, catalog = sessions_and_catalog(model, data)
    model.attach(catalog, sessions)
    return sessions


def sessions_and_catalog(
    model: SessionModel, data: object
) -> tuple[Sessions | None, Catalog | None]:
    """The sessions behind what a training is given, and what is known of their items.

    Args:
        model: Split, sessions and shards are read in the codes of a model that knows its items.
        data: A split, sessions, shards, a dataset or a loader of batches.

    Returns:
        Both ``None`` for a loader that does not state them; no sessions of shards.
    """
    if isinstance(data, Shards):
        return None, _catalog_of_shards(model, data)
    if isinstance(data, (Split, Sessions)):
        sessions = data.train if isinstance(data, Split) else data
        if not isinstance(model, CountingModel):
            sessions = in_model_codes(model, sessions)
    else:
        graphs = data.graphs if isinstance(data, EpochLoader) else data
        graphs = getattr(graphs, "dataset", graphs)  # of PyG's own loader over our dataset
        if not isinstance(graphs, SessionGraphDataset):
            return None, None
        sessions = graphs.sessions
    return sessions, sessions.catalog()


def _catalog_of_shards(model: SessionModel, shards: Shards) -> Catalog:
    """The catalog of all shards in the codes of the model, without a look at their clicks."""
    each = shards.each_item_once()
    recoded = in_model_codes(model, each)
    counts = np.zeros(recoded.num_items, dtype=np.int64)
    counts[recoded.items] = shards.counts[each.items]
    return replace(recoded.catalog(), counts=counts)


def checked_validation(model: SessionModel, validation: Sessions) -> Sessions:
    """The validation part in the codes of the model, checked before the first epoch.

    Raises:
        ValueError: If it has no target, or its items are not the model's.
    """
    if validation.num_targets == 0:
        raise ValueError(
            f"The validation part is empty: none of its {validation.num_sessions} sessions has a "
            "click at or after its first_target. Hold out more, or train without validation: pass "
            "split.train instead of the split."
        )
    return in_codes_of(model, validation)


def check_combination(
    model: SessionModel,
    data: object,
    settings: TrainingSettings,
    augmentation: Augmentation | None,
    auxiliary: Sequence[Auxiliary] = (),
    world_size: int = 1,
) -> None:
    """Refuses a combination of settings, data and model that cannot train.

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
            f"lanes={lanes} takes one click per lane and step: max_clicks goes with batches "
            "of whole samples, leave one of the two None."
        )
    if augmentation is not None and (lanes is not None or not made_here):
        raise ValueError(
            "augmentation changes samples of a split, sessions or a dataset; it does not go with "
            "lanes, and a loader of your own takes it itself: SessionGraphLoader(augmentation=...)."
        )
    if settings.samples is not None:
        _check_kind_of_samples(model, data, settings)
    if settings.order != "random":
        _check_order(data, settings)
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
            f"Several processes share batches of sessions, not of a "
            f"{type(data).__name__}: pass a split, sessions, shards or a SessionGraphDataset."
        )


def _check_kind_of_samples(model: SessionModel, data: object, settings: TrainingSettings) -> None:
    samples = settings.samples
    if not isinstance(data, (Split, Sessions, Shards)):
        raise ValueError(
            f"samples={samples!r} makes samples of sessions, and a {type(data).__name__} has "
            "samples of its own: pass a split, sessions or shards, or leave samples None."
        )
    if samples == "sessions" and model.samples not in ("sessions", "cloze"):
        raise ValueError(
            f"{type(model).__name__} is trained on prefixes, with one target each, got "
            "samples='sessions', with one target per click: leave samples None."
        )
    if samples == "prefixes" and settings.lanes is not None:
        raise ValueError(
            f"lanes={settings.lanes} walks through whole sessions, got samples='prefixes': leave "
            "one of the two None."
        )


def _check_order(data: object, settings: TrainingSettings) -> None:
    order = f"order={settings.order!r}"
    if not isinstance(data, (Split, Sessions)):
        raise ValueError(
            f"{order} is about sessions, and a {type(data).__name__} has an order of its own: "
            "pass a split or sessions, or use order='random'."
        )
    if settings.max_clicks is not None:
        raise ValueError(
            f"max_clicks makes batches of similar length, and {order} keeps the order of sessions: "
            "use batch_size with it."
        )
    times = (data.train if isinstance(data, Split) else data).time
    if settings.order == "time" and times is None:
        raise ValueError(
            "order='time' needs the times of clicks, and these sessions have none: read the log "
            "with time=, or use order='log' if sessions stand in the order of time, else 'random'."
        )


def _check_shards(
    model: SessionModel, shards: Shards, settings: TrainingSettings, world_size: int
) -> None:
    if settings.lanes is not None or settings.max_clicks is not None:
        raise ValueError(
            f"Batches of shards are made by samples, got lanes={settings.lanes} and "
            f"max_clicks={settings.max_clicks}: use batch_size."
        )
    sizes = shards.num_samples(_samples_of(model, settings))
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
    collectives: Collectives,
    *,
    augmentation: Augmentation | None,
    target_fields: Sequence[str],
    num_workers: int,
) -> Iterable[Batch]:
    """The batches of an epoch, or one process's share of them.

    Args:
        model: It declares whether it is trained on whole sessions or prefixes.
        source: Sessions, shards, a dataset, or a loader of batches, which stays as it is.
        settings: Samples, batch size or clicks, lanes, seed.
        collectives: The processes that train together.
        augmentation: What changes the samples.
        target_fields: What batches hold of the targets' clicks.
        num_workers: Processes that build batches ahead.
    """
    if not isinstance(source, (Sessions, Shards, SessionGraphDataset)):
        return source
    samples = _samples_of(model, settings)
    by_session = samples == "sessions"
    workers: dict[str, Any] = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
    if isinstance(source, Shards):
        sizes = source.num_samples(samples)
        own = [n for n in shards_of(collectives.rank, collectives.size, len(sizes)) if sizes[n]]
        return ShardLoader(
            {
                n: _dataset(model, in_model_codes(model, source[n]), samples, target_fields)
                for n in own
            },
            sizes,
            settings.batch_size * collectives.size,
            seed=settings.seed,
            bucket=by_session,
            rank=collectives.rank,
            world_size=collectives.size,
            augmentation=augmentation,
            **workers,
        )
    dataset, shuffle = source, settings.order == "random"
    if isinstance(dataset, Sessions):
        sessions = oldest_first(dataset) if settings.order == "time" else dataset
        dataset = _dataset(model, sessions, samples, target_fields)
    kwargs: dict[str, Any] = {"shuffle": shuffle, "seed": settings.seed, **workers}
    if settings.lanes is not None:
        return SessionParallelLoader(dataset, settings.lanes, **kwargs)
    # The loader of a single process, of which each takes its share.
    whole = SessionGraphLoader(
        dataset,
        settings.batch_size * collectives.size,
        max_clicks=None if settings.max_clicks is None else settings.max_clicks * collectives.size,
        bucket=by_session and shuffle,
        augmentation=augmentation,
        rank=0,
        world_size=1,
        **kwargs,
    )
    if not collectives.are_several:
        return whole
    share = ShareOfBatches(whole.sampler_of_batches, collectives)
    return EpochLoader(
        dataset, whole.dataset, share, with_epoch=augmentation is not None, **workers
    )


def oldest_first(sessions: Sessions) -> Sessions:
    """The sessions by the time of their last click; sessions of one moment stay in the order of the
    log.

    Raises:
        ValueError: If they have no times.
    """
    if sessions.time is None:
        raise ValueError("Sessions without times have no order of time.")
    last = sessions.time[sessions.ptr[1:] - 1]
    return sessions.select(np.argsort(last, kind="stable"))


def _samples_of(model: SessionModel, settings: TrainingSettings) -> Samples:
    """What a training sample is: as the settings say, else as the model declares."""
    if settings.samples is not None:
        return settings.samples
    return "sessions" if model.samples in ("sessions", "cloze") else "prefixes"


def _dataset(
    model: SessionModel, sessions: Sessions, samples: Samples, target_fields: Sequence[str]
) -> SessionGraphDataset:
    # A model that sees only the newest clicks needs no graph of older ones.
    longest = None if samples == "sessions" else model.max_length
    return SessionGraphDataset(
        sessions,
        samples,
        max_length=longest,
        target_fields=target_fields,
        request_time=model.reads_request_time,
    )
