"""Checks for a model of your own: all that the families of this package are asked."""

from graphseq.testing.check_model import (
    ModelCheck,
    ModelCheckError,
    check_model,
    model_checks,
)

__all__ = ["ModelCheck", "ModelCheckError", "check_model", "model_checks"]
