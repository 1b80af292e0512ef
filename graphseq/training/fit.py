"""Training on Lightning: one function for counting models, neural models and a user's own."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch_geometric.data import Batch

from graphseq.data.graphs.augment import Augmentation
from graphseq.data.graphs.dataset import SessionGraphDataset
from graphseq.data.loading.shards import Shards
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.splits import Split
from graphseq.evaluation.metrics import metric_names
from graphseq.models.base import SessionModel
from graphseq.models.counting.counting import CountingModel
from graphseq.models.use.persistence import check_can_save
from graphseq.training.arguments import check_data, check_model, check_others, check_samples
from graphseq.training.lightning.checkpoints import DurableCheckpointIO, LastCheckpoint
from graphseq.training.lightning.data_module import SessionDataModule, attach, check_combination
from graphseq.training.lightning.distributed import LaunchConfig, check_strategy, one_device
from graphseq.training.lightning.interrupt import TwoStageInterrupt
from graphseq.training.lightning.loggers import EVERY, METRICS, run_loggers
from graphseq.training.lightning.module import SessionModule
from graphseq.training.lightning.precision import check_hardware
from graphseq.training.lightning.progress import (
    EpochBar,
    is_interactive,
    lines_shown,
    silence_lightning,
)
from graphseq.training.lightning.resumable_loader import worker_errors_named
from graphseq.training.lightning.run_folder import has_checkpoint, only_run
from graphseq.training.objectives.auxiliary import Auxiliary, auxiliary_names
from graphseq.training.objectives.loss_choice import as_loss
from graphseq.training.objectives.objective import check_table
from graphseq.training.rules import did_you_mean
from graphseq.training.settings import TrainingSettings, ks_of
from graphseq.visualization.learning_curves import HISTORY, plot_learning_curves

log = logging.getLogger(__name__)

SETTINGS, CHECKPOINT = "settings.json", "checkpoints/last.ckpt"
"""The settings of the run and the state that it resumes from, in the folder ``out``."""

MODEL = "model"
"""The trained model, in the folder ``out``."""

CURVES = "learning_curves.png"
"""The picture of the history, in the folder ``out``."""

FILES = (SETTINGS, CHECKPOINT, HISTORY, METRICS, CURVES)
"""What a training writes in the folder ``out``, besides the model."""


OWN_NAMES = {
    "max_epochs": "max_epochs",
    "gradient_clip_val": "gradient_clip",
    "accumulate_grad_batches": "accumulate",
    "precision": "precision",
    "accelerator": "device",
    "devices": "devices",
    "num_nodes": "num_nodes",
    "callbacks": "callbacks",
    "logger": "logger",
    "enable_progress_bar": "progress",
}
"""Arguments of Lightning's Trainer, and what ``fit`` calls them."""


