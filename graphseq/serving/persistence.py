"""A recommender in a folder: its models, its index and its settings, and never a pickled object."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from graphseq.data.storage import FolderKind, open_folder, write_folder
from graphseq.data.storage.rules import flag, list_of, number, optional, record, text, whole
from graphseq.models.base import SessionModel
from graphseq.models.use.persistence import MODEL
from graphseq.models.use.persistence import load as load_model
from graphseq.serving.cache import AnswerCache
from graphseq.serving.indexes import INDEX, load_index
from graphseq.serving.item_vectors import model_version
from graphseq.serving.recommender import Recommender
from graphseq.serving.stages import Rules

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
        "diversity": number(0, 1),
        "candidates": whole(1),
        "rules": flag(),
        "filtered": flag(),
        "cache": optional(record({"max_answers": whole(1), "seconds": number(0)})),
    },
    within=(MODEL, INDEX),
)


def save(recommender: Recommender, folder: str | PathLike[str]) -> None:
    """Writes a recommender to a folder, from which :func:`load` makes it again, on any machine.

    The folder holds a folder for the model, each retriever, the reranker and the index, all with
    checksums, and takes its name in one step. Cached answers are not kept; ``rules`` is code, which
    no folder holds.

    Args:
        recommender: Any.
        folder: The folder to make, or one that holds a saved recommender and nothing else.

    Raises:
        ValueError: If the folder holds anything else, or a model cannot be saved.
    """
    cache = recommender.cache
    with write_folder(folder, RECOMMENDER) as out:
        out.content = {
            "model_version": model_version(recommender.model),
            "index": recommender.index is not None,
            "reranker": recommender.reranker is not None,
            "weights": [float(weight) for weight in recommender.weights],
            "diversity": recommender.diversity,
            "candidates": recommender.candidates,
            "rules": recommender.rules is not None,
            "filtered": recommender.servable is not None,
            "cache": None
            if cache is None
            else {"max_answers": cache.max_answers, "seconds": cache.seconds},
        }
        if recommender.servable is not None:
            out.write_array("servable", recommender.servable)
        models = {"model": recommender.model}
        models |= {f"retriever_{n}": each for n, each in enumerate(recommender.retrievers)}
        if recommender.reranker is not None:
            models["reranker"] = recommender.reranker
        for name, model in models.items():
            model.save(out.path / name)
            out.add_folder(name, MODEL)
        if recommender.index is not None:
            recommender.index.save(out.path / "index")
            out.add_folder("index", INDEX)


def load_recommender(folder: str | PathLike[str], *, rules: Rules | None = None) -> Recommender:
    """The recommender that :func:`save` wrote: the same answers. On the CPU.

    Args:
        folder: The folder.
        rules: The function it was saved with, if it had one.

    Raises:
        ValueError: If the folder holds no saved recommender, a file is damaged or of another
            version, a library is missing, or its rules are not given.
    """
    with open_folder(folder, RECOMMENDER) as opened:
        header = opened.header
        folders = header["folders"]
        if header["rules"] and rules is None:
            raise ValueError(
                f"{folder} was saved with rules, which are code: give the function to "
                "load_recommender(folder, rules=...)."
            )

        def part(name: str) -> SessionModel:
            if name not in folders:
                raise ValueError(f"{opened.path / RECOMMENDER.header} lacks the folder {name}.")
            return load_model(opened.path / name, expected=folders[name])

        model = part("model")
        index = None
        if header["index"]:
            index = load_index(opened.path / "index", expected=folders.get("index"))
        kept = header["cache"]
        recommender = Recommender(
            model,
            index=index,
            retrievers=[part(f"retriever_{n}") for n in range(len(header["weights"]) - 1)],
            weights=header["weights"],
            reranker=part("reranker") if header["reranker"] else None,
            diversity=header["diversity"],
            rules=rules,
            cache=None if kept is None else AnswerCache(**kept),
            candidates=header["candidates"],
        )
        if recommender.version != header["model_version"]:
            raise ValueError(
                f"{folder} was saved with model version {header['model_version']}, its model is "
                f"version {recommender.version}: save it again."
            )
        if header["filtered"]:
            recommender.servable = np.array(opened.array("servable", np.bool_))
    return recommender


def load(folder: str | PathLike[str], **options: Any) -> Any:
    """The model or the recommender in a folder, by what was saved there.

    Args:
        folder: The folder.
        **options: ``rules`` of a recommender; ``model_class`` and ``verify`` of a model, as
            :func:`graphseq.models.use.persistence.load` takes them.

    Raises:
        ValueError: If it holds neither, or is damaged.
    """
    if os.path.lexists(Path(folder) / RECOMMENDER.header):
        return load_recommender(folder, **options)
    return load_model(folder, **options)
