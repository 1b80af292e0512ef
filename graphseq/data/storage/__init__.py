"""File formats of graphseq; damaged files raise errors and are never read silently."""

from graphseq.data.storage.arrays import ArrayFile
from graphseq.data.storage.files import read_file, write_file
from graphseq.data.storage.folders import (
    Folder,
    FolderKind,
    FolderWriter,
    check_replaceable,
    fill_folder,
    open_folder,
    write_folder,
)
from graphseq.data.storage.ids import check_ids_can_be_saved
from graphseq.data.storage.sessions import (
    SESSIONS,
    as_saved,
    describe_sessions,
    open_sessions,
    save_sessions,
)

__all__ = [
    "SESSIONS",
    "ArrayFile",
    "Folder",
    "FolderKind",
    "FolderWriter",
    "as_saved",
    "check_ids_can_be_saved",
    "check_replaceable",
    "describe_sessions",
    "fill_folder",
    "open_folder",
    "open_sessions",
    "read_file",
    "save_sessions",
    "write_file",
    "write_folder",
]
