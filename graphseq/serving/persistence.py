"""A recommender in a folder: its models, its index and its settings, and never a pickled object."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from graphseq.data.storage import open_folder
from graphseq.models.base import SessionModel
from graphseq.models.use.persistence import MODEL
from graphseq.models.use.persistence import load as load_model
from graphseq.serving.cache import AnswerCache
from graphseq.serving.indexes import load_index
from graphseq.serving.recommender import Recommender
from graphseq.serving.saved_form import RECOMMENDER
from graphseq.serving.stages import Rules


def load_recommender(folder: str | PathLike[str], *, rules: Rules | None = None) -> Recommender:
    """The recommender that :meth:`Recommender.save` wrote: the same answers. On the CPU.

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
            place_weight=header.get("place_weight", 0.0),
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


def checksum_in(folder: str | PathLike[str]) -> str:
    """Checksum of the model or the recommender in a folder: another after any change of it.

    It covers filters, stages and delisted items, which the version of the model does not.

    Raises:
        ValueError: If the folder holds neither.
    """
    whole = os.path.lexists(Path(folder) / RECOMMENDER.header)
    with open_folder(folder, RECOMMENDER if whole else MODEL, verify=False) as opened:
        return str(opened.header["checksum"])


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
    if os.path.lexists(Path(folder) / "model" / MODEL.header):
        raise ValueError(
            f"{Path(folder) / RECOMMENDER.header} is missing: restore it, or make the folder again "
            "with Recommender.save."
        )
    return load_model(folder, **options)
