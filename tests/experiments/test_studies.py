"""The studies: what each takes away is gone, all else is the same, and a stopped run goes on."""

from __future__ import annotations

import importlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import Batch

import graphseq as gs
from experiments import all as all_studies
from experiments.studies import graph_ablation, length_study, scaling_study, study, user_study
from experiments.studies.graph_ablation import AblatedSRGNN, shuffled
from experiments.studies.length_study import WindowedGRU4Rec

ITEMS = [[0, 1, 2, 0, 3], [4, 5], [1, 2, 1, 3, 1, 4], [2]]


def batch_of(lists: list[list[int]]) -> Batch:
    ptr = torch.tensor([0, *np.cumsum([len(items) for items in lists])])
    return gs.data.build_session_graphs(torch.tensor(sum(lists, [])), ptr)


def test_shuffled_edges_keep_degrees_and_stay_within_their_session() -> None:
    batch = batch_of(ITEMS)
    edges = shuffled(batch.edge_index, batch.x, batch.batch)
    assert not torch.equal(edges, batch.edge_index)
    assert torch.equal(batch.batch[edges[0]], batch.batch[edges[1]])
    for side in (0, 1):
        assert torch.equal(edges[side].sort()[0], batch.edge_index[side].sort()[0])


def test_session_is_shuffled_the_same_way_in_every_batch() -> None:
    together, alone = batch_of(ITEMS), batch_of([ITEMS[2]])
    edges = shuffled(together.edge_index, together.x, together.batch)
    mine = edges[:, together.batch[edges[0]] == 2]
    first = int((together.batch < 2).sum())
    assert torch.equal(mine - first, shuffled(alone.edge_index, alone.x, alone.batch))


def test_unchanged_line_of_the_ablation_is_srgnn() -> None:
    torch.manual_seed(0)
    ablated = AblatedSRGNN(6, 8).eval()
    plain = gs.models.SRGNN(6, 8, normalize=True).eval()
    plain.load_state_dict(ablated.state_dict())
    batch = batch_of(ITEMS)
    assert torch.equal(ablated(batch), plain(batch))


def test_without_layers_states_are_embeddings_and_edges_change_nothing() -> None:
    model = AblatedSRGNN(6, 8, 0).eval()
    batch = batch_of(ITEMS)
    assert torch.equal(model.node_states(batch), model.items.rows(batch.x))
    other = AblatedSRGNN(6, 8, 0, edges="shuffled").eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(batch), other(batch))


def test_edges_without_direction_are_the_same_backwards() -> None:
    model = AblatedSRGNN(6, 8, edges="without direction").eval()
    forward, backward = batch_of([[0, 1, 2, 3]]), batch_of([[3, 2, 1, 0]])
    states = model.node_states(forward)
    assert torch.allclose(states, model.node_states(backward).flip(0), atol=1e-6)
    directed = AblatedSRGNN(6, 8).eval()
    states = directed.node_states(forward)
    assert not torch.allclose(states, directed.node_states(backward).flip(0), atol=1e-6)


def test_windowed_gru4rec_reads_the_newest_clicks_alone() -> None:
    windowed = WindowedGRU4Rec(6, 8, max_length=3).eval()
    plain = gs.models.GRU4Rec(6, 8).eval()
    plain.load_state_dict(windowed.state_dict())
    long = batch_of(ITEMS)
    expected = plain(batch_of([items[-3:] for items in ITEMS]))
    assert torch.allclose(windowed(long), expected, atol=1e-6)
    states = windowed.click_states(long)
    assert torch.allclose(states[long.click_ptr[1:] - 1], expected, atol=1e-6)
    assert torch.allclose(states[3], plain(batch_of([ITEMS[0][1:4]]))[0], atol=1e-6)


def test_kinds_of_cases_are_those_counted_by_hand() -> None:
    log = gs.Sessions.from_lists([[0, 1, 0, 2, 0], [1, 2, 3]])
    split = gs.fixed_split(log, log)
    model = gs.models.MarkovChain(4).fit_counts(log)
    kinds = graph_ablation.kinds_of_cases(split, gs.evaluate(model, split.test))
    # Targets: 1, 0, 2, 0 of the first session, 2, 3 of the second.
    assert kinds["loop"].tolist() == [False, False, True, True, False, False]
    assert kinds["path"].tolist() == [False, True, False, False, False, True]
    assert kinds["target repeats"].tolist() == [False, True, False, True, False, False]
    assert kinds["1 click"].tolist() == [True, False, False, False, True, False]
    assert kinds["4-7 clicks"].tolist() == [False, False, False, True, False, False]


def history_of(lists: list[list[int]], sessions: list[list[int]]) -> Batch:
    ptr = torch.tensor([0, *np.cumsum([len(items) for items in lists])])
    items = torch.tensor(sum(lists, []))
    return gs.data.build_session_graphs(
        items,
        ptr,
        y=(items + 1) % 6,
        y_ptr=ptr,
        click_fields={"click_session": torch.tensor(sum(sessions, []))},
        session_fields={"user": torch.arange(len(lists))},
    )


