"""Readers of published file formats, which return Sessions."""
