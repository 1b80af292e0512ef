"""Splits into training, validation and test parts."""

from graphseq.deprecation import old_names

__getattr__ = old_names(
    __name__, {"*": "graphseq.data.splits.splits"}
)  # this package was that module