def test_current_session_reads_nothing_of_earlier_sessions() -> None:
    inside = {"base": "gru4rec", "arguments": {"hidden_channels": 8}}
    model = user_study.CurrentSession(6, **inside).eval()
    batch = history_of([[0, 1, 2, 3], [4, 5, 0]], [[0, 0, 1, 1], [0, 1, 1]])
    alone = batch_of([[0, 1], [2, 3], [4], [5, 0]])
    assert torch.allclose(model(batch), model.inner(alone)[[1, 3]], atol=1e-6)
    assert torch.allclose(model.click_states(batch), model.inner.click_states(alone), atol=1e-6)


def test_first_click_of_a_later_session_is_no_target_and_the_user_stays() -> None:
    batch = history_of([[0, 1, 2, 3], [4, 5, 0]], [[0, 0, 1, 1], [0, 1, 1]])
    parts = user_study.sessions_of(batch)
    assert parts.user.tolist() == [0, 0, 1, 1]
    assert parts.y.tolist() == [1, -100, 3, 4, -100, 0, 1]
    model = user_study.CurrentSessionAndUser(
        6, 2, base="gru4rec", arguments={"hidden_channels": 8}
    ).eval()
    with torch.no_grad():
        model.user_embedding.weight.copy_(torch.arange(16.0).view(2, 8))
    without = model.inner(batch_of([[2, 3], [5, 0]]))
    assert torch.allclose(model(batch), without + model.user_embedding.weight, atol=1e-5)


def test_last_session_of_each_user_is_tested_and_the_one_before_it_validates() -> None:
    log = gs.Sessions.from_frame(
        pd.DataFrame(
            [
                # session, user, item, time; sessions of user b lie between those of user a
                *[("a1", "a", 0, 1), ("a1", "a", 1, 2), ("b1", "b", 2, 3), ("b1", "b", 0, 4)],
                *[("a2", "a", 1, 5), ("a2", "a", 2, 6), ("b2", "b", 0, 7), ("b2", "b", 1, 8)],
                *[("a3", "a", 2, 9), ("a3", "a", 0, 10), ("c1", "c", 1, 11), ("c1", "c", 2, 12)],
                *[("a4", "a", 0, 13), ("a4", "a", 2, 14), ("a4", "a", 1, 15), ("b3", "b", 1, 16)],
            ],
            columns=["session", "user", "item", "time"],
        ),
        session="session",
        item="item",
        time="time",
        user="user",
    )
    split = user_study.split_of(log)
    assert split.validation is not None

    def lists(part: gs.Sessions) -> list[list[int]]:
        return [part.items[a:b].tolist() for a, b in pairwise(part.ptr)]

    assert lists(split.train) == [[0, 1, 1, 2], [2, 0], [1, 2]]
    # b3 is of one click and has no target; its session before is the validation, as a3 is.
    assert sorted(lists(split.validation)) == [[0, 1, 1, 2, 2, 0], [2, 0, 0, 1]]
    assert lists(split.test) == [[0, 1, 1, 2, 2, 0, 0, 2, 1]]
    assert split.test.targets_from.tolist() == [7]


def test_generated_users_follow_their_brand_as_often_as_told() -> None:
    plain = user_study.generated_log(50, 400, 100, 0.0)
    loyal = user_study.generated_log(50, 400, 100, 1.0)
    assert loyal.users is not None
    items, before = (log.to_frame()["item_id"].to_numpy() for log in (loyal, plain))
    brand, category = items // user_study.CATEGORIES % user_study.BRANDS, items % 10
    assert category.tolist() == (before % 10).tolist()
    owner = np.asarray(loyal.users)[loyal.session_index]
    brands = [set(brand[owner == user].tolist()) for user in range(50)]
    assert all(len(each) == 1 for each in brands)
    assert set.union(*brands) == set(range(user_study.BRANDS))
    other = before // user_study.CATEGORIES % user_study.BRANDS
    assert (other != brand).mean() > 0.5


def test_power_law_is_found_and_its_error_is_at_the_largest_size() -> None:
    clicks = np.array([1e3, 2e3, 4e3, 8e3, 16e3])
    exact = scaling_study.power(clicks, 0.3, 0.2, 0.5)
    values = np.stack([exact, exact - 0.01, exact + 0.01], axis=1)
    found = scaling_study.fitted(clicks, values)
    assert abs(found["top"] - 0.3) < 1e-3
    assert abs(found["rate"] - 0.5) < 1e-2
    assert abs(found["error"]) < 1e-4
    values[-1] += 0.02
    assert abs(scaling_study.fitted(clicks, values)["error"] + 0.02) < 1e-4


