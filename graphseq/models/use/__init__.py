"""Functions that use a model: recommend, save and load, grow, suggest."""
