"""Shared by the studies: arguments and output, tables of the docs, the picture, file layouts."""
