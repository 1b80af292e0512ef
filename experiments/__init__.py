"""Runnable studies: each reads arguments, calls graphseq, writes a table, a plot and their JSON."""