@dataclass(frozen=True)
class FitResult:
    """The result of :func:`fit`.

    Args:
        history: One row per epoch: ``epoch`` (from 1), ``loss`` (the mean over its ``targets``),
            ``learning_rate`` (of the next step), ``seconds`` of
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
    callbacks: Callback | Sequence[Callback] = (),
    logger: Logger | Sequence[Logger] | None = None,
    trainer_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> FitResult:
    """Trains a model in place and leaves it with the weights of its best epoch.

    With a validation part, training stops when ``monitor`` has not risen for ``patience`` epochs,
    and the best epoch's weights come back. Without one, all ``max_epochs`` are run and the last
    weights stay. Ctrl-C and SIGTERM end the training in the same way. Order, negatives and dropout
    of a step are functions of ``(seed, epoch, step)`` alone, whatever other threads draw. Layers
    and loaders from outside this package may draw from torch's own random state, as
    ``torch.nn.Dropout`` does. It is seeded for every step, and shared by all threads.

    Args:
        model: A model of this package or a subclass of
            :class:`~graphseq.models.SessionModel` of your own.
        data: A split; or sessions, shards, a dataset or a loader of batches with ``y``. A split,
            sessions or shards are read in the codes of a model that knows its items already, as a
            loaded one or one of :func:`~graphseq.models.use.grow.grow` does. Of
            :class:`~graphseq.data.Shards` each process reads its own.
        settings: The settings of this run; ``None``: all defaults.
        validation: Sessions to watch, instead of the split's own.
        augmentation: Changes the clicks of training samples, differently in every epoch: one of
            :mod:`graphseq.data.graphs.augment`, or several in PyG's ``Compose``.
        auxiliary: Further losses on the same vectors, trained with the model's:
            :class:`~graphseq.training.Contrastive`,
            :class:`~graphseq.training.NextFeature`,
            :class:`~graphseq.training.DwellTime`, or your own.
        out: Folder of this run alone while it lasts, for the settings (``settings.json``), the log
            (``logs/metrics.csv``), the history (``history.csv``) and its picture
            (``learning_curves.png``), the checkpoint (``checkpoints/last.ckpt``) and the model.
        resume: Whether to resume from the last checkpoint in ``out``, if there is one. It must be
            of the same model, data, validation part, loss, augmentation and settings.
        progress: Whether to show a progress bar; where no bar can be drawn, one line per epoch.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        devices: Processes per machine that train together, each on a device (on a CPU: one core or
            more); ``None``: one, or the processes that torchrun has started. ``batch_size`` is that
            of one process. Lightning starts the others by running this script again, and what
            follows ``fit`` runs in all of them.
        num_nodes: Machines that train together; ``None``: one, or the machines of torchrun.
        num_workers: Processes that build batches ahead.
        on_epoch: Called after every epoch with its row of the history; what it returns ends the
            training, if true, as early stopping does.
        callbacks: Callbacks of Lightning, one or several, besides the callbacks of this package.
        logger: Loggers of Lightning, one or several, besides the log in ``out``.
        trainer_options: Further arguments of Lightning's ``Trainer``, as
            ``{"limit_train_batches": 10}``.
        **options: Fields of :class:`~graphseq.training.TrainingSettings`, which
            override ``settings``: ``fit(model, split, max_epochs=5, loss="bpr")``.

    Raises:
        TypeError: If a setting has no such name.
        ValueError: If an argument is of another type or out of range, or model and data do not fit
            together. Also if the model could not be saved in ``out``, another run is there, or a
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
    world = LaunchConfig.from_arguments(device, devices, num_nodes)
    folder = None if out is None else Path(out)
    if resume and folder is None:
        raise ValueError("resume=True resumes from the checkpoint in a folder: pass out=.")
    own = {
        **_trainer_options(trainer_options),
        "callbacks": _listed("callbacks", callbacks, Callback),
        "logger": [] if logger is None else _listed("logger", logger, Logger),
    }
    # Of several processes the first has the folder for all.
    with only_run(folder, FILES) if folder is not None and world.rank == 0 else nullcontext():
        if isinstance(model, CountingModel):
            sessions = attach(model, data)
        else:
            check_hardware(settings.precision, world.accelerator, compiled=settings.compile)
            check_combination(model, data, settings, augmentation, auxiliary, world.size)
            data_module = SessionDataModule(
                data,
                model,
                settings,
                validation=validation,
                augmentation=augmentation,
                num_workers=num_workers,
            )
        if folder is not None and world.rank == 0:
            check_can_save(model, folder / MODEL)  # now rather than at the end
        if isinstance(model, CountingModel):
            result = _counted(model, sessions, augmentation, auxiliary)
        else:
            module = SessionModule(model, settings, auxiliary=auxiliary)
            module.folder, module.on_epoch = folder, on_epoch
            result = _trained(module, data_module, world, resume, progress, own)
        if folder is not None:
            saved = _saved(model, folder / MODEL) if world.rank == 0 else folder / MODEL
            result = replace(result, checkpoint=saved)
    if folder is not None and world.size > 1 and torch.distributed.is_initialized():
        torch.distributed.barrier()  # all may read it now, and train there again
    return result


def check_training(
    model: SessionModel, data: Split, settings: TrainingSettings, device: str | torch.device
) -> None:
    """Refuses a training that :func:`fit` would refuse, before hours of another one.

    Args:
        model, data, settings, device: As for :func:`fit`; the model stays as it is.

    Raises:
        ValueError: If settings, model, data and machine do not go together.
    """
    check_model(model, data)
    accelerator, _ = one_device(device)
    if isinstance(model, CountingModel):
        return
    check_hardware(settings.precision, accelerator, compiled=settings.compile)
    check_combination(model, data, settings, None)
    check_table(as_loss(settings.loss), model)


