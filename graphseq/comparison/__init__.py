"""Compares models on one split, with intervals and tests, and searches settings."""

from graphseq.comparison.choice import choose
from graphseq.comparison.compare import compare
from graphseq.comparison.comparison import Comparison
from graphseq.comparison.entries import Entry, entries_of, entry_of
from graphseq.comparison.measured import measured_suggestion
from graphseq.comparison.settings_file import Settings, settings_of
from graphseq.comparison.space import Space
from graphseq.comparison.tuning import Tuning, tune

__all__ = [
    "Comparison",
    "Entry",
    "Settings",
    "Space",
    "Tuning",
    "choose",
    "compare",
    "entries_of",
    "entry_of",
    "measured_suggestion",
    "settings_of",
    "tune",
]
