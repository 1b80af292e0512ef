"""Learning curves of a table: which rows have one, and what is refused."""

from __future__ import annotations

import pytest

import graphseq as gs
from experiments.lib.learning_pictures import histories_of


def comparison() -> gs.Comparison:
    def row(model: str, seed: int, *values: float) -> dict[str, object]:
        history = [{"epoch": n, "ndcg@10": value} for n, value in enumerate(values, 1)]
        return {"model": model, "seed": seed, "history": history}

    rows = [row("markov", 0), row("b", 0, 0.1, 0.2), row("b", 1, 0.3), row("a", 0, 0.4)]
    return gs.Comparison({"rows": rows})


def test_histories_are_of_the_first_seed_of_trained_rows() -> None:
    found = histories_of(comparison())
    assert list(found) == ["b", "a"]
    assert found["b"]["ndcg@10"].tolist() == [0.1, 0.2]
    assert list(histories_of(comparison(), ["a"])) == ["a"]


def test_history_of_a_counted_row_is_refused() -> None:
    with pytest.raises(ValueError, match="No row 'markov' was trained; trained are b, a"):
        histories_of(comparison(), ["a", "markov"])
