"""Checks for a model of your own: all that the families of this package are asked."""

from graphseq.testing.check_model import ModelCheck, check_model, model_checks
from graphseq.testing.checks import ModelCheckError

__all__ = ["ModelCheck", "ModelCheckError", "check_model", "model_checks"]
