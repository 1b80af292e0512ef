"""Vectors of texts: the mean of word vectors, of length one."""

import sys

import numpy as np
import pytest

from graphseq.data import text_vectors


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
