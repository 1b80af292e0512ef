"""Families that pass messages over session graphs."""
