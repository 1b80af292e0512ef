"""Vectors of texts, such as titles, from the word vectors of a package."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from graphseq.arguments import whole

TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
WEIGHTS = "weights/l2_supercat_256.safetensors"


def text_vectors(texts: Iterable[Any], channels: int = 128) -> NDArray[np.float32]:
    """The normalized mean of the word vectors of each text.

    The vectors come with the package WordLlama (MIT license): ``pip install 'graphseq[language]'``.
    Only its two files are read. Their first ``channels`` numbers are trained to represent the whole
    vector (Matryoshka representations).

    Args:
        texts: One text per item; a missing one (``None``, NaN or empty) gets zeros.
        channels: Length of a vector, 1 to 256.

    Returns:
        float32 [num_texts, channels]. As a column of ``item_features``, ``list(vectors)`` is a
        feature of the kind ``"vector"``.

    Raises:
        ModuleNotFoundError: If the packages are not installed.
        ValueError: If ``channels`` is outside 1 to 256.

    Example:
        >>> toys, again, shark = text_vectors(["Toy Story", "Toy Story 2", "Jaws"])
        >>> bool(toys @ again > 0.8 > toys @ shark)
        True
    """
    channels = whole("channels", channels)
    if channels > 256:
        raise ValueError(f"channels is at most 256, the width of the word vectors, got {channels}.")
    folder, tokenizer = _files()
    known = ["" if _is_missing(text) else str(text) for text in texts]
    coded = [found.ids for found in tokenizer.encode_batch(known, add_special_tokens=False)]
    lengths = np.array([len(ids) for ids in coded], dtype=np.int64)
    out = np.zeros((len(known), channels), dtype=np.float32)
    if lengths.sum() == 0:
        return out
    table = load_file(folder / WEIGHTS)["embedding.weight"][:, :channels].astype(np.float32)
    words = table[np.concatenate([np.array(ids, dtype=np.int64) for ids in coded])]
    told = lengths > 0
    starts = (np.cumsum(lengths) - lengths)[told]
    out[told] = np.add.reduceat(words, starts, axis=0) / lengths[told, None]
    size = np.linalg.norm(out, axis=1, keepdims=True)
    return np.divide(out, size, out=out, where=size > 0)


def _files() -> tuple[Path, Any]:
    try:
        from tokenizers import Tokenizer

        spec = find_spec("wordllama")  # its code is not imported: it would look for a network
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "text_vectors needs wordllama and tokenizers, which are not installed: "
            "pip install 'graphseq[language]'."
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder, Tokenizer.from_file(str(folder / TOKENIZER))


def _is_missing(text: Any) -> bool:
    return text is None or text != text  # NaN differs from itself
