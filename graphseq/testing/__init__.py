"""Checks for your own model: the same that every model of this package must pass."""

from graphseq.testing.check_model import ModelCheck, check_model, model_checks
from graphseq.testing.checks import ModelCheckError

__all__ = ["ModelCheck", "ModelCheckError", "check_model", "model_checks"]