def _counted(
    model: CountingModel,
    sessions: Sessions | None,
    augmentation: Augmentation | None,
    auxiliary: Sequence[Auxiliary],
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
    return FitResult(pd.DataFrame(), 0, time.perf_counter() - start)


def _trained(
    module: SessionModule,
    data_module: SessionDataModule,
    world: LaunchConfig,
    resume: bool,
    progress: bool,
    own: dict[str, Any],
) -> FitResult:
    """Has Lightning train a model, alone in its folder."""
    settings, folder, model = module.settings, module.folder, module.model
    check_table(as_loss(settings.loss), model)  # before a logger begins a file
    interrupt = TwoStageInterrupt()
    callbacks, loggers = own.pop("callbacks"), own.pop("logger")
    plugins = _listed("plugins", own.pop("plugins", None) or [], object)
    checkpoint: Path | None = None
    if folder is not None:
        path = folder / CHECKPOINT
        checkpoint = path if resume and has_checkpoint(path) else None
        callbacks.append(LastCheckpoint(path, settings, folder / SETTINGS))
        plugins.append(DurableCheckpointIO(path))
        columns = _columns(module, data_module)
        loggers += run_loggers(folder, columns, resumes=checkpoint is not None)
    callbacks.append(interrupt)
    progress = progress and world.rank == 0
    if progress and is_interactive():
        callbacks.append(EpochBar())
    with (
        silence_lightning(),
        lines_shown() if progress and not is_interactive() else nullcontext(),
    ):
        log.info("Settings of this training:\n%s", settings)
        trainer = pl.Trainer(
            accelerator=world.accelerator,
            devices=world.devices,
            num_nodes=world.num_nodes,
            precision="32-true" if settings.precision == "32" else settings.precision,
            max_epochs=settings.max_epochs,
            logger=loggers or False,
            callbacks=callbacks,
            plugins=plugins,
            enable_progress_bar=progress and is_interactive(),
            **{
                "strategy": world.strategy,
                "log_every_n_steps": EVERY,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                "default_root_dir": folder,
                **own,
            },
        )
        model.train()
        try:
            with interrupt.caught(), worker_errors_named(lambda: len(module.history)):
                trainer.fit(module, datamodule=data_module, ckpt_path=checkpoint)
        finally:
            module.release()
            data_module.teardown("fit")
            module.restore_best()
            model.to(torch.device("cpu") if world.accelerator == "cpu" else module.device)
            model.eval()
    if interrupt.interrupted:
        log.warning(
            "Training was interrupted in epoch %d; the model has the weights of epoch %d.",
            len(module.history) + 1,
            module.best_epoch,
        )
    history = pd.DataFrame(module.history)
    if folder is not None and world.rank == 0 and len(history):
        _draw(history, folder, settings.monitor)
    seconds = float(history["seconds"].sum()) if len(history) else 0.0
    return FitResult(history, module.best_epoch, seconds, interrupted=interrupt.interrupted)


def _trainer_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Further arguments of Lightning's trainer, checked.

    Raises:
        ValueError: If the trainer has no such argument, ``fit`` calls it otherwise, or the strategy
            cannot train a session model.
    """
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(
            "trainer_options is a mapping of arguments of Lightning's Trainer, got "
            f"{type(options).__name__}: trainer_options={{'limit_train_batches': 10}}."
        )
    known = list(inspect.signature(pl.Trainer.__init__).parameters)[1:]
    for name, value in (options or {}).items():
        if name not in known:
            near = did_you_mean(name, known)
            raise ValueError(f"Lightning's Trainer has no argument {name!r}{near}.")
        if name in OWN_NAMES:
            raise ValueError(
                f"trainer_options has {name}={value!r}, which fit calls {OWN_NAMES[name]}: "
                f"pass fit(..., {OWN_NAMES[name]}=...)."
            )
    given = dict(options or {})
    check_strategy(given.get("strategy", "auto"))
    if given.get("strategy") == "auto":  # which devices= decides
        del given["strategy"]
    # Checkpoints go where out says, or where a ModelCheckpoint among the callbacks says.
    given.pop("enable_checkpointing", None)
    return given


def _listed(name: str, given: Any, kind: type) -> list[Any]:
    """One or several callbacks, loggers or plugins, as a list."""
    found = given if isinstance(given, (list, tuple)) else [given]
    for each in found:
        if not isinstance(each, kind):
            raise ValueError(
                f"{name} takes a {kind.__name__} of pytorch_lightning or a list of them, got "
                f"{each!r:.60}."
            )
    return list(found)


def _columns(module: SessionModule, data_module: SessionDataModule) -> list[str]:
    """Columns of the log, besides ``epoch`` and ``step``."""
    columns = ["loss", "learning_rate", "epoch_loss", "targets"]
    if data_module.validation is not None:
        columns += metric_names(ks_of(module.settings.monitor))
        columns += auxiliary_names(module.further)
    return columns + [f"{name}_loss" for name in module.part_names]


def _draw(history: pd.DataFrame, folder: Path, monitor: str) -> None:
    """Writes the history and its picture; a full disk must not lose a training."""
    try:
        history.to_csv(folder / HISTORY, index=False)
        metric = monitor if monitor in history else None
        plot_learning_curves(history, metric=metric, path=folder / CURVES)
    except (OSError, ValueError) as error:
        log.warning("The learning curves could not be written in %s (%s).", folder, error)


def _saved(model: SessionModel, folder: Path) -> Path | None:
    try:
        model.save(folder)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and not isinstance(error.__cause__, OSError):
            raise
        # A full disk loses no training: the model is here.
        log.warning("The model could not be saved in %s (%s).", folder, error)
        return None
    return folder
