"""Opens logs of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import PathLike

from graphseq.data.logs.json_lines import JsonLog
from graphseq.data.logs.memory import MemoryLog
from graphseq.data.logs.parquet import ParquetLog
from graphseq.data.logs.paths import LogFile, files_of
from graphseq.data.logs.source import Log, LogOptions, LogSource
from graphseq.data.logs.text import TextLog


def open_log(log: Log, options: LogOptions | None = None) -> LogSource:
    """Opens a log of any kind.

    Args:
        log: See :data:`~graphseq.data.logs.source.Log`.
        options: How it is read.

    Raises:
        ValueError: If it is not a log, or there is no log at its path.
    """
    if isinstance(log, LogSource):
        return log
    options = LogOptions() if options is None else options
    if hasattr(log, "readline"):
        raise ValueError(f"An open file ({type(log).__name__}) is not a log: pass its path.")
    if isinstance(log, Iterator) and not hasattr(log, "__arrow_c_stream__"):
        log = list(log)  # an iterator can be read only once, a list more often
    paths = [log] if isinstance(log, (str, PathLike)) else log
    if (
        isinstance(paths, (list, tuple))
        and paths
        and all(isinstance(path, (str, PathLike)) for path in paths)
    ):
        files = files_of(paths)
        kinds: dict[str, Callable[[list[LogFile], LogOptions], LogSource]] = {
            "text": TextLog,
            "json": JsonLog,
            "parquet": ParquetLog,
        }
        return kinds[files[0].kind](files, options)
    return MemoryLog(log, options)
