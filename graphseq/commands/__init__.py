"""The command line ``graphseq``: the main job on a data set with a name or a log of your own."""

from graphseq.commands.command_line import main

__all__ = ["main"]
