"""Training on Lightning: one function for counting models, neural models and a user's own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch_geometric.data import Batch

from graphseq.data.graphs.augment import Augmentation
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.loading.loader import EpochLoader
from graphseq.data.loading.shards import Shards
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.splits import Split
from graphseq.evaluation.metrics import metric_names
from graphseq.models.base import SessionModel
from graphseq.models.counting.counting import CountingModel
from graphseq.models.use.persistence import check_can_save
from graphseq.nn.chance import OwnDraws
from graphseq.training.arguments import check_data, check_model, check_others, check_samples
from graphseq.training.lightning.chance import callers_state
from graphseq.training.lightning.checkpoints import Checkpoints, read
from graphseq.training.lightning.collectives import Ranks
from graphseq.training.lightning.distributed import World
from graphseq.training.lightning.identity import identity_of
from graphseq.training.lightning.inputs import (
    MADE_HERE,
    check_combination,
    checked_validation,
    sessions_and_catalog,
    training_batches,
)
from graphseq.training.lightning.log import METRICS, MetricsLog
from graphseq.training.lightning.loop import SessionTraining
from graphseq.training.lightning.progress import Bar, is_interactive, lines_shown
from graphseq.training.lightning.run_folder import has_checkpoint, only_run
from graphseq.training.lightning.running import Keeper, quiet, reading_in, run
from graphseq.training.lightning.state import load_state
from graphseq.training.objectives.auxiliary import Auxiliary
from graphseq.training.objectives.loss_choice import SampledLoss
from graphseq.training.objectives.objective import Objective
from graphseq.training.optim.optimizers import sparse_tables
from graphseq.training.settings import TrainingSettings, ks_of
from graphseq.visualization.learning_curves import HISTORY, plot_learning_curves

logger = logging.getLogger(__name__)

SETTINGS, CHECKPOINT = "settings.json", "checkpoints/last.ckpt"
"""The settings of the run and the state that it goes on from, in the folder ``out``."""

MODEL = "model"
"""The trained model, in the folder ``out``."""

CURVES = "learning_curves.png"
"""The picture of the history, in the folder ``out``."""

FILES = (SETTINGS, CHECKPOINT, HISTORY, METRICS, CURVES)
"""What a training writes in the folder ``out``, beside the model."""


@dataclass(frozen=True)
class FitResult:
    """What became of a training.

    Args:
        history: One row an epoch: ``epoch`` (from 1), ``loss`` (the mean over its ``targets``),
            ``learning_rate`` (that of the step that comes next), ``seconds`` of
            training and ``data_seconds`` of them waiting for batches, ``targets``, and the metrics
            on the validation part with the ``validation_seconds`` they took.
        best_epoch: The epoch whose weights the model has now; 0 for counting models.
        seconds: Training time without validation.
        checkpoint: Folder that ``graphseq.load`` reads, if ``out`` was given.
        interrupted: Whether Ctrl-C, or SIGTERM, ended the training.
    """

    history: pd.DataFrame
    best_epoch: int
    seconds: float
    checkpoint: Path | None = None
    interrupted: bool = False


def fit(
    model: SessionModel,
    data: Split | Sessions | Shards | SessionGraphDataset | Iterable[Batch],
    settings: TrainingSettings | None = None,
    *,
    validation: Sessions | None = None,
    augmentation: Augmentation | None = None,
    auxiliary: Sequence[Auxiliary] = (),
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    device: str | torch.device = "cpu",
    devices: int | None = None,
    num_nodes: int | None = None,
    num_workers: int = 0,
    on_epoch: Callable[[Mapping[str, float]], object] | None = None,
    **options: Any,
) -> FitResult:
    """Trains a model in place and leaves it with the weights of its best epoch.

    With a validation part, training stops when ``monitor`` has not risen for ``patience`` epochs,
    and the best epoch's weights come back. Without one, all ``max_epochs`` are run and the last
    weights stay. Ctrl-C and SIGTERM end the training in the same way. Order, negatives and dropout
    of a step are functions of ``(seed, epoch, step)`` alone, whatever other threads draw. Layers
    and loaders that are not of this package may draw from torch's own random state, as
    ``torch.nn.Dropout`` does: that is seeded for every step, and is one for all threads.

    Args:
        model: A model of this package or a subclass of
            :class:`~graphseq.models.SessionModel` of your own.
        data: A split; or sessions, shards, a dataset or a loader of batches with ``y``. A split,
            sessions or shards are read in the codes of a model that knows its items already, as a
            loaded one or one of :func:`~graphseq.models.use.grow.grow` does. Of
            :class:`~graphseq.data.Shards` each process reads its own.
        settings: The settings of this run; ``None``: all defaults.
        validation: Sessions to watch, in place of the split's own.
        augmentation: Changes the clicks of training samples, anew in every epoch; those of
            :mod:`graphseq.data.graphs.augment`, several of them in PyG's ``Compose``.
        auxiliary: Further losses on the same vectors, trained with the model's:
            :class:`~graphseq.training.Contrastive`,
            :class:`~graphseq.training.NextFeature`,
            :class:`~graphseq.training.DwellTime`, or your own.
        out: Folder of this run alone while it lasts, for the settings (``settings.json``), the log
            (``logs/metrics.csv``), the history (``history.csv``) and its picture
            (``learning_curves.png``), the checkpoint (``checkpoints/last.ckpt``) and the model.
        resume: Whether to go on from the last checkpoint in ``out``, if there is one; it must be of
            the same model, data, validation part, loss, augmentation and settings.
        progress: Whether to show a progress bar; where no bar can be drawn, a line an epoch.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        devices: Processes a machine that train together, each on a device (on a CPU: one core or
            more); ``None``: one, or those that torchrun has started. ``batch_size`` is that of one
            process. Lightning starts the others by running this script again, and what follows
            ``fit`` runs in all of them.
        num_nodes: Machines that train together; ``None``: one, or those of torchrun.
        num_workers: Processes that build batches ahead.
        on_epoch: Called after every epoch with its row of the history; what it returns ends the
            training, if true, as early stopping does.
        **options: Fields of :class:`~graphseq.training.TrainingSettings`, which go
            before those of ``settings``: ``fit(model, split, max_epochs=5, loss="bpr")``.

    Raises:
        TypeError: If there is no setting of that name.
        ValueError: If an argument is of another type or out of range, model and data do not fit
            together, the model could not be saved in ``out``, another run is there, or a
            checkpoint is of another training.
        OSError: If ``out`` cannot be written to.
    """
    check_model(model, data)
    check_data(data)
    check_others(
        settings,
        validation,
        augmentation,
        auxiliary,
        out,
        on_epoch,
        resume=resume,
        progress=progress,
        devices=devices,
        num_nodes=num_nodes,
        num_workers=num_workers,
    )
    check_samples(model, data)
    settings = (settings or TrainingSettings()).replace(**options)
    world = World.of(device, devices, num_nodes)
    folder = None if out is None else Path(out)
    if resume and folder is None:
        raise ValueError("resume=True goes on from the checkpoint in a folder: pass out=.")
    sessions, catalog = sessions_and_catalog(model, data)
    if isinstance(data, Split) and validation is None:
        validation = data.validation
    if catalog is not None and catalog.num_items != model.num_items:
        raise ValueError(
            f"The model has {model.num_items} items, the training data {catalog.num_items}: build "
            "it with num_items=split.num_items."
        )
    # Of several processes the first has the folder for all.
    with only_run(folder, FILES) if folder is not None and world.rank == 0 else nullcontext():
        if catalog is not None:
            model.attach(catalog)
        if folder is not None and world.rank == 0:
            check_can_save(model, folder / MODEL)
        if isinstance(model, CountingModel):
            result = _counted(model, sessions, augmentation, auxiliary, folder, world)
        else:
            result = _trained(
                model,
                data,
                sessions,
                settings,
                validation,
                augmentation,
                auxiliary,
                folder,
                resume,
                progress,
                world,
                num_workers,
                on_epoch,
            )
    if folder is not None and world.size > 1 and torch.distributed.is_initialized():
        torch.distributed.barrier()  # all may read it now, and train there again
    return result


def _counted(
    model: CountingModel,
    sessions: Sessions | None,
    augmentation: Augmentation | None,
    auxiliary: Sequence[Auxiliary],
    folder: Path | None,
    world: World,
) -> FitResult:
    """Has a model count its sessions once."""
    if sessions is None:
        raise ValueError(
            f"{type(model).__name__} counts sessions: pass a split or sessions, of shards "
            "gs.data.open_shards(folder, rank=0, world_size=1)."
        )
    if augmentation is not None or auxiliary:
        raise ValueError(
            f"{type(model).__name__} counts sessions as they are: pass no augmentation and no "
            "auxiliary."
        )
    start = time.perf_counter()
    model.fit_counts(sessions)
    seconds = time.perf_counter() - start
    return _finished(model, folder, world, pd.DataFrame(), 0, seconds, False)


def _trained(
    model: SessionModel,
    data: Any,
    sessions: Sessions | None,
    settings: TrainingSettings,
    validation: Sessions | None,
    augmentation: Augmentation | None,
    auxiliary: Sequence[Auxiliary],
    folder: Path | None,
    resume: bool,
    progress: bool,
    world: World,
    num_workers: int,
    on_epoch: Callable[[Mapping[str, float]], object] | None,
) -> FitResult:
    """Has Lightning train a model, alone in its folder."""
    catalog = model.catalog if sessions is not None or isinstance(data, Shards) else None
    check_combination(model, data, settings, augmentation, auxiliary, world.size)
    if validation is not None:
        validation = checked_validation(model, validation)
    # Sessions in the codes of the model, or batches and samples as they are.
    source = sessions if isinstance(data, (Split, Sessions)) else data
    identity: dict[str, Any] = {}
    if folder is not None and (resume or world.rank == 0):
        identity = identity_of(model, source, validation, augmentation, auxiliary, world.size)
    model.prepare(sessions)
    with OwnDraws(settings.seed):
        for each in auxiliary:
            each.prepare(model, sessions)
    objective = Objective(settings.loss, model.num_items, catalog, settings.seed, auxiliary)
    objective.check(model)
    target_fields = sorted({name for each in auxiliary for name in each.target_fields})

    def loader(ranks: Ranks) -> Iterable[Batch]:
        return training_batches(
            model,
            source,
            settings,
            ranks,
            augmentation=augmentation,
            target_fields=target_fields,
            num_workers=num_workers,
        )

    training = SessionTraining(model, objective, loader, validation, settings, folder)
    training.on_epoch = on_epoch
    training.several = world.size > 1
    training.identity = identity
    keeper = Keeper(None)
    if folder is not None:
        path = folder / CHECKPOINT
        keeper.checkpoints = Checkpoints(
            path, steps=settings.checkpoint_steps, minutes=settings.checkpoint_minutes
        )
        if resume and has_checkpoint(path):
            load_state(training, read(path))
        if world.rank == 0:
            _save_settings(settings, folder / SETTINGS, resumed=training.resumed is not None)
            training.metrics_log = _log(folder, training)
    callbacks: list[Callback] = [keeper]
    progress = progress and world.rank == 0
    if progress and is_interactive():
        callbacks.append(Bar())
    sampled = isinstance(objective.loss, SampledLoss)
    foreign = training.from_torch or not isinstance(source, (*MADE_HERE, EpochLoader))
    with (
        quiet(),
        lines_shown() if progress and not is_interactive() else nullcontext(),
        callers_state() if foreign or world.accelerator != "cpu" else nullcontext(),
        sparse_tables(model, sampled),
        reading_in(model, settings.precision, world.accelerator, compiled=settings.compile),
    ):
        logger.info("Settings of this training:\n%s", settings)
        trainer = pl.Trainer(
            accelerator=world.accelerator,
            devices=world.devices,
            num_nodes=world.num_nodes,
            strategy=world.strategy,
            precision="32-true" if settings.precision == "32" else settings.precision,
            max_epochs=settings.max_epochs,
            logger=False,
            callbacks=callbacks,
            enable_progress_bar=progress and is_interactive(),
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        model.train()
        try:
            if not training.is_over:
                run(trainer, training, keeper)
        finally:
            training.end_workers()
            training.restore_best()
            model.to(torch.device("cpu") if world.accelerator == "cpu" else training.device)
            model.eval()
            if training.metrics_log is not None:
                training.metrics_log.close()
    if training.interrupted:
        logger.warning(
            "Training was interrupted in epoch %d; the model has the weights of epoch %d.",
            len(training.history) + 1,
            training.best_epoch,
        )
    history = pd.DataFrame(training.history)
    if folder is not None and world.rank == 0 and len(history):
        _draw(history, folder, settings.monitor)
    seconds = float(history["seconds"].sum()) if len(history) else 0.0
    interrupted, best = training.interrupted, training.best_epoch
    return _finished(model, folder, world, history, best, seconds, interrupted)


def _save_settings(settings: TrainingSettings, path: Path, *, resumed: bool) -> None:
    """Writes the settings of a run, once they are known to be those of its checkpoint."""
    try:
        settings.save(path)
    except OSError as error:
        if not resumed:  # what fails now would fail at the end, too
            raise
        logger.warning("The settings could not be saved in %s (%s).", path, error)


def _log(folder: Path, training: SessionTraining) -> MetricsLog:
    state, settings = training.resumed, training.settings
    columns = ["epoch", "step", "loss", "learning_rate", "epoch_loss", "targets"]
    if training.validation is not None:
        columns += metric_names(ks_of(settings.monitor))
        columns += [f"{a.name}_{name}" for a in training.objective.auxiliary for name in a.metrics]
    if training.objective.auxiliary:
        names = ["next_item", *(each.name for each in training.objective.auxiliary)]
        columns += [f"{name}_loss" for name in names]
    position = 0 if state is None else state["log_bytes"]
    return MetricsLog(folder, columns, position=position, step=training.updates)


def _draw(history: pd.DataFrame, folder: Path, monitor: str) -> None:
    """Writes the history and its picture; a full disk is no reason to lose a training."""
    try:
        history.to_csv(folder / HISTORY, index=False)
        metric = monitor if monitor in history else None
        plot_learning_curves(history, metric=metric, path=folder / CURVES)
    except (OSError, ValueError) as error:
        logger.warning("The learning curves could not be written in %s (%s).", folder, error)


def _finished(
    model: SessionModel,
    folder: Path | None,
    world: World,
    history: pd.DataFrame,
    best_epoch: int,
    seconds: float,
    interrupted: bool,
) -> FitResult:
    checkpoint = None
    if folder is not None:
        checkpoint = folder / MODEL
        if world.rank == 0:
            checkpoint = _saved(model, checkpoint)
    return FitResult(history, best_epoch, seconds, checkpoint, interrupted)


def _saved(model: SessionModel, folder: Path) -> Path | None:
    try:
        model.save(folder)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and not isinstance(error.__cause__, OSError):
            raise
        # A full disk loses no training: the model is here.
        logger.warning("The model could not be saved in %s (%s).", folder, error)
        return None
    return folder
