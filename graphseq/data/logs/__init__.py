"""Logs of any kind that people hold, read through one door."""