def test_findings_name_the_best_length_and_where_gains_end() -> None:
    def row(length: int, value: float) -> dict[str, object]:
        ends = {"ndcg@10": [value - 0.01, value + 0.01]}
        line = {"model": f"sasrec {length}", "family": "sasrec", "length": length, "seed": 0}
        return line | {"metrics": {"ndcg@10": value}, "intervals": ends}

    def test(longer: int, shorter: int, low: float, p: float) -> dict[str, object]:
        names = {"model": f"sasrec {longer}", "against": f"sasrec {shorter}"}
        ends = {"low": low, "high": low + 0.02, "p_corrected": p}
        return names | ends | {"metric": "ndcg@10"}

    content = {
        "rows": [row(2, 0.10), row(5, 0.14), row(10, 0.15)],
        "tests": [test(5, 2, 0.03, 0.0), test(10, 2, 0.04, 0.0), test(10, 5, 0.0, 0.3)],
    }
    assert length_study.findings(content) == [
        "**sasrec**: 10.00 at 2 clicks, best 15.00 at 10 (a gain of 4.0 to 6.0 points); "
        "from 5 on it cannot be told from the best."
    ]


def test_line_with_an_extra_loss_is_trained_once_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["--quick", "--only", "augmentation_study", "--out", str(tmp_path)]
    all_studies.main(line)
    folder = tmp_path / "augmentation_study" / "uci-eshop"
    before = json.loads((folder / "results.json").read_text())
    names = ["exact loss", "exact loss, twice the epochs", "item mask", "cl4srec"]
    assert [row["model"] for row in before["rows"]] == names
    metrics = [row["metrics"] for row in before["rows"]]
    assert len({json.dumps(each) for each in metrics}) == 4
    all_studies.main([*line, "--resume"])
    again = json.loads((folder / "results.json").read_text())
    assert [row["metrics"] for row in again["rows"]] == metrics


def test_sizes_of_training_data_rank_the_same_cases(tmp_path: Path) -> None:
    all_studies.main(["--quick", "--only", "scaling_study", "--out", str(tmp_path)])
    folder = tmp_path / "scaling_study" / "uci-eshop"
    content = json.loads((folder / "results.json").read_text())
    clicks = [row["clicks"] for row in content["rows"]]
    assert clicks[0] == clicks[1] < clicks[2] == clicks[3]
    assert {test["against"] for test in content["tests"]} == {"markov, 1/4", "markov, all"}
    assert scaling_study.page(content).count("| markov |") == 2
    assert (folder / "scaling_study.png").stat().st_size > 10_000


def test_quick_form_runs_resumes_and_refuses_other_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["--quick", "--only", "loss_study", "--out", str(tmp_path)]
    all_studies.main(line)
    folder = tmp_path / "loss_study" / "uci-eshop"
    before = json.loads((folder / "results.json").read_text())
    assert [row["model"] for row in before["rows"]] == ["exact", "softmax 16", "softmax 64"]
    assert {test["against"] for test in before["tests"]} == {"exact"}
    assert all(row["rank_mflop"] > 0 for row in before["rows"])
    assert (folder / "loss_study.png").stat().st_size > 10_000
    assert str(tmp_path) not in before["command"]

    fit = gs.fit
    trained: list[object] = []
    module = importlib.import_module("graphseq.comparison.compare")
    monkeypatch.setattr(module, "fit", lambda *a, **k: trained.append(a) or fit(*a, **k))
    all_studies.main([*line, "--resume"])
    again = json.loads((folder / "results.json").read_text())
    assert trained == []
    assert [row["metrics"] for row in again["rows"]] == [row["metrics"] for row in before["rows"]]

    bounded = study.bounded
    monkeypatch.setattr(study, "bounded", lambda split, newest, targets: bounded(split, 290, 90))
    with pytest.raises(SystemExit, match="holds results of other data"):
        all_studies.main([*line, "--resume"])


@pytest.mark.parametrize("name", ["length_study", "graph_ablation", "user_study"])
def test_quick_form_ranks_all_its_lines_and_makes_a_page_and_a_picture(
    name: str, tmp_path: Path
) -> None:
    all_studies.main(["--quick", "--only", name, "--out", str(tmp_path)])
    folder = tmp_path / name / all_studies.QUICK[name].split()[1]
    content = json.loads((folder / "study.json").read_text())
    lines = [row["model"] for row in content["rows"]]
    assert len(set(lines)) == len(lines) > 3
    told = {test["model"] for test in content["tests"]}
    assert told < set(lines)
    assert all(row["rank_ms"] > 0 for row in content["rows"])
    page = importlib.import_module(f"experiments.studies.{name}").page(content)
    families = dict.fromkeys(row["family"] for row in content["rows"])
    assert all(f"| {family}" in page for family in families)
    assert "nan" not in page
    assert (folder / f"{name}.png").stat().st_size > 10_000


def test_every_study_has_a_quick_form() -> None:
    assert set(all_studies.QUICK) == set(all_studies.STUDIES)


def test_full_form_says_its_cost_before_anything_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.studies import loss_study

    said: list[str] = []
    monkeypatch.setattr(loss_study, "main", lambda line: said.append(capsys.readouterr().out))
    all_studies.main(["--full", "--only", "loss_study", "--seeds", "0"])
    assert said[0] == "About 12 minutes of one core, seeds 0.\n"
