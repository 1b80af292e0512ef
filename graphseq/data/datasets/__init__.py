"""Data sets with a name: where they lie and how they are prepared."""
