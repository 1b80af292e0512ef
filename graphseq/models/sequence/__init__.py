"""Families that read the clicks of a session in order."""
