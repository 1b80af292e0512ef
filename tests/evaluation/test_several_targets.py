"""Several targets: every relevant item by a loop, baskets, ties, and PyG's own metrics."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.metrics import LinkPredNDCG, LinkPredPrecision, LinkPredRecall

import graphseq as gs
from graphseq.evaluation import Protocol, evaluate_several, mean_interval, several_targets
from graphseq.models.base import SessionModel

ITEMS = 8
VOCABULARY = gs.data.Vocabulary(list("abcdefgh"))
TRAIN = gs.Sessions.from_lists([list("aabbbcdefgh")], vocabulary=VOCABULARY)
TABLE = torch.randn(ITEMS, ITEMS, generator=torch.Generator().manual_seed(1)).double()


class Fixed(SessionModel):
    """Scores of the next item by the last one, from a table."""

    def __init__(self, table):
        super().__init__(ITEMS)
        self.table = table
        self.catalog = TRAIN.catalog()

    def score(self, batch, items=None):
        return self.table[batch.click_item[batch.click_ptr[1:] - 1]]


def sessions_of(lists, times=None):
    sessions = gs.Sessions.from_lists([list(clicks) for clicks in lists], vocabulary=VOCABULARY)
    return sessions if times is None else replace(sessions, time=np.array(times, dtype=float))


def scores_before(table, codes):
    known = [code for code in codes if code >= 0]
    return table[known[-1]].tolist() if known else TRAIN.catalog().counts.tolist()


def naive(table, lists, k, exclude_seen, ties="expected", last=None, min_history=0):
    """Recall, precision and NDCG of all remaining clicks, each tie by its rule, by loops."""
    rows = []
    for clicks in lists:
        codes = ["abcdefgh".find(click) for click in clicks]
        for position in range(1, len(codes))[-last if last else None :]:
            if position < min_history:
                continue
            scores = scores_before(table, codes[:position])
            rest = codes[position:]
            wanted = [*{code for code in rest if code >= 0}, *(-1 for code in rest if code < 0)]
            gone = set(codes[:position]) if exclude_seen else set()
            found, gain = 0.0, 0.0
            for item in wanted:
                if item < 0 or item in gone:
                    continue
                others = [s for j, s in enumerate(scores) if j != item and j not in gone]
                better = sum(s > scores[item] for s in others)
                tied = sum(s == scores[item] for s in others)
                places = range(better + 1, better + tied + 2)
                if ties != "expected":  # one list, in which targets lead or follow the rest
                    last_in_tie = {j for j in range(ITEMS) if (j in wanted) == (ties[0] == "p")}
                    order = (j for j in range(ITEMS) if j not in gone)
                    listed = sorted(order, key=lambda j: (-scores[j], j in last_in_tie))
                    places = [listed.index(item) + 1]
                found += sum(place <= k for place in places) / len(places)
                gain += sum(1 / math.log2(p + 1) for p in places if p <= k) / len(places)
            ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(wanted)) + 1))
            rows.append((found / len(wanted), found / k, gain / ideal))
    return np.array(rows).reshape(-1, 3)


@settings(max_examples=40)
@given(
    lists=st.lists(st.text("abcdefghxy", min_size=2, max_size=7), min_size=1, max_size=5),
    k=st.integers(1, 9),
    exclude_seen=st.booleans(),
    ties=st.booleans(),
)
def test_remaining_clicks_of_any_sessions_equal_a_naive_loop(lists, k, exclude_seen, ties):
    table = TABLE.round() if ties else TABLE
    report = evaluate_several(
        Fixed(table), sessions_of(lists), ks=k, exclude_seen=exclude_seen, batch_size=3
    )
    expected = naive(table, lists, k, exclude_seen)
    for kind, values in zip(("recall", "precision", "ndcg"), expected.T, strict=True):
        assert report.values(f"{kind}@{k}") == pytest.approx(values)
        assert report.metrics[f"{kind}@{k}"] == pytest.approx(values.mean())


@settings(max_examples=40)
@given(
    lists=st.lists(st.text("abcdefghxy", min_size=2, max_size=7), min_size=1, max_size=5),
    k=st.integers(1, 9),
    protocol=st.builds(
        Protocol,
        targets=st.sampled_from(["all", "last", 1, 2, 4]),
        seen=st.sampled_from(["keep", "remove", "both"]),
        ties=st.sampled_from(["expected", "optimistic", "pessimistic"]),
        min_history=st.integers(0, 3),
    ),
)
def test_several_targets_under_any_protocol_equal_a_naive_loop(lists, k, protocol):
    table = TABLE.round()
    last = None if protocol.targets == "all" else int(str(protocol.targets).replace("last", "1"))
    rules = {"keep": [""], "remove": [""], "both": ["", "unseen "]}[protocol.seen]
    everything = naive(table, lists, k, False, last=last)
    if not naive(table, lists, k, False, last=last, min_history=protocol.min_history).size:
        with pytest.raises(ValueError, match=f"all {len(everything)} cases have fewer clicks"):
            evaluate_several(Fixed(table), sessions_of(lists), ks=k, protocol=protocol)
        return
    report = evaluate_several(
        Fixed(table), sessions_of(lists), ks=k, protocol=protocol, batch_size=3
    )
    for rule in rules:
        removed = protocol.seen == "remove" or rule == "unseen "
        expected = naive(table, lists, k, removed, protocol.ties, last, protocol.min_history)
        for kind, values in zip(("recall", "precision", "ndcg"), expected.T, strict=True):
            assert report.values(f"{rule}{kind}@{k}") == pytest.approx(values)
            assert report.metrics[f"{rule}{kind}@{k}"] == pytest.approx(values.mean())
    assert report.num_left_out == len(everything) - report.num_cases
    assert len(report.metrics) == 3 * len(rules)


def test_last_basket_is_the_last_one_not_the_last_click():
    # Baskets: a | b c b | d e, and a session whose only later basket is c d.
    sessions = sessions_of(["abcbde", "acd"], [0, 5, 5, 5, 9, 9, 0, 3, 3])
    last = evaluate_several(Fixed(TABLE), sessions, "basket", protocol=Protocol(targets="last"))
    assert last.cases.values.tolist() == [[0, 4, 2], [1, 1, 2]]
    two = evaluate_several(Fixed(TABLE), sessions, "basket", protocol=Protocol(targets=2))
    assert two.cases["position"].tolist() == [1, 4, 1]
    long = Protocol(min_history=2)
    late = evaluate_several(Fixed(TABLE), sessions, "basket", protocol=long)
    assert (late.cases["position"].tolist(), late.num_left_out) == ([4], 2)
    whole = evaluate_several(Fixed(TABLE), sessions, "basket")
    kept = late.values("recall@5")
    assert kept.tolist() == whole.values("recall@5")[[1]].tolist()


def test_several_targets_equal_the_metrics_of_pyg():
    generator = np.random.default_rng(0)
    lists = ["".join(generator.choice(list("abcdefgh"), 6)) for _ in range(30)]
    report = evaluate_several(Fixed(TABLE), sessions_of(lists), ks=(1, 3))
    pairs, lists_of = [], []
    for clicks in lists:
        codes = ["abcdefgh".index(click) for click in clicks]
        for position in range(1, len(codes)):
            pairs += [(len(lists_of), item) for item in set(codes[position:])]
            lists_of.append(TABLE[codes[position - 1]].argsort(descending=True))
    truth = torch.tensor(pairs).T
    for k in (1, 3):
        for kind, metric in (
            ("recall", LinkPredRecall(k)),
            ("precision", LinkPredPrecision(k)),
            ("ndcg", LinkPredNDCG(k)),
        ):
            metric.update(torch.stack(lists_of), truth)
            assert report.metrics[f"{kind}@{k}"] == pytest.approx(float(metric.compute()))


def test_next_baskets_are_the_clicks_of_one_time():
    # Baskets: a | b c b | d x ; the targets of the two cases: {b, c}, {d, unknown}.
    sessions = sessions_of(["abcbdx"], [0, 5, 5, 5, 9, 9])
    report = evaluate_several(Fixed(TABLE), sessions, "basket", ks=8)
    assert report.cases.values.tolist() == [[0, 1, 2], [0, 4, 2]]
    assert report.values("recall@8").tolist() == [1.0, 0.5]
    assert report.values("precision@8").tolist() == [2 / 8, 1 / 8]
    # The case before d sees all of a, b, c, b.
    place = (TABLE[1] > TABLE[1, 3]).sum()
    assert report.places["better"].tolist()[2:] == [8, int(place)]
    assert report.num_cases == 2
    assert repr(report).endswith("basket, num_cases=2)")


def test_next_baskets_of_two_sessions_at_one_time_stay_apart():
    sessions = sessions_of(["ab", "cd"], [0, 1, 1, 2])
    report = evaluate_several(Fixed(TABLE), sessions, "basket", ks=8)
    assert report.cases.values.tolist() == [[0, 1, 1], [1, 1, 1]]


def test_several_targets_report_has_intervals_and_any_k():
    report = evaluate_several(Fixed(TABLE), sessions_of(["abcd", "bca", "hgfe"]), ks=(2,))
    assert list(report.metrics) == ["recall@2", "precision@2", "ndcg@2"]
    frame = report.to_frame()
    assert (
        frame.loc["recall@2", "low"] <= report.metrics["recall@2"] <= frame.loc["recall@2", "high"]
    )
    assert (report.values("recall@8") == 1).all()


LISTS = ["abcad", "bdd", "hgfe", "cab", "fghab", "ba"]


@pytest.mark.parametrize("level", [0.3, 0.6])
@pytest.mark.parametrize("cluster", ["session", "user"])
def test_interval_of_several_targets_is_of_its_level_and_clusters(
    cluster: str, level: float
) -> None:
    users = np.array([0, 0, 1, 1, 2, 2], dtype=np.int32)
    names = gs.data.Vocabulary(["u", "v", "w"])
    log = replace(sessions_of(LISTS), users=users, user_vocabulary=names)
    found = evaluate_several(Fixed(TABLE), log, ks=3, cluster=cluster)
    session = np.repeat(np.arange(6), log.lengths - 1)
    groups = session if cluster == "session" else users[session]
    expected = mean_interval(found.values("recall@3"), groups, level=level)
    assert found.confidence_interval("recall@3", level) == pytest.approx(expected)


@pytest.mark.parametrize("k", range(1, 9))
def test_interval_of_several_targets_lies_within_0_and_1(k: int) -> None:
    found = evaluate_several(Fixed(TABLE), sessions_of(["ab", "ba"]), ks=k)
    low, high = found.confidence_interval(f"recall@{k}", 0.999)
    assert 0 <= low <= high <= 1


@pytest.mark.parametrize("ties", ["expected", "optimistic", "pessimistic"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_lists_of_equal_scores_hold_no_more_targets_than_places(ties: str, k: int) -> None:
    report = evaluate_several(
        Fixed(torch.zeros(ITEMS, ITEMS)),
        sessions_of(["abc", "adeb"]),
        ks=k,
        protocol=Protocol(ties=ties, seen="remove"),
    )
    for kind in ("recall", "precision", "ndcg"):
        low, high = report.confidence_interval(f"{kind}@{k}")
        assert 0 <= low <= high <= 1
        assert ((report.values(f"{kind}@{k}") >= 0) & (report.values(f"{kind}@{k}") <= 1)).all()


def test_several_targets_of_any_block_size_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate_several(Fixed(TABLE), sessions_of(LISTS), ks=3)
    monkeypatch.setattr(several_targets, "MOST_SCORES", 16)
    assert evaluate_several(Fixed(TABLE), sessions_of(LISTS), ks=3).places.equals(whole.places)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, s: evaluate_several(m, s, "all"), "relevant is 'remaining' or 'basket'"),
        (lambda m, s: evaluate_several(m, s, "basket"), "Baskets are clicks at one time"),
        (lambda m, s: evaluate_several(m, s, ks=0), "ks must be whole numbers"),
        (lambda m, s: evaluate_several(m, s).values("mrr@3"), "are recall@k, precision@k and ndcg"),
        (lambda m, s: evaluate_several(m, s).values("unseen recall@3"), "seen='both'"),
        (
            lambda m, s: evaluate_several(m, s, protocol=Protocol(candidates=2)),
            "ranked among all items, got a protocol with candidates=2",
        ),
        (lambda m, s: evaluate_several(m, s, protocol="none"), "There is no protocol 'none'"),
        (
            lambda m, s: evaluate_several(m, sessions_of(["ab"], [1, 1]), "basket"),
            "No target begins a basket",
        ),
    ],
)
def test_several_targets_of_misfits_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(Fixed(TABLE), sessions_of(["abc"]))
