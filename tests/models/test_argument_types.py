"""Arguments of every family are checked against the types of its signature."""

import copy
import inspect
from typing import Any

import numpy as np
import pytest

import graphseq as gs

WRONG: dict[str, list[Any]] = {
    "int": [1.5, True, "5", None],
    "int | None": [1.5, True, "5"],
    "float": ["5", True, None],
    "float | None": ["5", True],
    "bool": ["no", 1, None],
}


@pytest.mark.parametrize("name", gs.models.MODELS)
def test_arguments_of_another_type_are_refused(name: str) -> None:
    family = gs.models.MODELS[name]
    parameters = dict(list(inspect.signature(family.__init__).parameters.items())[1:])
    tried = 0
    for argument, parameter in parameters.items():
        for value in WRONG.get(str(parameter.annotation), []):
            with pytest.raises(ValueError, match=rf"^{argument} must be .*, got {value!r}"):
                family(**{"num_items": 9, argument: value})
            tried += 1
    assert tried >= 3 or name == "with_user"


def test_numbers_of_numpy_are_numbers() -> None:
    model = gs.models.MarkovChain(np.int64(9), backoff=np.float32(0.5))  # type: ignore[arg-type]
    assert type(model.num_items) is int  # so that it can be saved
    assert model.num_items == 9
    assert gs.models.MarkovChain(9, backoff=1).backoff == 1


def test_a_wrong_name_is_told_by_python_and_a_copy_is_made_without_arguments() -> None:
    with pytest.raises(TypeError, match="hidden_chanels"):
        gs.models.GRU4Rec(9, hidden_chanels=1.5)  # type: ignore[call-arg]
    model = gs.models.MarkovChain(9, order=2)
    assert copy.deepcopy(model).settings == model.settings
