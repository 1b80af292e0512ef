"""Vectors of texts, such as titles: by hashing, or from the word vectors of a package."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.sparse import csr_matrix

from graphseq.arguments import whole

TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
WEIGHTS = "weights/l2_supercat_256.safetensors"


WORD = re.compile(r"\w+")


def hashed_text_vectors(texts: Iterable[Any], channels: int = 256) -> NDArray[np.float32]:
    r"""Counts of the words of each text, in buckets by a hash (Weinberger et al., ICML 2009).

    .. math::
        v_c = \sum_{\text{words } w,\; h(w) = c} \pm_w 1

    then scaled to length one. Words compare without case. It needs no package, no weights and no
    vocabulary, so that texts of new items have vectors too; the hash is the same on every machine.

    Args:
        texts: One text per item; a missing one (``None``, NaN or empty) gets zeros.
        channels: Number of buckets, the length of a vector. Words share buckets where there are
            more distinct words than buckets.

    Returns:
        float32 [num_texts, channels]. As a column of ``item_features``, ``list(vectors)`` is a
        feature of the kind ``"vector"``.

    Raises:
        ValueError: If ``channels`` is not positive, or ``texts`` is one text.

    Example:
        >>> red, green, sea = hashed_text_vectors(["red shoe", "Green shoe", "the deep sea"])
        >>> round(float(red @ green), 3), round(float(red @ sea), 3)
        (0.5, 0.0)
    """
    channels = whole("channels", channels)
    words = [WORD.findall(text.casefold()) for text in _known(texts)]
    row = np.repeat(np.arange(len(words)), [len(each) for each in words])
    place, distinct = pd.factorize(np.array([w for each in words for w in each], dtype=object))
    digest = np.array([zlib.crc32(str(word).encode()) for word in distinct], dtype=np.int64)
    sign = 1.0 - 2.0 * (digest & 1)
    cells = (row, ((digest >> 1) % channels)[place])
    counts = csr_matrix((sign[place], cells), (len(words), channels)).toarray()
    return _of_length_one(counts.astype(np.float32))


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
        ValueError: If ``channels`` is outside 1 to 256, or ``texts`` is one text.

    Example:
        >>> toys, again, shark = text_vectors(["Toy Story", "Toy Story 2", "Jaws"])
        >>> bool(toys @ again > 0.8 > toys @ shark)
        True
    """
    channels = whole("channels", channels)
    if channels > 256:
        raise ValueError(f"channels is at most 256, the width of the word vectors, got {channels}.")
    folder, tokenizer = _files()
    known = _known(texts)
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
    return _of_length_one(out)


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


def _known(texts: Iterable[Any]) -> list[str]:
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"texts are one per item, got the single text {texts!r:.60}.")
    return ["" if _is_missing(text) else str(text) for text in texts]


def _of_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, size, out=vectors, where=size > 0)


def _is_missing(text: Any) -> bool:
    return text is None or bool(pd.api.types.is_scalar(text) and pd.isna(text))
