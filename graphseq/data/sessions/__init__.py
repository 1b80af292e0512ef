"""Sessions: ragged clicks with the vocabularies and the catalog that name them."""

from graphseq.deprecation import old_names

__getattr__ = old_names(
    __name__, {"*": "graphseq.data.sessions.sessions"}
)  # this package was that module
