"""Negative items: drawn ones, the hardest of a pool, and the items that a session holds."""

from graphseq.deprecation import old_names

__getattr__ = old_names(
    __name__, {"*": "graphseq.training.negatives.sampler"}
)  # this package was that module
