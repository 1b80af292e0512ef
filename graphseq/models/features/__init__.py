"""Families that read features of clicks, items and users."""
