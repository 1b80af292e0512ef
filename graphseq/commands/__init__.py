"""The command line ``graphseq``: the main tasks on a named data set or on your own log."""

from graphseq.commands.command_line import main

__all__ = ["main"]
