"""What uses a model: recommend, save and load, grow, suggest."""
