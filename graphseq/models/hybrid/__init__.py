"""Families that join several sources: other models, features of items, factors of a matrix."""
