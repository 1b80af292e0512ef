"""Negative items: drawn, the hardest of a pool, those that a session holds."""
