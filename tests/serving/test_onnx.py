"""ONNX: the same items and scores as torch, for any number of sessions of any length."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import graphseq as gs
from graphseq.data.graphs.session_graph import build_session_graphs
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.models.use.inference import inference
from graphseq.serving import OnnxModel, export_onnx, model_version
from graphseq.serving.onnx.export import FromClicks

NUM_ITEMS = 30
MAX_LENGTH = 6
USERS = 4

SETTINGS = {
    "bert4rec": {"num_layers": 1},
    "bsarec": {"num_layers": 1},
    "bst": {"num_users": USERS, "heads": 2},
    "bst_ranker": {"heads": 2, "mlp_channels": (16, 8)},
    "caser": {"num_users": USERS},
    "core": {"num_layers": 1},
    "gcegnn": {},
    "gru4rec": {"num_layers": 2, "lower_channels": [6], "embedding": "separate"},
    "hgru4rec": {"variant": "all"},
    "hstu": {"num_layers": 1, "time": "none"},
    "sasrec": {"normalize": True},
    "sgnnhn": {},
    "srgnn": {"normalize": True},
    "tagnn": {},
    "with_features": {
        "base": "sasrec",
        "item_features": [{"name": "kind", "kind": "categorical", "size": 3}],
    },
    "with_repeats": {"base": "srgnn", "bonus": 0.7},
    "with_user": {"num_users": USERS, "base": "caser"},
}
"""Arguments of each family that learns by gradients, beside its sizes."""


def model_of(name: str, **arguments: object) -> gs.models.SessionModel:
    """A model of random weights; vectors are wide apart, so that scores differ."""
    torch.manual_seed(0)
    family = gs.models.MODELS[name]
    if name.startswith("with_"):
        inner = {"hidden_channels": 8, "max_length": MAX_LENGTH}
        model = family(NUM_ITEMS, **arguments, arguments=inner)
    else:
        cut = {} if name in ("gru4rec", "hgru4rec") else {"max_length": MAX_LENGTH}
        model = family(NUM_ITEMS, hidden_channels=8, **cut, **arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        if name == "with_features":
            kinds = pd.DataFrame({"kind": np.arange(NUM_ITEMS) % 4 - 1})
            vocabulary = Vocabulary.from_unique(pd.RangeIndex(NUM_ITEMS))
            counts = np.ones(NUM_ITEMS, dtype=np.int64)
            model.attach(Catalog(vocabulary, counts, item_features=kinds))
        if name == "gcegnn":
            model.neighbors.copy_(torch.randint(NUM_ITEMS, model.neighbors.shape))
            model.neighbor_weight.copy_(torch.rand(model.neighbor_weight.shape))
    return model.eval()


def sessions_of(lengths: list[int], seed: int) -> list[np.ndarray]:
    """Sessions in which items come back, and transitions, too."""
    rng = np.random.default_rng(seed)
    return [rng.integers(3 if length > 4 else NUM_ITEMS, size=length) for length in lengths]


def expected(
    model: gs.models.SessionModel, sessions: list[np.ndarray], **fields: np.ndarray
) -> torch.Tensor:
    """Scores of all items by torch."""
    ptr = torch.tensor([0, *np.cumsum([len(session) for session in sessions])])
    tensors = {name: torch.from_numpy(values) for name, values in fields.items()}
    user = {"user": tensors.pop("user")} if "user" in tensors else None
    batch = build_session_graphs(
        torch.from_numpy(np.concatenate(sessions)), ptr, click_fields=tensors, session_fields=user
    )
    with inference(model):
        return model.score(batch)


BATCHES = [[length] for length in range(1, MAX_LENGTH + 3)] + [
    [MAX_LENGTH] * 3,
    [1, 1],
    [2, 9, 1, MAX_LENGTH, 4, 3, 1],
]
"""Lengths of sessions: each alone, from one to beyond the longest; all of one; mixed."""


def check(model: gs.models.SessionModel, path: object, **fields: object) -> None:
    """The file gives what torch gives, in all batches."""
    served = OnnxModel(path)
    for seed, lengths in enumerate(BATCHES):
        sessions = sessions_of(lengths, seed)
        given = {name: make(lengths, seed) for name, make in fields.items()}
        assert sorted(given) == sorted(set(served.inputs) - {"items", "ptr"})
        items, scores = served.search(sessions, **given)
        exact = expected(model, sessions, **given)
        best = exact.topk(served.k).values.numpy()
        np.testing.assert_allclose(scores, best, atol=1e-4, rtol=1e-5)
        # The scores are those of the very items.
        np.testing.assert_allclose(
            exact.gather(1, torch.from_numpy(items)).numpy(), scores, atol=1e-4, rtol=1e-5
        )


def users(lengths: list[int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, USERS, size=len(lengths))


def times(lengths: list[int], seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).integers(0, 4_000, size=sum(lengths))).astype(
        float
    )


def test_settings_name_every_family_that_learns_by_gradients() -> None:
    learned = {name for name, family in gs.models.MODELS.items() if family.samples != "counts"}
    assert learned == {*SETTINGS, "lrurec"}


@pytest.mark.parametrize("name", SETTINGS)
def test_file_of_a_family_equals_torch_at_all_lengths_and_batch_sizes(name, tmp_path) -> None:
    model = model_of(name, **SETTINGS[name])
    path = export_onnx(model, tmp_path / "model.onnx", k=7)
    check(model, path, **({"user": users} if "num_users" in SETTINGS[name] else {}))


def test_file_reads_times_and_features_of_clicks_where_its_model_does(tmp_path) -> None:
    features = [
        {"name": "kind", "kind": "categorical", "size": 5},
        {"name": "price", "kind": "numeric", "boundaries": [1.0, 2.0]},
    ]
    model = model_of("bst", heads=2, positions="time", click_features=features)
    path = export_onnx(model, tmp_path / "model.onnx", k=NUM_ITEMS + 5)
    assert OnnxModel(path).k == NUM_ITEMS  # all there are

    def kinds(lengths: list[int], seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(-1, 5, size=sum(lengths))

    def prices(lengths: list[int], seed: int) -> np.ndarray:
        return np.random.default_rng(seed).choice([0.5, 1.0, 1.5, 2.0, 3.0, np.nan], sum(lengths))

    check(model, path, click_time=times, click_kind=kinds, click_price=prices)


@pytest.mark.parametrize("time", ["clicks", "request"])
def test_file_of_hstu_reads_times_where_it_was_trained_on_them(time, tmp_path) -> None:
    log = gs.Sessions.from_lists([[0, 1, 2], [3, 4]])
    timed = gs.Sessions(log.items, log.ptr, log.vocabulary, time=np.arange(5.0))
    model = model_of("hstu", num_layers=1, time=time)
    assert "click_time" not in FromClicks(model, 7).example()
    model.attach(None, log)
    check(model, export_onnx(model, tmp_path / "without.onnx", k=7))
    model.attach(None, timed)
    check(model, export_onnx(model, tmp_path / "with.onnx", k=7), click_time=times)


def test_file_of_eight_bits_is_smaller_and_finds_nearly_the_same(tmp_path) -> None:
    torch.manual_seed(0)
    model = gs.models.GRU4Rec(20_000, hidden_channels=32)
    exact = export_onnx(model, tmp_path / "exact.onnx")
    small = export_onnx(model, tmp_path / "small.onnx", precision="int8")
    assert small.stat().st_size < 0.62 * exact.stat().st_size
    rng = np.random.default_rng(0)
    sessions = [rng.integers(20_000, size=5) for _ in range(50)]
    (wanted, _), (found, scores) = (OnnxModel(p).search(sessions) for p in (exact, small))
    shared = [len(set(a) & set(b)) / 20 for a, b in zip(wanted, found, strict=True)]
    assert np.mean(shared) > 0.9
    assert (np.diff(scores) <= 0).all()


def test_file_says_of_what_it_is(tmp_path) -> None:
    model = model_of("gru4rec")
    served = OnnxModel(export_onnx(model, tmp_path / "model.onnx", k=3))
    assert repr(served) == f"OnnxModel(GRU4Rec, {NUM_ITEMS} items, k=3)"
    assert served.model_version == model_version(model)
    assert served.inputs == ["items", "ptr"]
    assert served.search([])[0].shape == (0, 3)
    with pytest.raises(ValueError, match=r"Session 1 has no click \(1 such"):
        served.search([[1], []])
    with pytest.raises(
        ValueError, match=r"Session 1 has the item 30, and codes of items are 0..29"
    ):
        served.search([[1], [2, 30]])
    with pytest.raises(ValueError, match="reads the fields of no name beside items, got"):
        served.search([[1]], user=[0])


def test_counting_families_are_refused_by_name_with_the_reason(tmp_path) -> None:
    with pytest.raises(ValueError, match="counts clicks and looks them up in lists"):
        export_onnx(gs.models.MODELS["markov"](5), tmp_path / "model.onnx")


def test_families_whose_steps_depend_on_lengths_are_refused_with_the_reason(tmp_path) -> None:
    with pytest.raises(ValueError, match="LRURec cannot be exported to ONNX: its scan takes as"):
        export_onnx(gs.models.LRURec(5, 4), tmp_path / "model.onnx")
    inner = gs.models.MODELS["with_user"](5, 2, "lrurec", arguments={"hidden_channels": 4})
    with pytest.raises(ValueError, match="LRURec cannot be exported to ONNX"):
        export_onnx(inner, tmp_path / "model.onnx")


def test_a_model_of_your_own_that_cannot_be_exported_is_refused_with_the_reason(tmp_path) -> None:
    class Walks(gs.models.SessionModel):
        def __init__(self, num_items: int) -> None:
            super().__init__(num_items)
            self.items = gs.nn.ItemTable(num_items, 4)

        def forward(self, batch):
            return torch.stack([self.items(batch.x[: int(n)]).sum(0) for n in batch.ptr[1:]])

    with pytest.raises(ValueError, match="Walks cannot be exported to ONNX: "):
        export_onnx(Walks(5), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_damaged_or_foreign_files_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="There is no file"):
        OnnxModel(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"bad\.onnx is damaged, or no ONNX model"):
        OnnxModel(tmp_path / "bad.onnx")


def test_missing_extra_names_the_command(tmp_path, monkeypatch) -> None:
    for library in ("onnx", "onnxruntime"):
        monkeypatch.setitem(__import__("sys").modules, library, None)
    wanted = r"pip install 'graphseq\[onnx\]'"
    with pytest.raises(ValueError, match=wanted):
        export_onnx(model_of("gru4rec"), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=wanted):
        OnnxModel(tmp_path / "model.onnx")
