"""Converts weights of the authors' code to arguments and weights of the families here."""
