"""One checker for all models: the models of this package and your own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from graphseq.models.base import SessionModel
from graphseq.testing.checks import CHECKS, Check, ModelCheckError
from graphseq.testing.subject import Subject


@dataclass(frozen=True)
class ModelCheck:
    """One check of one model; a call raises :class:`ModelCheckError` or returns nothing.

    Args:
        name: Name of the check.
        asks: What it requires of a model, in one sentence.
        subject: The model.
        check: The check.
    """

    name: str
    asks: str
    subject: Subject
    check: Check

    def __call__(self) -> None:
        try:
            self.check(self.subject)
        except ModelCheckError:
            raise
        except Exception as error:
            message = str(error).strip().split("\n")[0]
            raise ModelCheckError(
                f"{self.subject.name} fails the check {self.name!r} ({self.asks}): "
                f"{type(error).__name__}: {message}"
            ) from error

    def __str__(self) -> str:
        return self.name


def model_checks(
    model: type[SessionModel] | Callable[[int], SessionModel],
    *,
    leave_out: Collection[str] = (),
    **arguments: Any,
) -> list[ModelCheck]:
    """The checks of a model as callables, so that each can be a separate test.

    Args:
        model: A class, built as ``model(num_items, **arguments)``, or a function of ``num_items``
            that builds one.
        leave_out: Names of checks to skip, such as ``"item_codes"`` for a model that uses item
            codes as numbers.
        **arguments: Further arguments of the class.

    Raises:
        ValueError: If ``model`` does not build a model, or a check does not exist.

    Example:
        >>> import graphseq as gs
        >>> checks = gs.testing.model_checks(gs.models.SRGNN, hidden_channels=8)
        >>> checks[0].name
        'declarations'
        >>> # @pytest.mark.parametrize("check", checks, ids=str)
        >>> # def test_my_model(check): check()
    """
    unknown = sorted(set(leave_out) - set(CHECKS))
    if unknown:
        raise ValueError(f"There is no check {unknown[0]!r}: the checks are {', '.join(CHECKS)}.")
    subject = Subject(model, arguments)
    return [
        ModelCheck(name, (check.__doc__ or "").split("\n")[0].rstrip("."), subject, check)
        for name, check in CHECKS.items()
        if name not in leave_out
    ]


def check_model(
    model: type[SessionModel] | Callable[[int], SessionModel],
    *,
    leave_out: Collection[str] = (),
    **arguments: Any,
) -> list[str]:
    """Runs all checks on a model, and raises the first failure.

    The checks go from simple to complex, so that the first failure is the most informative.

    Args:
        model, leave_out, arguments: As in :func:`model_checks`.

    Returns:
        The names of the checks, all passed.

    Raises:
        ModelCheckError: With one sentence that states what the model does wrong.
        ValueError: If ``model`` does not build a model, or a check does not exist.

    Example:
        >>> import graphseq as gs
        >>> "save_and_load" in gs.testing.check_model(gs.models.Popularity)
        True
    """
    checks = model_checks(model, leave_out=leave_out, **arguments)
    for check in checks:
        check()
    return [check.name for check in checks]
