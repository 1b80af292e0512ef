"""The rules of an evaluation: each against a naive reading, presets, names, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import graphseq as gs
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.evaluation import PRESETS, Protocol, Report, candidates, evaluate
from graphseq.evaluation.candidates import CandidateDraw
from graphseq.models.base import SessionModel

ITEMS = "abcdefgh"
COUNTS = np.array([5, 0, 3, 8, 1, 1, 2, 3])


class Distance(SessionModel):
    """Items near the last one first, both sides tied."""

    def score(self, batch, items=None):
        last = batch.click_item[batch.click_ptr[1:] - 1, None]
        return -(torch.arange(self.num_items) - last).abs().double()


class Constant(SessionModel):
    """The same score for all items."""

    def score(self, batch, items=None):
        return torch.zeros(batch.num_graphs, self.num_items)


def model_of(kind=Distance):
    model = kind(len(ITEMS))
    model.catalog = Catalog(Vocabulary(list(ITEMS)), COUNTS)
    return model


def sessions_of(lists, first=None):
    sessions = gs.Sessions.from_lists(lists, vocabulary=Vocabulary(list(ITEMS)))
    return sessions if first is None else replace(sessions, first_target=np.array(first))


LISTS = [["a", "b", "c", "d"], ["h", "g"], ["x", "b", "b", "x", "e"], ["c"]]


def places(report):
    return report.ranks[["session", "position"]].values.tolist()


@pytest.mark.parametrize(
    ("protocol", "expected", "left_out"),
    [
        (Protocol(), [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (2, 2), (2, 3), (2, 4)], 0),
        (Protocol(targets="last"), [(0, 3), (1, 1), (2, 4)], 0),
        (Protocol(targets=2), [(0, 2), (0, 3), (1, 1), (2, 3), (2, 4)], 0),
        (Protocol(targets=99), [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (2, 2), (2, 3), (2, 4)], 0),
        (Protocol(min_history=3), [(0, 3), (2, 3), (2, 4)], 5),
        (Protocol(targets="last", min_history=2), [(0, 3), (2, 4)], 1),
    ],
)
def test_protocol_chooses_the_targets(protocol, expected, left_out):
    report = evaluate(model_of(), sessions_of(LISTS), protocol=protocol)
    assert [tuple(place) for place in places(report)] == expected
    assert report.num_left_out == left_out
    assert report.protocol == protocol


def test_protocol_makes_no_target_of_what_the_split_gave_to_training():
    sessions = sessions_of([["a", "b", "c", "d"]], first=[3])
    for targets in ("all", "last", 3):
        assert places(evaluate(model_of(), sessions, protocol=Protocol(targets=targets))) == [
            [0, 3]
        ]


def test_protocol_that_leaves_no_target_says_so():
    said = (
        "all 8 targets have fewer clicks before them than min_history=9, the longest session has 5"
    )
    with pytest.raises(ValueError, match=said):
        evaluate(model_of(), sessions_of(LISTS), protocol=Protocol(min_history=9))
    with pytest.raises(ValueError, match=r"all 3 targets have fewer clicks .* min_history=5"):
        evaluate(model_of(), sessions_of(LISTS), protocol=Protocol(min_history=5, targets="last"))
    with pytest.raises(ValueError, match="click at or after its first_target"):
        evaluate(model_of(), sessions_of([["a"]]), protocol=Protocol(min_history=9))


def test_protocol_ties_take_the_first_the_last_or_all_places():
    # After d: c and e tie for place 2 (d itself is first).
    sessions = sessions_of([["d", "e"]])
    found = {
        ties: evaluate(model_of(), sessions, ks=[2], protocol=Protocol(ties=ties)).metrics
        for ties in ("optimistic", "expected", "pessimistic")
    }
    assert [found[t]["hr@2"] for t in ("optimistic", "expected", "pessimistic")] == [1, 0.5, 0]
    assert found["optimistic"]["mrr"] == 1 / 2
    assert found["pessimistic"]["mrr"] == 1 / 3
    assert found["expected"]["mrr"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_protocol_with_both_rules_of_seen_items_holds_the_metrics_of_either():
    sessions = sessions_of(LISTS)
    both = evaluate(model_of(), sessions, protocol=Protocol(seen="both"))
    kept = evaluate(model_of(), sessions)
    removed = evaluate(model_of(), sessions, exclude_seen=True)
    assert removed.protocol == Protocol(seen="remove")
    assert kept.metrics != removed.metrics
    assert both.metrics == kept.metrics | {f"unseen {n}": v for n, v in removed.metrics.items()}
    assert both.values("unseen hr@2").tolist() == removed.values("hr@2").tolist()
    assert "unseen mrr" in both.to_frame().index


def naive(model, case, target, history, candidates, remove):
    """Better and tied among the candidates, by a loop."""
    if history:
        scores = [-abs(item - history[-1]) for item in range(len(ITEMS))]
    else:
        scores = COUNTS.tolist()
    size = len(candidates)
    gone = set(history) if remove else set()
    if target < 0 or target in gone:
        return size + 1, 0
    rest = [scores[c] for c in candidates if c not in gone]
    return sum(s > scores[target] for s in rest), sum(s == scores[target] for s in rest)


@settings(max_examples=30)
@given(
    lists=st.lists(st.lists(st.sampled_from(ITEMS + "x"), min_size=2, max_size=6), min_size=1),
    size=st.integers(1, 6),
    sampling=st.sampled_from(["uniform", "popularity"]),
    seed=st.integers(0, 3),
    batch_size=st.integers(1, 4),
)
def test_sampled_places_equal_a_naive_loop(lists, size, sampling, seed, batch_size):
    protocol = Protocol(candidates=size, sampling=sampling, seed=seed, seen="both")
    model = model_of()
    report = evaluate(model, sessions_of(lists), protocol=protocol, batch_size=batch_size)
    draw = CandidateDraw(protocol, len(ITEMS), COUNTS)
    for case, row in enumerate(report.ranks.itertuples()):
        codes = [ITEMS.find(item) for item in lists[row.session]]
        target = codes[row.position]
        history = [code for code in codes[: row.position] if code >= 0]
        drawn = draw.of(np.array([case]), np.array([target]))[0].tolist()
        assert (row.better, row.tied) == naive(model, case, target, history, drawn, False)
        assert (row.unseen_better, row.unseen_tied) == naive(
            model, case, target, history, drawn, True
        )
    assert report.num_items == size + 1
    assert all(name.startswith("sampled ") for name in report.metrics)
    assert list(report.to_frame().index) == list(report.metrics)


@settings(max_examples=50)
@given(
    size=st.integers(1, 6),
    sampling=st.sampled_from(["uniform", "popularity"]),
    seed=st.integers(0, 9),
    target=st.integers(-1, 7),
)
def test_candidates_are_distinct_others_and_a_function_of_the_case(size, sampling, seed, target):
    draw = CandidateDraw(Protocol(candidates=size, sampling=sampling, seed=seed), 8, COUNTS)
    cases, targets = np.arange(20), np.full(20, target)
    rows = draw.of(cases, targets)
    assert rows.shape == (20, size)
    for row in rows.tolist():
        assert len(set(row)) == size
        assert target not in row
        assert all(0 <= item < 8 for item in row)
        assert sampling == "uniform" or all(COUNTS[item] > 0 for item in row)
    assert draw.of(cases[::-3], targets[::-3]).tolist() == rows[::-3].tolist()


@pytest.mark.parametrize(
    ("rounds", "number", "error"), [(candidates.ROUNDS, 20_000, 0.012), (0, 2_000, 0.04)]
)
def test_candidates_are_drawn_as_often_as_their_rule_says(
    rounds: int, number: int, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "ROUNDS", rounds)  # after 0, the exact method draws
    many = np.arange(number)
    target = np.full(len(many), 3)
    uniform = CandidateDraw(Protocol(candidates=1), 8, COUNTS).of(many, target)
    share = np.bincount(uniform[:, 0], minlength=8) / len(many)
    assert np.abs(share - np.where(np.arange(8) == 3, 0, 1 / 7)).max() < error
    popular = CandidateDraw(Protocol(candidates=1, sampling="popularity"), 8, COUNTS)
    share = np.bincount(popular.of(many, target)[:, 0], minlength=8) / len(many)
    weight = np.where(np.arange(8) == 3, 0, COUNTS)
    assert np.abs(share - weight / weight.sum()).max() < error


def test_candidates_of_another_seed_are_others():
    target = np.zeros(200, dtype=np.int64)
    one, other = (
        CandidateDraw(Protocol(candidates=3, seed=seed), 500).of(np.arange(200), target)
        for seed in (0, 1)
    )
    assert (one != other).mean() > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 8}, "8 candidates besides the target cannot be drawn from 8 items"),
        (
            {"candidates": 7, "sampling": "popularity"},
            "7 candidates besides the target cannot be drawn from 7 items",
        ),
    ],
)
def test_candidates_that_there_are_not_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model_of(), sessions_of(LISTS), protocol=Protocol(**options))


def test_candidates_by_popularity_without_counts_are_refused():
    protocol = Protocol(candidates=2, sampling="popularity")
    with pytest.raises(ValueError, match="need training counts, but the model has no catalog"):
        evaluate(Distance(len(ITEMS)), sessions_of(LISTS), protocol=protocol)


def test_presets_are_named_and_evaluate_takes_their_names():
    assert set(PRESETS) == {"srgnn", "gru4rec", "leave-one-out", "temporal", "rolling"}
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.note
        assert not preset.sampled
        assert evaluate(model_of(), sessions_of(LISTS), protocol=name).protocol.name == name
    assert (PRESETS["leave-one-out"].targets, PRESETS["leave-one-out"].seen) == ("last", "both")
    assert PRESETS["gru4rec"].ties == "pessimistic"
    assert PRESETS["srgnn"] == Protocol()


@pytest.mark.parametrize(
    "protocol",
    [
        *PRESETS.values(),
        Protocol(targets=3, candidates=50, sampling="popularity", seed=4, min_history=2),
    ],
)
def test_protocol_as_plain_values_and_back_is_the_same(protocol, tmp_path):
    values = protocol.to_dict()
    assert values["unknown_targets"] == "miss"
    assert ("seed" in values) == protocol.sampled
    assert Protocol.from_dict(values) == protocol
    assert Protocol.from_dict(values).name == protocol.name


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(seen="both", candidates=3)])
def test_report_saved_and_loaded_keeps_its_protocol(protocol, tmp_path):
    report = evaluate(model_of(), sessions_of(LISTS), protocol=protocol)
    report.save(tmp_path / "report.bin")
    loaded = Report.load(tmp_path / "report.bin")
    assert loaded.protocol == protocol
    assert loaded.ranks.equals(report.ranks)
    assert loaded.metrics == report.metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "first"}, "targets is 'all' or 'last', or a number of them, got 'first'"),
        ({"targets": 0}, "targets must be at least 1, got 0"),
        ({"targets": 1.5}, "targets must be a whole number"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"candidates": "some"}, "candidates is 'all', or a number of them, got 'some'"),
        ({"seen": "drop"}, "seen is one of keep, remove, both, got 'drop'"),
        ({"seen": True}, "seen is one of keep, remove, both, got True"),
        ({"sampling": "zipf"}, "sampling is one of uniform, popularity, got 'zipf'"),
        ({"ties": "median"}, "ties is one of expected, optimistic, pessimistic, got 'median'"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"min_history": -1}, "min_history must be at least 0"),
    ],
)
def test_protocol_with_a_rule_that_is_none_says_so(options, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**options)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("sr-gnn", "There is no protocol 'sr-gnn'; choose from srgnn, gru4rec, leave-one-out"),
        ({"seen": "keep"}, "protocol is a gs.evaluation.Protocol or the name of a preset"),
    ],
)
def test_evaluate_by_a_protocol_that_is_none_says_so(protocol, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model_of(), sessions_of(LISTS), protocol=protocol)


def test_evaluate_by_two_rules_of_seen_items_is_refused():
    with pytest.raises(ValueError, match=r"exclude_seen=True and protocol\.seen='keep' contradict"):
        evaluate(model_of(), sessions_of(LISTS), protocol=Protocol(), exclude_seen=True)


def test_report_of_another_protocol_refuses_its_names_and_its_comparison():
    report = evaluate(model_of(), sessions_of(LISTS))
    with pytest.raises(ValueError, match="'sampled hr@5' is of drawn candidates, but here all"):
        report.values("sampled hr@5")
    with pytest.raises(ValueError, match="'unseen hr@5' is of a protocol with seen='both'"):
        report.values("unseen hr@5")
    sampled = evaluate(model_of(), sessions_of(LISTS), protocol=Protocol(candidates=3))
    with pytest.raises(ValueError, match="candidates is 'all' here and 3 there"):
        report.compare(sampled, "hr@5")
    with pytest.raises(ValueError, match="ties is 'expected' here and 'pessimistic' there"):
        report.compare(replace(report, protocol=Protocol(ties="pessimistic")), "hr@5")
    assert report.compare(replace(report, protocol=PRESETS["temporal"]), "hr@5").difference == 0


@pytest.mark.parametrize("name", ["srgnn", "sasrec", "markov", "vsknn"])
def test_candidates_that_are_all_other_items_give_the_full_ranking(name):
    torch.manual_seed(0)
    model = gs.models.MODELS[name](num_items=len(ITEMS))
    train = sessions_of([list("abcdefgh"), list("acegbdfh")])
    if name in ("markov", "vsknn"):
        model.fit_counts(train)
    model.catalog = train.catalog()
    full = evaluate(model, sessions_of(LISTS), protocol=Protocol(seen="both"))
    drawn = Protocol(seen="both", candidates=len(ITEMS) - 1, seed=5)
    sampled = evaluate(model, sessions_of(LISTS), protocol=drawn)
    assert sampled.ranks.equals(full.ranks)
    assert list(sampled.metrics.values()) == list(full.metrics.values())
    assert [f"sampled {metric}" for metric in full.metrics] == list(sampled.metrics)


@settings(max_examples=40)
@given(
    lists=st.lists(st.lists(st.sampled_from(ITEMS + "x"), min_size=2, max_size=9), min_size=1),
    seen=st.sampled_from(["keep", "remove", "both"]),
    ties=st.sampled_from(["optimistic", "expected", "pessimistic"]),
    candidates=st.sampled_from(["all", 3, 6]),
    distance=st.booleans(),
)
def test_auc_is_the_share_of_remaining_candidates_that_the_target_beats(
    lists, seen, ties, candidates, distance
):
    protocol = Protocol(seen=seen, ties=ties, candidates=candidates)
    model = model_of(Distance if distance else Constant)
    report = evaluate(model, sessions_of(lists), protocol=protocol)
    names = {"keep": [("auc", False)], "remove": [("auc", True)]}
    names["both"] = [*names["keep"], ("unseen auc", True)]
    half = {"optimistic": 0, "expected": 0.5, "pessimistic": 1}[ties]
    draw = None if candidates == "all" else CandidateDraw(protocol, len(ITEMS), COUNTS)
    for name, remove in names[seen]:
        found = report.values(protocol.metric("auc", unseen=name != "auc"))
        for case, row in enumerate(report.ranks.itertuples()):
            codes = [ITEMS.find(item) for item in lists[row.session]]
            target, history = codes[row.position], {c for c in codes[: row.position] if c >= 0}
            gone = history if remove else set()
            others = range(len(ITEMS))
            if draw is not None:
                others = draw.of(np.array([case]), np.array([target]))[0]
            rest = [item for item in others if item != target and item not in gone]
            last = [c for c in codes[: row.position] if c >= 0][-1:]
            score = COUNTS.tolist()
            if last:
                score = [-abs(i - last[0]) if distance else 0 for i in range(len(ITEMS))]
            if target < 0 or target in gone:
                assert found[case] == 0
                continue
            lost = sum(score[i] > score[target] for i in rest)
            lost += half * sum(score[i] == score[target] for i in rest)
            assert found[case] == pytest.approx(1 - lost / max(1, len(rest)))


def test_report_saved_and_loaded_keeps_how_many_items_were_removed(tmp_path):
    for seen, name in (("remove", "sampled auc"), ("both", "sampled unseen auc")):
        protocol = Protocol(seen=seen, candidates=5)
        report = evaluate(model_of(Constant), sessions_of(LISTS), protocol=protocol)
        report.save(tmp_path / "report")
        loaded = Report.load(tmp_path / "report").values(name)
        assert loaded.tolist() == report.values(name).tolist()
        assert set(loaded[report.ranks["position"] > 0]) <= {0.0, 0.5, 1.0}


def test_protocol_of_what_is_no_mapping_says_so():
    with pytest.raises(ValueError, match=r"as Protocol\.to_dict writes it, got int\.$"):
        Protocol.from_dict(3)
