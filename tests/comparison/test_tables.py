"""Tables from a record: every number comes from its rows, and LaTeX characters are escaped."""

from __future__ import annotations

from typing import Any

import pytest

from graphseq.comparison.tables import audited, latex, markdown, protocol_in


def row(model: str, seed: int, hr: float, mrr: float) -> dict[str, Any]:
    metrics = {"hr@20": hr, "mrr@20": mrr, "ndcg@20": mrr}
    return {
        "model": model,
        "seed": seed,
        "metrics": metrics,
        "intervals": {name: [value - 0.01, value + 0.01] for name, value in metrics.items()},
        "train_seconds": 2.0 * seed,
        "eval_seconds": 1.0,
        "epochs": 3,
        "num_parameters": 10,
    }


@pytest.fixture
def content() -> dict[str, Any]:
    return {
        "data": {"name": "clicks_1%", "statistics": {"test": {"targets": 13_237}}},
        "protocol": {"ks": [5, 20]},
        "rows": [row("sr_gnn", 0, 0.7, 0.25), row("sr_gnn", 1, 0.72, 0.27), row("b", 0, 0.73, 0.2)],
    }


def test_markdown_has_means_over_seeds_best_first(content: dict[str, Any]) -> None:
    assert markdown(content).splitlines() == [
        "| model | HR@20 | MRR@20 | NDCG@20 | epochs | training | ranking |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| sr_gnn (2 seeds) | 71.00 ± 1.00 | 26.00 ± 1.00 | 26.00 ± 1.00 | 3 | 1.0 s | 1.0 s |",
        "| b | 73.00 ± 1.00 | 20.00 ± 1.00 | 20.00 ± 1.00 | 3 | 0.0 s | 1.0 s |",
    ]


def test_markdown_order_is_that_of_the_monitor(content: dict[str, Any]) -> None:
    assert "| b |" in markdown(content | {"monitor": "hr@20"}).splitlines()[2]


def test_the_lowest_is_first_where_less_is_better(content: dict[str, Any]) -> None:
    for number, each in enumerate(content["rows"]):
        each["metrics"]["mean_rank"] = [9.0, 8.0, 3.0][number]
    assert "| b |" in markdown(content | {"monitor": "mean_rank"}).splitlines()[2]


def test_markdown_without_an_interval_has_the_value_alone(content: dict[str, Any]) -> None:
    del content["rows"][2]["intervals"]["hr@20"]
    assert "| b | 73.00 | 20.00 ± 1.00 |" in markdown(content)
    del content["rows"][0]["intervals"]["hr@20"]  # of one seed of two
    assert "| sr_gnn (2 seeds) | 71.00 | 26.00 ± 1.00 |" in markdown(content)


def test_markdown_epochs_are_means_and_a_dash_where_nothing_was_trained(
    content: dict[str, Any],
) -> None:
    for number, each in enumerate(content["rows"]):
        each["epochs"] = [3, 5, 0][number]
    first, second = markdown(content).splitlines()[2:]
    assert first.endswith("| 4 | 1.0 s | 1.0 s |")
    assert second.endswith("| - | 0.0 s | 1.0 s |")


@pytest.mark.parametrize(("exclude_seen", "seen"), [(True, "remove"), (False, "keep")])
def test_old_files_say_by_one_flag_what_is_ranked(exclude_seen: bool, seen: str) -> None:
    assert protocol_in({"protocol": {"exclude_seen": exclude_seen}}).seen == seen


def test_audit_of_a_model_is_told_where_it_says_more_than_that_of_the_split(
    content: dict[str, Any],
) -> None:
    assert audited(content) == []
    content["rows"].append(row("not audited", 0, 0.5, 0.5))
    content["data"]["audit"] = {"findings": [{"check": "future", "verdict": "fault"}]}
    told = ["refuted (future, batch mates)"] * 2 + ["refuted (future)", None]
    for each, verdict in zip(content["rows"], told, strict=True):
        each["audit"] = verdict
    assert audited(content) == [
        "Audit of the split: refuted (future).",
        "Audit of sr_gnn: refuted (future, batch mates).",
    ]
    content["rows"][1]["audit"] = "refuted (future)"  # of another seed than the one with more
    assert audited(content)[1:] == ["Audit of sr_gnn: refuted (future, batch mates)."]


def test_rows_without_what_may_be_absent_have_dashes(content: dict[str, Any]) -> None:
    for name in ("intervals", "epochs", "train_seconds", "eval_seconds"):
        del content["rows"][2][name]
    (line,) = [line for line in markdown(content).splitlines() if line.startswith("| b |")]
    assert line.endswith("| 20.00 | 20.00 | - | - | - |")


def test_latex_bolds_the_best_and_escapes_signs(content: dict[str, Any]) -> None:
    lines = latex(content).splitlines()
    assert (
        r"sr\_gnn (2 seeds) & $71.00 \pm 1.00$ & $\mathbf{26.00 \pm 1.00}$ & "
        r"$\mathbf{26.00 \pm 1.00}$ \\"
    ) in lines
    assert r"b & $\mathbf{73.00 \pm 1.00}$ & $20.00 \pm 1.00$ & $20.00 \pm 1.00$ \\" in lines
    (caption,) = [line for line in lines if line.startswith(r"\caption")]
    assert r"clicks\_1\%, in \%, all items ranked for 13{,}237 targets" in caption
    assert r"Model & HR@20 & MRR@20 & NDCG@20 \\" in lines
    content["data"]["name"] = r"\~^&%$#_{}"
    escaped = r"\textbackslash{}\textasciitilde{}\textasciicircum{}\&\%\$\#\_\{\}"
    assert f"Models on {escaped}, in" in latex(content)
