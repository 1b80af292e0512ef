"""Readers of click logs of any kind, behind one function."""
