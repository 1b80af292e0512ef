"""Classes and callers of the interface before 0.2: they work as before, and a warning says how."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Embedding, Parameter
from torch_geometric.data import Batch
from torch_geometric.utils import scatter

import graphseq as gs
from graphseq.models.base import SessionModel
from graphseq.nn.item_table import ItemTable

NUM_ITEMS = 9
LOG = gs.Sessions.from_lists(
    [[(start + i) % NUM_ITEMS for i in range(2 + start % 4)] for start in range(30)]
)


@pytest.fixture(autouse=True)
def _errors() -> Iterator[None]:
    """Warnings that a test does not expect are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        yield


class Now(SessionModel):
    """The mean embedding of the clicked items, in the interface of now."""

    def __init__(self, num_items: int, channels: int = 4) -> None:
        super().__init__(num_items)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.items = ItemTable(num_items, channels, bias=True)
            torch.nn.init.normal_(self.items.weight)
            torch.nn.init.normal_(self.items.bias)  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> Tensor:
        return scatter(self.items(batch.click_item), batch.click_batch, reduce="mean")


with pytest.warns(DeprecationWarning, match=r"Then\.item_weight is now") as at_the_class:

    class Then(SessionModel):
        """The same in the old interface."""

        def __init__(self, num_items: int, channels: int = 4) -> None:
            super().__init__(num_items)
            now = Now(num_items, channels)
            self.table = Embedding(num_items, channels)
            self.table.weight = Parameter(now.items.weight.detach().clone())
            self.bias = Parameter(now.items.bias.detach().clone())  # type: ignore[union-attr]

        def item_weight(self) -> Tensor:
            return self.table.weight

        def item_bias(self) -> Tensor:
            return self.bias

        def forward(self, batch: Batch) -> Tensor:
            return scatter(self.table(batch.click_item), batch.click_batch, reduce="mean")


def batch_of(samples: str = "prefixes") -> Batch:
    return gs.SessionGraphDataset(LOG, samples).batch(np.arange(5))  # type: ignore[arg-type]


def test_class_that_overrides_old_methods_is_told_what_stands_in_their_place() -> None:
    assert sorted(str(each.message).partition(";")[0] for each in at_the_class) == [
        "Then.item_bias is now items = gs.nn.ItemTable(...)",
        "Then.item_weight is now items = gs.nn.ItemTable(...)",
    ]


def test_old_class_scores_and_ranks_as_the_new_one() -> None:
    now, then, batch = Now(NUM_ITEMS), Then(NUM_ITEMS), batch_of()
    assert torch.equal(then.score(batch), now.score(batch))
    some, each = torch.tensor([3, 0]), torch.arange(10).view(5, 2) % NUM_ITEMS
    for items in (some, each):
        torch.testing.assert_close(then.score(batch, items), now.score(batch, items))
    one, other = (gs.evaluate(model, LOG).ranks["better"] for model in (then, now))
    assert one.equals(other)
    assert then.recommend([[1, 2]], k=3) == now.recommend([[1, 2]], k=3)


@pytest.mark.parametrize("loss", ["cross_entropy", "sampled_softmax"])
def test_old_class_trains_to_the_same_weights(loss: str) -> None:
    now, then = Now(NUM_ITEMS), Then(NUM_ITEMS)
    for model in (now, then):
        gs.fit(model, LOG, loss=loss, max_epochs=1, batch_size=8, progress=False)
    torch.testing.assert_close(then.table.weight, now.items.weight)
    torch.testing.assert_close(then.bias, now.items.bias)


