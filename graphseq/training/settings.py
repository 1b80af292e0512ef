"""The settings of one training: checked when they are made, printed, saved and read back."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal, get_args

import torch

from graphseq.data.storage.documents import read_bytes, write_json
from graphseq.deprecation import old_name
from graphseq.training.objectives.loss_choice import (
    CrossEntropy,
    SampledLoss,
    as_loss,
    loss_settings,
)
from graphseq.training.optim.optimizers import OPTIMIZERS, OptimizerName
from graphseq.training.optim.schedules import SCHEDULES, Schedule
from graphseq.training.rules import Flag, Number, OneOf, Rule, Whole, did_you_mean

Precision = Literal["32", "bf16-mixed", "16-mixed"]


class Warmup:
    """The rule of the setting: a whole number of steps, or a share of all."""

    def check(self, name: str, value: Any) -> int | float:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        share = isinstance(value, Real) and not isinstance(value, Integral) and value < 1
        if not (whole or share) or not value >= 0:
            raise ValueError(
                f"{name} is a whole number of steps or a share of them in [0, 1), got {value!r}."
            )
        return int(value) if whole else float(value)


@dataclass(frozen=True)
class NamedOrOwn:
    """The rule of optimizer and schedule: a name, or a class or function of your own.

    Args:
        names: The names.
        example: A function of your own.
    """

    names: tuple[str, ...]
    example: str

    def check(self, name: str, value: Any) -> Any:
        if callable(value):
            return value
        if isinstance(value, torch.optim.Optimizer) or not isinstance(value, str):
            raise ValueError(
                f"{name} is one of {', '.join(self.names)}, or a function that makes one, "
                f"{self.example}, got a {type(value).__name__}."
            )
        try:
            return OneOf(self.names).check(name, value)
        except ValueError as error:
            if "." not in value:
                raise
            raise ValueError(
                f"{name} {value!r} is your own, which no file holds: pass {name}= again."
            ) from error


RULES: dict[str, Rule] = {
    "max_epochs": Whole(1),
    "batch_size": Whole(1),
    "max_clicks": Whole(1, none="counts samples"),
    "samples": OneOf(("sessions", "prefixes"), none="takes what the model declares"),
    "lanes": Whole(1, none="takes batches of whole sessions"),
    "optimizer": NamedOrOwn(OPTIMIZERS, "lambda parameters: SGD(parameters, lr=0.1)"),
    "learning_rate": Number(),
    "weight_decay": Number(positive=False),
    "schedule": NamedOrOwn(
        SCHEDULES, "lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 5)"
    ),
    "warmup": Warmup(),
    "gradient_clip": Number(none="clips nothing"),
    "accumulate": Whole(1),
    "ema": Number(below=1, none="averages nothing"),
    "precision": OneOf(get_args(Precision)),
    "compile": Flag(),
    "patience": Whole(1, none="never stops early"),
    "exclude_seen": Flag(),
    "order": OneOf(("random", "time", "log")),
    "seed": Whole(0),
    "checkpoint_steps": Whole(1, none="writes none by steps"),
    "checkpoint_minutes": Number(none="writes none by time"),
}
"""The rule of each setting, apart from loss and metric."""


@dataclass(frozen=True)
class TrainingSettings:
    """What one run of :func:`~graphseq.training.fit.fit` does, apart from model and data.

    Args:
        loss: ``"cross_entropy"`` over all items, exact; the name of a sampled loss; a
            :class:`~graphseq.training.CrossEntropy` or a
            :class:`~graphseq.training.SampledLoss`.
        max_epochs: Passes over the training data.
        batch_size: Graphs in a batch; a user's own loader keeps its own.
        max_clicks: Most clicks in a batch, instead of ``batch_size``: many short samples or few
            long ones, of similar length (:class:`~graphseq.data.ClickBatchSampler`). With several
            ranks, that many times the clicks, which they share by samples.
        samples: ``"prefixes"``: each prefix of a session is a sample of its own, with one target,
            also for a model that trains all clicks of a session in one pass. An epoch then takes
            several times as long. ``"sessions"``: one pass per session. ``None``: what the model
            declares (``model.samples``).
        lanes: Sessions that are walked through side by side, one click per step, instead of batches
            of whole sessions (:class:`~graphseq.data.SessionParallelLoader`): for a model that
            keeps states between steps, as GRU4Rec does.
        optimizer: ``"adam"``, ``"adamw"``, ``"adagrad"``, ``"rowwise_adagrad"`` or ``"sgd"``. With
            a sampled loss, only the rows of large tables that a step reads are updated
            (:class:`~graphseq.training.optim.optimizers.RowSparseOptimizer`). Or a class of
            ``torch.optim``, which gets the learning rate and the weight decay, or a function from
            parameters to an optimizer; its tables have dense gradients.
        learning_rate: At the start, or at the end of the warm-up.
        weight_decay: L2 penalty, coupled to the gradient except for ``"adamw"``.
        schedule: ``"constant"``, ``"linear"`` or ``"cosine"`` (both to zero at the last step) or
            ``"step"`` (x 0.1 every 3 epochs). Or a function from the optimizer to a scheduler of
            torch, which steps after each update, or to Lightning's mapping of one.
        warmup: Steps in which the learning rate rises from zero before that; a fraction below 1 is
            a share of all steps.
        gradient_clip: Largest norm of the gradient, row-sparse parts included.
        accumulate: Batches whose gradients make one step of the optimizer: as one batch of them
            all, without the memory for it.
        ema: Decay of an exponential moving average of the weights, which then is what is validated
            and kept; 0.999 averages about the last thousand steps
            (:class:`~graphseq.training.optim.weight_average.WeightAverage`).
        precision: ``"32"``; or ``"bf16-mixed"`` or ``"16-mixed"``, where sessions are read in
            half precision while weights, the loss and the optimizer stay in 32 bits.
        compile: Whether ``torch.compile`` compiles the methods that read sessions. It takes minutes
            before the first step, and needs a compiler.
        monitor: Metric that chooses the epoch: ``"hr@k"``, ``"ndcg@k"``, ``"mrr@k"``, ``"mrr"``.
        patience: Epochs without a rise before training stops; ``None``: never.
        exclude_seen: Whether validation leaves items of the history out, as in ``evaluate``.
        order: ``"random"``, another one every epoch; ``"time"``: sessions by their last click,
            oldest first, the same every epoch, so that what is newest is learned last; or
            ``"log"``: sessions as the data has them, for logs in the order of time whose clicks
            have no times.
        seed: Seed of order, negatives and dropout. The first weights are the model's own.
        checkpoint_steps: Steps of the optimizer between two checkpoints within an epoch; each epoch
            ends with one in any case.
        checkpoint_minutes: Minutes between two checkpoints within an epoch.

    Raises:
        ValueError: If a value is of another type or out of range.
    """

    loss: str | CrossEntropy | SampledLoss = "cross_entropy"
    max_epochs: int = 10
    batch_size: int = 512
    max_clicks: int | None = None
    samples: Literal["sessions", "prefixes"] | None = None
    lanes: int | None = None
    optimizer: OptimizerName | Callable[..., Any] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Schedule | Callable[..., Any] = "constant"
    warmup: int | float = 0
    gradient_clip: float | None = None
    accumulate: int = 1
    ema: float | None = None
    precision: Precision = "32"
    compile: bool = False
    monitor: str = "mrr@20"
    patience: int | None = 3
    exclude_seen: bool = False
    order: Literal["random", "time", "log"] = "random"
    seed: int = 0
    checkpoint_steps: int | None = None
    checkpoint_minutes: float | None = 10.0

    def __post_init__(self) -> None:
        as_loss(self.loss)  # whether there is such a loss
        for name, rule in RULES.items():
            object.__setattr__(self, name, rule.check(name, getattr(self, name)))
        ks_of(self.monitor)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """What can be set."""
        return tuple(field.name for field in fields(cls))

    def replace(self, **options: Any) -> TrainingSettings:
        """These settings with some of them changed.

        Raises:
            TypeError: If a setting has no such name.
            ValueError: If a value is out of range.
        """
        unknown = [name for name in options if name not in self.names()]
        if unknown:
            near = did_you_mean(unknown[0], self.names())
            raise TypeError(
                f"There is no setting {', '.join(map(repr, unknown))}; the settings of a training "
                f"are {', '.join(self.names())}{near}."
            )
        return dataclasses.replace(self, **options)

    but = old_name("TrainingSettings.but", replace)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON has them; a loss with arguments is a mapping of them."""
        content = {name: getattr(self, name) for name in self.names()}
        loss = as_loss(self.loss) if isinstance(self.loss, Mapping) else self.loss
        content["loss"] = loss_settings(loss)
        for name in ("optimizer", "schedule"):
            own = content[name]
            if not isinstance(own, str):
                place = own if hasattr(own, "__qualname__") else type(own)
                content[name] = f"{place.__module__}.{place.__qualname__}"
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingSettings:
        """The settings that :meth:`to_dict` gave; others have their defaults.

        Raises:
            ValueError: If it names an unknown setting, or a value is out of range.
        """
        loss = content.get("loss")
        try:
            if isinstance(loss, Mapping):
                content = {**content, "loss": as_loss(loss)}
            return cls().replace(**{str(name): value for name, value in content.items()})
        except TypeError as error:
            raise ValueError(str(error)) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the settings to a file, as JSON.

        Raises:
            OSError: If it cannot be written.
        """
        write_json(self.to_dict(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainingSettings:
        """The settings of a file, written by :meth:`save` or by hand.

        Raises:
            ValueError: If there is no such file, it is not JSON, or it has an unknown setting.
        """
        try:
            # Infinity and NaN are read, so that the rule of their setting is what refuses them.
            content = json.loads(read_bytes(path), object_pairs_hook=_each_once)
            if not isinstance(content, dict):
                raise ValueError(f"settings are a mapping of names to values, got {content!r}")
            return cls.from_dict(content)
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} holds no settings of a training: {error}") from error

    def __str__(self) -> str:
        """One line per setting."""
        width = max(map(len, self.names()))
        return "\n".join(f"{name:{width}}  {getattr(self, name)}" for name in self.names())


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} is there twice")
    return content


def ks_of(monitor: str) -> tuple[int, ...]:
    """The cut-offs that a validation needs to know a metric.

    Args:
        monitor: The metric.

    Raises:
        ValueError: If the metric is unknown.
    """
    if not isinstance(monitor, str):
        raise ValueError(f"monitor is text, 'hr@k', 'ndcg@k', 'mrr@k' or 'mrr', got {monitor!r}.")
    name, at, k = monitor.partition("@")
    if name not in ("hr", "ndcg", "mrr") or (
        not (k.isascii() and k.isdigit()) if at else name != "mrr"
    ):
        raise ValueError(f"monitor is 'hr@k', 'ndcg@k', 'mrr@k' or 'mrr', got {monitor!r}.")
    if k and (len(k) > 18 or int(k) < 1):
        raise ValueError(
            f"The cut-off of monitor must be at least 1 and below 10^18, got {monitor!r}."
        )
    return tuple(sorted({20, int(k or 20)}))
