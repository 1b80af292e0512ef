"""Counting families: popularity, Markov chains, rules, nearest neighbors."""

from graphseq.deprecation import old_names

__getattr__ = old_names(
    __name__, {"*": "graphseq.models.counting.counting"}
)  # this package was that module
