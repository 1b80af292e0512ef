"""Weights of the authors' code, read as arguments and weights of the families here."""
