"""A class registers itself from any module, and all of graphseq knows its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

import graphseq as gs
from graphseq.models import MODELS, SessionModel, register
from graphseq.models.registry import name_of


@pytest.fixture
def own() -> Iterator[type[SessionModel]]:
    @register("nearest_code")
    class NearestCode(SessionModel):
        """Scores items by how near their code is to that of the last click."""

        samples = "counts"

        def __init__(self, num_items: int, power: float = 1.0) -> None:
            super().__init__(num_items)
            self.exponent = power

        def score(self, batch: Batch, items: Tensor | None = None) -> Tensor:
            last = batch.click_item[batch.click_ptr[1:] - 1].unsqueeze(1)
            items = torch.arange(self.num_items) if items is None else items
            return -((items - last).abs() ** self.exponent).float()

    yield NearestCode
    del MODELS["nearest_code"]


def test_own_family_is_found_by_its_name_saved_and_loaded(
    own: type[SessionModel], tmp_path: Path
) -> None:
    assert gs.models.MODELS["nearest_code"] is own
    assert name_of(own) == "nearest_code"
    assert "nearest_code" in gs.models.table().index
    model = own(5, power=2.0)  # type: ignore[call-arg]
    model.save(tmp_path / "model")
    loaded = gs.load(tmp_path / "model")  # no model_class
    assert type(loaded) is own
    assert loaded.settings == {"num_items": 5, "power": 2.0}
    assert loaded.recommend([[3]], k=1) == [[(3, 0.0)]]


def test_heir_of_a_registered_class_has_no_name(own: type[SessionModel]) -> None:
    class Heir(own):  # type: ignore[valid-type,misc]
        pass

    assert name_of(Heir) is None


def test_name_of_another_class_is_not_taken_over() -> None:
    before = MODELS["sasrec"]
    with pytest.raises(ValueError, match=r"'sasrec' belongs to graphseq.*SASRec: .*Mine"):

        @register("sasrec")
        class Mine(SessionModel):
            pass

    assert MODELS["sasrec"] is before


def test_class_defined_again_takes_its_own_place(own: type[SessionModel]) -> None:
    again = type(own.__name__, (own,), {"__module__": own.__module__})
    again.__qualname__ = own.__qualname__
    register("nearest_code")(again)
    assert MODELS["nearest_code"] is again


@pytest.mark.parametrize("name", ["Nearest", "nearest code", "2nd", ""])
def test_name_that_settings_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name of lower-case letters, digits and '_', got"):
        register(name)


@pytest.mark.parametrize("thing", [torch.nn.Linear, lambda: None, 3])
def test_what_is_no_model_is_not_registered(thing: object) -> None:
    with pytest.raises(ValueError, match=r"register\('thing'\) goes above a class that inherits"):
        register("thing")(thing)  # type: ignore[type-var]
    assert "thing" not in MODELS
