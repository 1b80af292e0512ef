"""Formats of published files, each read into Sessions."""
