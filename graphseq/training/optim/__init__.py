"""Optimizers for dense and row-sparse parameters, schedules, averages of weights."""
