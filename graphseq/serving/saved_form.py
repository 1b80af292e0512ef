"""What a folder with a saved recommender holds."""

from __future__ import annotations

from graphseq.data.storage import FolderKind
from graphseq.data.storage.rules import (
    absent_or,
    flag,
    list_of,
    number,
    optional,
    record,
    text,
    whole,
)
from graphseq.models.use.persistence import MODEL
from graphseq.serving.indexes import INDEX

RECOMMENDER = FolderKind(
    format="graphseq.recommender",
    version=1,
    header="recommender.json",
    holds="saved recommender",
    made_by="Recommender.save",
    rules={
        "model_version": text(),
        "index": flag(),
        "reranker": flag(),
        "weights": list_of(number()),
        "place_weight": absent_or(number(0)),  # not in older folders
        "diversity": number(0, 1),
        "candidates": whole(1),
        "rules": flag(),
        "filtered": flag(),
        "cache": optional(record({"max_answers": whole(1), "seconds": number(0)})),
    },
    within=(MODEL, INDEX),
)
