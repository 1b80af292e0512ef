"""A text encoder as a recommender, tested with small stand-ins."""

import sys
import types
import zlib

import pytest
import torch

import graphseq as gs
from graphseq.serving import SentenceEncoder, TextRecommender

TITLES = {
    "w1": "red wolf",
    "w2": "wolf at night",
    "c1": "small cake",
    "c2": "cake and tea",
    "s1": "space ship",
    "s2": "ship of the line",
}


class Words(torch.nn.Module):
    """The mean of vectors of words."""

    def __init__(self, channels=16):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.EmbeddingBag(211, channels)

    def forward(self, texts):
        words = [[zlib.crc32(w.encode()) % 211 for w in t.replace(";", "").split()] for t in texts]
        starts = torch.tensor([0, *map(len, words)])[:-1].cumsum(0)
        return self.table(torch.tensor([w for each in words for w in each]), starts)


def built(**options):
    return TextRecommender(TITLES, Words(), **options)


def test_without_training_the_nearest_text_comes_first():
    found = built().recommend([["w1"], ["c2", "c1"]], k=2)
    assert found[0][0][0] == "w2"
    assert all(item not in ("c1", "c2") for item, _ in found[1])
    assert found[0][0][1] > found[0][1][1]


def test_training_learns_what_follows_though_no_word_is_shared():
    model = TextRecommender({"a": "red", "b": "green", "c": "blue", "d": "black"}, Words())
    losses = model.fit([["a", "b"], ["c", "d"]] * 8, epochs=20, batch_size=8, learning_rate=0.05)
    assert len(losses) == 20
    assert losses[-1] < losses[0] / 2
    (after_a,), (after_c,) = model.recommend([["a"], ["c"]], k=1)
    assert after_a[0] == "b"
    assert after_c[0] == "d"


def test_a_new_item_needs_its_title_alone():
    model = built()
    model.fit([["w1", "c1"], ["w2", "c2"]] * 8, epochs=20, batch_size=4, learning_rate=0.05)
    more = TextRecommender({**TITLES, "new": "wolf and cake and tea"}, model.encoder)
    assert "new" in {item for item, _ in more.recommend([["w2"]], k=3)[0]}


def test_same_seed_same_training():
    first, again, other = (built() for _ in range(3))
    sessions = [["w1", "c1", "s1"], ["w2", "c2"]] * 4
    losses = [
        m.fit(sessions, seed=s, batch_size=2) for m, s in ((first, 1), (again, 1), (other, 2))
    ]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(first.item_vectors(), again.item_vectors())


def test_sessions_and_unknown_items_are_read():
    log = gs.Sessions.from_lists([["w1", "nobody knows", "c1"], ["nobody knows"]])
    found = built().recommend(log, k=3)
    assert len(found[0]) == 3
    assert found[1] == []
    assert len(built().recommend([["w1"]], k=99)[0]) == 5


def test_only_the_newest_titles_are_read():
    short, whole = built(max_history=1), built()
    assert short.recommend([["s1", "w1"]], k=1)[0][0][1] == pytest.approx(
        whole.recommend([["w1"]], k=1)[0][0][1]
    )


def test_cosines_are_of_every_title_and_order_what_is_recommended():
    model = built(batch_size=2)
    found = model.cosines([["w1", "?"], ["c2", "c1"], ["s1"]])
    assert found.shape == (3, 6)
    assert found[0, 0] == pytest.approx(1.0)  # its own title
    assert torch.allclose(found, built().cosines([["w1"], ["c2", "c1"], ["s1"]]))
    names = list(TITLES)
    for row, own, best in zip(
        found, ([0], [2, 3], [4]), model.recommend([["w1"], ["c2", "c1"], ["s1"]], k=1), strict=True
    ):
        row[own] = -2
        assert names[int(row.argmax())] == best[0][0]
    assert model.cosines([]).shape == (0, 6)
    with pytest.raises(ValueError, match="History 1 has no item with a title"):
        model.cosines([["w1"], ["?"]])


@pytest.mark.parametrize("method", ["tokenize", "preprocess"])  # before 6, and from 6 on
def test_sentence_transformer_is_read_from_its_package(monkeypatch, method):
    class Standing(torch.nn.Module):
        def __init__(self, name, local_files_only):
            super().__init__()
            assert local_files_only
            if name != "small":
                raise OSError("no such weights")
            self.words = Words()

        def read(self, texts):
            lengths = torch.tensor([[float(len(text)), 1.0] for text in texts])
            return {"lengths": lengths, "modality": "text"}  # not all values are tensors

        def forward(self, features):
            assert features["modality"] == "text"
            return {"sentence_embedding": features["lengths"]}

    setattr(Standing, method, Standing.read)
    package = types.ModuleType("sentence_transformers")
    package.SentenceTransformer = Standing
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    assert SentenceEncoder("small")(["ab", "abc"]).tolist() == [[2.0, 1.0], [3.0, 1.0]]
    with pytest.raises(ValueError, match="weights of 'large' are not on this machine"):
        SentenceEncoder("large")


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModuleNotFoundError, match="pip install sentence-transformers"):
        SentenceEncoder("small")
    with pytest.raises(ValueError, match="needs the titles"):
        TextRecommender({}, Words())
    with pytest.raises(ValueError, match="No session has two items with a title"):
        built().fit([["w1", "?"], []])
    with pytest.raises(ValueError, match="temperature must be"):
        built().fit([["w1", "c1"]], temperature=0.0)
    with pytest.raises(ValueError, match="max_history"):
        built(max_history=0)
    with pytest.raises(TypeError, match=r"encoder is a torch\.nn\.Module from texts to vectors"):
        TextRecommender(TITLES, lambda texts: torch.ones(len(texts), 2))
    with pytest.raises(ValueError, match="Session 0 is a list of item ids"):
        built().recommend(["w1"])
    assert len(TextRecommender({**TITLES, "n": None}, Words()).item_vectors()) == 6
    wrong = TextRecommender(TITLES, torch.nn.Identity())
    with pytest.raises(ValueError, match=r"must give \[6, d\] for 6 texts, got list"):
        wrong.recommend([["w1"]])