def test_old_calls_of_a_new_model_give_its_table_with_a_warning() -> None:
    model, batch = Now(NUM_ITEMS), batch_of()
    items = torch.tensor([4, 1])
    vectors = model(batch)
    with pytest.warns(DeprecationWarning, match=r"Now\.item_weight\(\) is now Now\.items"):
        assert torch.equal(model.item_weight(), model.items.weight)
    with pytest.warns(DeprecationWarning, match=r"Now\.item_rows\(\) is now Now\.items"):
        assert torch.equal(model.item_rows(items), model.items.weight[items])
    with pytest.warns(DeprecationWarning, match=r"Now\.item_bias\(\) is now Now\.items"):
        assert model.item_bias() is model.items.bias
    for asked in (None, items, torch.arange(10).view(5, 2) % NUM_ITEMS):
        with pytest.warns(DeprecationWarning, match=r"is now Now\.items"):
            found = model.score_vectors(vectors, asked)
        torch.testing.assert_close(found, model.items.scores(vectors, asked))
    with pytest.warns(DeprecationWarning, match=r"Now\.training_vectors is now Now\.training_row"):
        found, targets = model.training_vectors(batch, torch.Generator())
    assert torch.equal(found, vectors)
    assert torch.equal(targets, batch.y)


def old_training(vectors_of: Any, samples: str = "sessions") -> Any:
    with pytest.warns(DeprecationWarning, match=r"training_rows\(batch, generator\)"):
        return type(
            "Trained",
            (Now,),
            {
                "samples": samples,
                "training_vectors": lambda self, batch, _: (vectors_of(self, batch), batch.y),
                "click_states": lambda self, batch: self.items(batch.click_item),
            },
        )


def test_old_training_vectors_are_rows_of_clicks_or_of_sessions() -> None:
    by_click = old_training(lambda model, batch: model.items(batch.click_item))
    batch = batch_of("sessions")
    rows = by_click(NUM_ITEMS).training_rows(batch, torch.Generator())
    assert torch.equal(rows.vectors, by_click(NUM_ITEMS).items(batch.click_item))
    assert torch.equal(rows.session, batch.click_batch)
    by_session = old_training(lambda model, batch: model(batch), "prefixes")
    batch = batch_of()
    rows = by_session(NUM_ITEMS).training_rows(batch, torch.Generator())
    assert torch.equal(rows.vectors, Now(NUM_ITEMS)(batch))
    assert rows.session.tolist() == [0, 1, 2, 3, 4]
    odd = old_training(lambda model, batch: model(batch)[:3], "prefixes")
    with pytest.raises(ValueError, match=r"trains on 3 vectors for 5 sessions of \d+ clicks"):
        odd(NUM_ITEMS).training_rows(batch, torch.Generator())


def test_old_prepare_gets_the_training_sessions_once_after_the_catalog() -> None:
    calls: list[Any] = []

    def attach(self: Any, catalog: Any) -> None:
        SessionModel.attach(self, catalog)
        calls.append(("attach", self.catalog.num_items))

    def prepare(self: Any, sessions: Any) -> None:
        calls.append(("prepare", sessions.num_sessions))

    with pytest.warns(DeprecationWarning, match=r"Old\.prepare is now attach\(catalog, sessions\)"):
        old = type("Old", (Now,), {"attach": attach, "prepare": prepare})
    model = old(NUM_ITEMS)
    gs.fit(model, LOG, max_epochs=1, progress=False)
    assert calls == [("attach", NUM_ITEMS), ("prepare", 30)]
    model.attach(LOG.catalog())  # without sessions there is nothing to be prepared for
    assert calls[2:] == [("attach", NUM_ITEMS)]
    with pytest.warns(DeprecationWarning, match=r"Now\.prepare\(sessions\) is now Now\.attach"):
        Now(NUM_ITEMS).prepare(LOG)


def test_old_class_with_scores_of_its_own_is_not_ranked_by_its_table() -> None:
    with pytest.warns(DeprecationWarning, match=r"Flipped\.score_vectors is now items"):

        class Flipped(Now):
            def score_vectors(self, vectors: Tensor, items: Tensor | None = None) -> Tensor:
                return -ItemTable.scores(self._modules["items"], vectors, items)  # type: ignore[arg-type]

    assert not Flipped.scores_by_table
    flipped, plain = (gs.evaluate(m(NUM_ITEMS), LOG).ranks["better"] for m in (Flipped, Now))
    assert flipped.equals(NUM_ITEMS - 1 - plain)
