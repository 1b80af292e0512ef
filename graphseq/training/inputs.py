"""What a training reads: sessions in the codes of the model, checked, and batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch_geometric.data import Batch

from graphseq.data.augment import Augmentation
from graphseq.data.catalog import Catalog
from graphseq.data.dataset import SessionGraphDataset
from graphseq.data.lanes import SessionParallelLoader
from graphseq.data.loader import EpochLoader, SessionGraphLoader
from graphseq.data.sessions import Sessions
from graphseq.data.splits import Split
from graphseq.evaluation.evaluate import in_codes_of
from graphseq.models.base import SessionModel
from graphseq.training.auxiliary import Auxiliary
from graphseq.training.ranks import Ranks, ShareOfBatches
from graphseq.training.settings import TrainingSettings


def sessions_and_catalog(data: object) -> tuple[Sessions | None, Catalog | None]:
    """The sessions behind what a training is given, and what is known of their items.

    Args:
        data: A split, sessions, a dataset or a loader of batches.

    Returns:
        Both ``None`` for a loader that does not tell.

    Raises:
        ValueError: If it is none of these.
    """
    sessions: Sessions | None = None
    if isinstance(data, Split):
        sessions = data.train
    elif isinstance(data, Sessions):
        sessions = data
    elif isinstance(data, SessionGraphDataset):
        sessions = data.sessions
    elif isinstance(data, EpochLoader):
        sessions = data.graphs.sessions
    else:
        # PyG's own loader over our dataset.
        dataset = getattr(data, "dataset", None)
        if isinstance(dataset, SessionGraphDataset):
            sessions = dataset.sessions
        elif not hasattr(data, "__iter__"):
            raise ValueError(
                "data is a Split, Sessions, a SessionGraphDataset or a loader of batches, got "
                f"{type(data).__name__}."
            )
    return sessions, None if sessions is None else sessions.catalog()


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
    several: bool,
) -> None:
    """Refuses settings, data and model that do not go together.

    Args:
        several: Whether several processes train together.

    Raises:
        ValueError: If they do not, with the way out.
    """
    made_here = isinstance(data, (Split, Sessions, SessionGraphDataset))
    lanes = settings.lanes
    if lanes is not None and type(model).training_state is SessionModel.training_state:
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
    if several and not made_here:
        raise ValueError(
            f"Several processes share out the batches of sessions, not those of a "
            f"{type(data).__name__}: pass a split, sessions or a SessionGraphDataset."
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
        source: Sessions, a dataset, or a loader of batches, which stays as it is.
        settings: Batch size or clicks, lanes, seed.
        ranks: The processes that train together.
        augmentation: What changes the samples.
        target_fields: What batches tell of the targets' clicks.
        num_workers: Processes that build batches ahead.
    """
    if not isinstance(source, (Sessions, SessionGraphDataset)):
        return source
    dataset = source
    by_session = model.trained_on in ("sessions", "cloze")
    if isinstance(dataset, Sessions):
        # A model that sees the newest clicks alone need not have the older ones built for it.
        cut = {} if by_session else {"max_length": getattr(model, "max_length", None)}
        samples = "sessions" if by_session else "prefixes"
        dataset = SessionGraphDataset(dataset, samples, target_fields=target_fields, **cut)  # type: ignore[arg-type]
    workers: dict[str, Any] = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
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
