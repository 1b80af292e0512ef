"""Vectors of texts: the mean of word vectors, of length one."""

import re
import sys
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import graphseq as gs
from graphseq.data import hashed_text_vectors, text_vectors


def test_vectors_have_length_one_and_missing_texts_are_zero():
    found = text_vectors(["Toy Story", None, "", float("nan"), "Jaws"], channels=64)
    assert found.shape == (5, 64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 0, 0, 0, 1], atol=1e-6)


def test_a_text_is_the_mean_of_its_words_in_any_batch():
    alone = [text_vectors([text])[0] for text in ("blue coat", "red dress, long", "coat")]
    together = text_vectors(["blue coat", "red dress, long", "coat"])
    np.testing.assert_allclose(np.stack(alone), together, atol=1e-6)
    blue, coat, both = text_vectors(["blue", "coat", "blue coat"], channels=256)
    assert both @ blue > coat @ blue


def test_titles_of_like_things_are_near():
    spring, autumn, engine = text_vectors(["spring jacket", "autumn coat", "diesel engine"])
    assert spring @ autumn > spring @ engine


def test_no_text_gives_no_row():
    assert text_vectors([], channels=8).shape == (0, 8)


def test_bad_input_is_named(monkeypatch):
    with pytest.raises(ValueError, match="at most 256"):
        text_vectors(["a"], channels=300)
    with pytest.raises(ValueError, match="channels must be at least 1"):
        text_vectors(["a"], channels=0)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'graphseq\[language\]'"):
        text_vectors(["a"])


def test_hashed_vectors_are_signed_counts_of_words_in_buckets():
    texts = ["Red shoe, red", "blue", None, "", float("nan"), "été-red", 7]
    found = hashed_text_vectors(texts, channels=8)
    for text, vector in zip(texts, found, strict=True):
        expected = np.zeros(8)
        missing = text is None or text != text
        for word in [] if missing else re.findall(r"\w+", str(text).lower()):
            digest = zlib.crc32(word.encode())
            expected[(digest >> 1) % 8] += -1 if digest % 2 else 1
        length = np.linalg.norm(expected)
        np.testing.assert_allclose(vector, expected / (length or 1), atol=1e-6)
    assert found.dtype == np.float32
    assert hashed_text_vectors([], channels=8).shape == (0, 8)
    assert hashed_text_vectors([None], channels=8).tolist() == [[0] * 8]
    titles = pd.Series([None, "sea"], dtype="string")  # its missing value is pandas' own
    assert hashed_text_vectors(titles, channels=8).any(axis=1).tolist() == [False, True]


def test_hashed_vectors_recommend_a_new_item_by_its_text():
    titles = ["red shoe", "blue shoe", "deep sea", "sea food"]
    log = gs.Sessions.from_lists([[0, 1], [2, 3], [0, 1]])
    log = replace(log, item_features=pd.DataFrame({"text": list(hashed_text_vectors(titles))}))
    model = gs.models.ContentKNN(4, gs.data.feature_specs(log, item=["text"])["item_features"])
    gs.fit(model, log)
    assert model.recommend([[2]], k=1, exclude=[2])[0][0][0] == 3


@pytest.mark.parametrize("vectors", [text_vectors, hashed_text_vectors])
def test_one_text_is_no_list_of_texts(vectors):
    with pytest.raises(ValueError, match="texts are one per item, got the single text 'Jaws'"):
        vectors("Jaws")
    with pytest.raises(ValueError, match="channels must be at least 1"):
        vectors(["Jaws"], 0)
