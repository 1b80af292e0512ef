"""Session-based and sequential recommendation on PyTorch Geometric: a session is a graph."""

__version__ = "0.1.0"
