"""Published tables: their files are complete, and the script sets ours beside theirs."""

from __future__ import annotations

import json
import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import graphseq as gs
from experiments import reproduce
from experiments.lib.published import TABLES, audit_of, goal_of, published, side_by_side


@pytest.mark.parametrize("name", TABLES)
def test_published_table_names_source_and_choice_of_every_number(name: str) -> None:
    table = published(name)
    assert table["dataset"] in gs.data.DATASETS
    assert any(metric.endswith(table["monitor"]) for metric in table["metrics"])
    assert set(table.get("goal", table["metrics"])) == set(table["metrics"])
    lines = [row["line"] for row in table["rows"]]
    assert len(set(lines)) == len(lines)
    for row in table["rows"]:
        assert row["source"], row
        assert row["chosen"] in ("validation", "test", "nothing to choose", "not said"), row
        assert all(0 < row[metric] < 1 for metric in table["metrics"]), row


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A table of two counted rows, on a log of rings."""
    lists = [[(start + step) % 7 for step in range(4)] for start in range(30)]
    split = gs.leave_last_split(gs.Sessions.from_lists(lists), 1, validation=1)
    monkeypatch.setattr(gs, "load_split", lambda *arguments, **options: split)
    settings = tmp_path / "settings.json"
    lines = [{"name": name, "model": name} for name in ("markov", "popularity")]
    settings.write_text(json.dumps({"ks": [1, 2], "models": lines}))
    table = {
        "dataset": str(settings),
        "metrics": ["hr@1", "mrr@2"],
        "monitor": "mrr@2",
        "protocol": "leave-one-out",
        "validation": 1,
        "cluster": "session",
        "minutes": {"markov": 2.5},
        "rows": [
            {"line": "markov", "hr@1": 0.9, "mrr@2": 0.95, "source": "a paper", "chosen": "test"},
            {"line": "another", "hr@1": 0.5, "mrr@2": 0.6, "source": "a log", "chosen": "test"},
        ],
        "goal": {"hr@1": 1.0, "mrr@2": 1.25},
    }
    monkeypatch.setattr(reproduce, "published", lambda name: table)
    return table


def test_reproduce_sets_our_mean_beside_the_published_number(
    table: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--table", "beauty", "--seeds", "0", "--out", str(tmp_path / "out")]
    reproduce.main([*command, "--no-progress"])
    page = (tmp_path / "out" / "page.md").read_text().splitlines()
    markov, popularity, another, _, goal = page[2:]
    assert markov == (
        "| markov | 1 | - | 1.0000\u00a0±\u00a00.0000 / 1.0000\u00a0±\u00a00.0000 | - "
        "| 0.9000 / 0.9500 | yes | a paper | test |"
    )
    assert popularity.startswith("| popularity | 1 | - | ")
    assert popularity.endswith("| - | - | - | - |")
    assert another == "| another | - | - | not run here | - | 0.5000 / 0.6000 | - | a log | test |"
    assert goal == (
        "Goal of this project, hr@1 / mrr@2: 1.0000 / 1.2500. markov has 1.0000 / 1.0000: not "
        "reached (80.0 % of it)."
    )
    assert (tmp_path / "out" / "results.json").is_file()
    assert "markov 2.5" in capsys.readouterr().out


def test_reproduce_says_in_one_sentence_what_is_wrong(
    table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reproduce, "published", published)
        with pytest.raises(SystemExit, match=r"^There is no table 'beatuy': choose one of beauty,"):
            reproduce.main(["--table", "beatuy"])
    command = ["--table", "beauty", "--seeds", "0", "--out", str(tmp_path), "--no-progress"]
    reproduce.main(command)
    table["protocol"] = "gru4rec"
    with pytest.raises(SystemExit, match="holds results of another protocol"):
        reproduce.main([*command, "--resume"])
    train, test = gs.Sessions.from_lists([[0, 1]] * 3), gs.Sessions.from_lists([[0]])
    monkeypatch.setattr(gs, "load_split", lambda *arguments, **options: gs.fixed_split(train, test))
    with pytest.raises(SystemExit, match=r"^The test part has no target: none of its 1 sessions"):
        reproduce.main(command)


def test_reproduce_sets_the_precision_of_products_for_its_trainings(
    table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    command = ["--table", "beauty", "--seeds", "0", "--out", str(tmp_path), "--no-progress"]
    reproduce.main(command)
    reproduce.main([*command, "--matmul", "medium"])
    assert chosen == ["highest", "medium"]
    assert "--matmul medium" in gs.Comparison.load(tmp_path).content["command"]


def test_reproduce_takes_finished_rows_over_though_the_note_is_another(
    table: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = ["--table", "beauty", "--seeds", "0", "--out", str(tmp_path / "out")]
    reproduce.main([*command, "--models", "markov", "--no-progress"])
    settings = Path(table["dataset"])
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"note": "in other words"}))
    caplog.set_level("INFO")
    reproduce.main([*command, "--resume", "--no-progress"])
    assert "1 rows of" in caplog.text
    results = gs.Comparison.load(tmp_path / "out")
    assert set(results.models) == {"markov", "popularity"}
    assert results.content["protocol"]["note"] == "in other words"


def test_reproduce_does_not_count_again_for_another_seed(
    table: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--table", "beauty", "--models", "markov", "--out", str(tmp_path), "--no-progress"]
    reproduce.main([*command, "--seeds", "0"])
    assert "Rows left to run: 1," in capsys.readouterr().out
    reproduce.main([*command, "--seeds", "1", "0", "--resume"])
    assert "Rows left to run: 0," in capsys.readouterr().out
    assert [row["seed"] for row in gs.Comparison.load(tmp_path).content["rows"]] == [0]


def row(model: str, value: float, half: float, seed: int = 0) -> dict[str, Any]:
    return {
        "model": model,
        "seed": seed,
        "metrics": {"hr@10": value},
        "intervals": {"hr@10": [value - half, value + half]},
        **dict.fromkeys(("epochs", "train_seconds", "eval_seconds", "num_parameters"), 3),
    }


def content_of(*rows: dict[str, Any]) -> dict[str, Any]:
    data = {"name": "x", "fingerprint": {"train": "", "test": ""}}
    return {"monitor": "hr@10", "rows": list(rows), "protocol": {"ks": [10]}, "data": data}


def test_a_published_number_is_reached_within_one_standard_error() -> None:
    content = content_of(row("a", 0.5, 0.196), row("b", 0.3, 0.0196))
    lines = [
        {"line": "a", "hr@10": 0.599, "source": "a paper", "chosen": "test"},
        {"line": "b", "hr@10": 0.311, "source": "a log", "chosen": "validation"},
    ]
    table = {
        "dataset": "x",
        "validation": None,
        "metrics": ["hr@10"],
        "rows": lines,
        "goal": {"hr@10": 0.5},
    }
    first, second = side_by_side(content, table).splitlines()[2:]
    assert first == "| a | 1 | 3 | 0.5000\u00a0±\u00a00.1960 | - | 0.5990 | yes | a paper | test |"
    assert (
        second == "| b | 1 | 3 | 0.3000\u00a0±\u00a00.0196 | - | 0.3110 | no | a log | validation |"
    )
    assert goal_of(content, table) == (
        "Goal of this project, hr@10: 0.5000. a has 0.5000: reached."
    )


@pytest.mark.parametrize(("value", "reached"), [(0.5, "yes"), (0.499, "no")])
def test_a_row_without_an_interval_reaches_what_it_is_not_below(value: float, reached: str) -> None:
    alone = row("a", value, 0.1)
    del alone["intervals"]
    lines = [{"line": "a", "hr@10": 0.5, "source": "a log", "chosen": "test"}]
    table = {"dataset": "x", "validation": None, "metrics": ["hr@10"], "rows": lines}
    assert f"| 0.5000 | {reached} | a log |" in side_by_side(content_of(alone), table)


def test_rows_are_in_the_order_of_the_last_metric_and_reach_all_of_theirs() -> None:
    rows = []
    for name, values in (("a", (0.5, 0.2, 0.1)), ("b", (0.4, 0.3, 0.2))):
        metrics = dict(zip(("hr@10", "mrr@10", "ndcg@10"), values, strict=True))
        ends = {metric: [value, value] for metric, value in metrics.items()}
        rows.append(row(name, 0.0, 0.0) | {"metrics": metrics, "intervals": ends})
    table = {
        "dataset": "x",
        "validation": None,
        "protocol": "srgnn",
        "metrics": ["hr@10", "mrr@10"],
        "also": ["ndcg@10"],
        "rows": [
            {"line": line, "hr@10": 0.4, "mrr@10": 0.3, "source": "a log", "chosen": "test"}
            for line in ("a", "b", "c")
        ],
    }
    head, _, *lines = (
        line.strip("| ").split(" | ") for line in side_by_side(content_of(*rows), table).split("\n")
    )
    reached = {line[0]: line[head.index("reached")] for line in lines}
    assert list(reached.items()) == [("b", "yes"), ("a", "no"), ("c", "-")]
    assert {len(line) for line in lines} == {len(head)}
    del rows[1]["metrics"]["ndcg@10"]
    with pytest.raises(ValueError, match=r"^The row of b, seed 0, lacks 'ndcg@10': it was ranked"):
        side_by_side(content_of(*rows), table)


def test_rows_of_several_seeds_show_their_deviation_and_no_published_rows_no_columns() -> None:
    seeds = [row("a", value, 0.01, seed) for seed, value in enumerate((0.4, 0.5, 0.6))]
    table = {"dataset": "x", "validation": None, "metrics": ["hr@10"], "rows": []}
    head, _, first = side_by_side(content_of(*seeds), table).splitlines()
    assert head == "| model | seeds | epochs | here: hr@10 | over seeds |"
    assert first == "| a | 3 | 3 | 0.5000\u00a0±\u00a00.0100 | 0.1000 |"


def test_results_of_other_data_or_another_protocol_are_not_set_beside_published_numbers() -> None:
    row = {"model": "a", "seed": 3, "metrics": {"hr@10": 0.5}}
    data = {"name": "beauty", "fingerprint": {"train": "", "validation": "", "test": ""}}
    content = {"data": data, "rows": [row]}
    with pytest.raises(ValueError, match=r"^The results are of 'beauty' and the published numbers"):
        side_by_side(content, published("toys"))
    with pytest.raises(ValueError, match=r"^The results are of 'beauty' with another validation "):
        side_by_side(content, published("beauty-retrained"))
    with pytest.raises(ValueError, match=r"^The row of a, seed 3, lacks 'unseen hr@10': it was ra"):
        side_by_side(content, published("beauty"))


def test_page_tells_every_fault_of_the_audit() -> None:
    findings = [
        {"check": "core", "verdict": "fault", "says": "4 of 9 items."},
        {"check": "copies", "verdict": "note", "says": "0 of 3 sessions."},
    ]
    rows = [{"name": "a", "passed": False, "findings": findings}, {"name": "b", "passed": True}]
    assert audit_of("a", {"rows": rows}) == (
        "Audit of the split, before validation is cut from training: **refuted**. core: 4 of 9 "
        "items."
    )
    with pytest.raises(ValueError, match="There is no audit of 'c': run python -m experiments"):
        audit_of("c", {"rows": rows})


def test_cost_counts_minutes_of_the_rows_left_and_names_rows_not_measured() -> None:
    said = reproduce.cost({"a": 2, "b": 0, "d": 7}, {"a": 3, "b": 1, "c": 3, "d": 0})
    assert said == (
        "Rows left to run: 7, about 6 minutes on one thread (minutes per row: a 2). Not "
        "measured yet: c."
    )
    nothing = reproduce.cost({"a": 2}, {"a": 0})
    assert nothing == "Rows left to run: 0, about 0 minutes on one thread."


@pytest.fixture
def trained(table: dict[str, Any]) -> dict[str, Any]:
    """The table with a trained line of two epochs at a constant rate."""
    settings = Path(table["dataset"])
    content = json.loads(settings.read_text())
    fit = {"max_epochs": 2, "batch_size": 16, "patience": None}
    line = {"name": "sasrec", "model": "sasrec", "arguments": {"hidden_channels": 4}, "fit": fit}
    settings.write_text(json.dumps(content | {"models": [*content["models"], line]}))
    table["minutes"] |= {"sasrec": 5, "popularity": 0}
    return table


def test_epochs_are_recorded_and_resume_from_the_checkpoint(
    trained: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(out: str, *more: str) -> list[dict[str, Any]]:
        command = ["--table", "beauty", "--seeds", "0", "--out", str(tmp_path / out)]
        reproduce.main([*command, "--models", "markov", "sasrec", "--no-progress", *more])
        found = gs.Comparison.load(tmp_path / out).content["rows"]
        return [
            {name: row[name] for name in ("model", "settings", "seed", "metrics", "epochs")}
            | {"losses": [epoch["loss"] for epoch in row["history"]]}
            for row in found
        ]

    rows("out", "--epochs", "1")
    assert "Rows left to run: 2, about 5 minutes on one thread (minutes per row: markov 2.5, " in (
        capsys.readouterr().out
    )
    history = tmp_path / "out" / "models" / "sasrec-seed0" / "history.csv"
    before = history.read_text()
    longer = rows("out", "--epochs", "3", "--resume")
    assert "Rows left to run: 1, about 8 minutes on one thread (minutes per row: sasrec 7.5)" in (
        capsys.readouterr().out
    )
    assert history.read_text().startswith(before)  # seconds included: it was not trained again
    assert longer == rows("whole", "--epochs", "3")
    assert longer[1]["settings"]["fit"]["max_epochs"] == 3
    assert len(longer[1]["losses"]) == 3
    assert "max_epochs" not in longer[0]["settings"]["fit"]
    capsys.readouterr()
    assert rows("out", "--epochs", "3", "--resume") == longer
    assert "Rows left to run: 0, about 0 minutes" in capsys.readouterr().out


def test_interrupted_training_resumed_gives_the_figures_of_one_that_never_stopped(
    trained: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: str, *more: str) -> list[dict[str, Any]]:
        command = ["--table", "beauty", "--out", str(tmp_path / out), "--models", "sasrec"]
        reproduce.main([*command, "--seeds", "0", "1", "--no-progress", *more])
        rows = gs.Comparison.load(tmp_path / out).content["rows"]
        return [
            {name: row[name] for name in ("seed", "metrics", "intervals", "epochs")}
            | {"losses": [epoch["loss"] for epoch in row["history"]]}
            for row in rows
        ]

    comparing = import_module("graphseq.comparison.compare")
    real = comparing.fit

    def stopped(model: Any, *arguments: Any, **options: Any) -> Any:
        """Ctrl-C after the first epoch of the second seed."""
        if options["seed"] == 0:
            return real(model, *arguments, **options)
        return real(model, *arguments, on_epoch=lambda row: interrupt(), **options)

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(comparing, "fit", stopped)
        with pytest.raises(SystemExit, match=r"^Stopped in the training of sasrec, seed 1\. What "):
            run("out")
    assert [row["seed"] for row in gs.Comparison.load(tmp_path / "out").content["rows"]] == [0]
    assert run("out", "--resume") == run("whole")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], r"^max_epochs must be at least 1, got 0"),
        (["--models", "sasrek"], r"^There is no model 'sasrek': choose from markov, popularity, s"),
        (["--seeds", "1", "1"], r"^seeds are of different runs, got one twice: \[1, 1\]\.$"),
        (["--seeds", "-1"], r"^seeds must be at least 0, got -1\.$"),
    ],
)
def test_option_out_of_range_is_said_in_one_sentence(
    trained: dict[str, Any], tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        reproduce.main(["--table", "beauty", "--out", str(tmp_path / "out"), *arguments])


def test_out_that_cannot_be_written_to_is_refused_before_any_row(
    trained: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        for more in ([], ["--resume"]):
            with pytest.raises(SystemExit, match=r"^The folder of results .* cannot be written to"):
                reproduce.main(["--table", "beauty", "--out", str(out), *more])
