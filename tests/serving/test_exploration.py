"""Bandits around a recommender: what they show, what they learn, what a log says of them."""

import sys

import numpy as np
import pytest

import graphseq as gs
from graphseq.serving import Explorer, Recommender, replay_policy
from graphseq.serving.exploration import POLICIES

ARMS = ["a", "b", "c", "d"]
TRUTH = {"a": 0.1, "b": 0.2, "c": 0.7, "d": 0.3}


class Fixed:
    """Recommends the same candidates to everyone."""

    def __init__(self, arms=ARMS):
        self.arms = arms

    def recommend(self, sessions, k=10):
        return [[(arm, 1.0) for arm in self.arms[:k]] for _ in sessions]


def play(policy, rounds=1500, seed=0, contexts=None, truth=None, **options):
    """Rewards of the choices, learned of in batches of 25."""
    explorer = Explorer(Fixed(), policy, seed=seed, **options)
    random = np.random.default_rng(seed)
    chosen = []
    for start in range(0, rounds, 25):
        rows = None if contexts is None else contexts[start : start + 25]
        items = [choice.item for choice in explorer.choose([["x"]] * 25, rows)]
        odds = [
            TRUTH[item] if truth is None else truth(item, rows[n]) for n, item in enumerate(items)
        ]
        explorer.learn(items, random.random(25) < odds, rows)
        chosen += items
    return chosen


@pytest.mark.parametrize("policy", ["epsilon_greedy", "ucb", "thompson"])
def test_policies_that_explore_find_the_best_arm(policy):
    last = play(policy, **({"alpha": 0.5} if policy == "ucb" else {}))[-500:]
    assert last.count("c") > 0.75 * len(last)


def test_greedy_can_stay_with_the_first_arm_that_pays():
    last = play("greedy")[-500:]
    assert len(set(last)) == 1  # nothing else is ever tried once one has paid


def test_frames_and_one_session_get_a_choice_per_session():
    frame = gs.Sessions.from_lists([["a", "b"], ["b", "c"], ["b"]]).to_frame()
    model = gs.models.Popularity(3)
    gs.fit(model, gs.Sessions.from_frame(frame))
    for recommender in (model, Recommender(model)):
        explorer = Explorer(recommender, "greedy", candidates=3)
        assert [choice.item for choice in explorer.choose(frame)] == ["b"] * 3
    assert [choice.candidates for choice in explorer.choose(["a", "b"])] == [("b", "a", "c")]


def test_random_shows_all_arms_evenly():
    chosen = play("random", 4000)
    for arm in ARMS:
        assert 900 < chosen.count(arm) < 1100


def test_linucb_shows_each_context_its_own_best_arm():
    contexts = np.eye(2)[np.arange(1500) % 2]

    def truth(item, context):
        return 0.8 if item == ("a" if context[0] else "d") else 0.1

    chosen = play("linucb", contexts=contexts, truth=truth)[-500:]
    even, odd = chosen[::2], chosen[1::2]
    assert even.count("a") > 0.8 * len(even)
    assert odd.count("d") > 0.8 * len(odd)


def test_propensities_are_the_shares_of_what_is_shown():
    explorer = Explorer(Fixed(), "epsilon_greedy", epsilon=0.4, seed=3)
    explorer.learn(["b", "a"], [1, 0])
    choices = explorer.choose([["x"]] * 4000)
    for arm, share in (("b", 0.6 + 0.1), ("a", 0.1), ("c", 0.1), ("d", 0.1)):
        shown = [choice for choice in choices if choice.item == arm]
        assert shown[0].propensity == pytest.approx(share)
        assert len(shown) / 4000 == pytest.approx(share, abs=0.03)
    assert Explorer(Fixed(), "random").choose([["x"]])[0].propensity == 0.25
    assert np.isnan(Explorer(Fixed(), "thompson").choose([["x"]])[0].propensity)


def test_logged_propensities_estimate_another_policy():
    """IPS on a log of epsilon-greedy finds what always showing c earns."""
    explorer = Explorer(Fixed(), "epsilon_greedy", epsilon=0.5, seed=1)
    explorer.learn(["b"], [1])
    choices = explorer.choose([["x"]] * 6000)
    random = np.random.default_rng(0)
    rewards = random.random(6000) < [TRUTH[choice.item] for choice in choices]
    new = [float(choice.item == "c") for choice in choices]
    found = gs.evaluation.snips(rewards, [choice.propensity for choice in choices], new)
    assert found.low <= TRUTH["c"] <= found.high


@pytest.mark.parametrize("policy", POLICIES)
def test_same_seed_same_choices(policy):
    contexts = np.ones((100, 2)) if policy == "linucb" else None
    truth = (lambda item, _: TRUTH[item]) if policy == "linucb" else None
    first, second = (play(policy, 100, contexts=contexts, truth=truth) for _ in range(2))
    assert first == second


def test_candidates_of_a_model_are_its_recommendations():
    log = gs.Sessions.from_lists([[0, 1, 2], [1, 2, 0], [2, 0]])
    model = gs.models.MarkovChain(3)
    gs.fit(model, log)
    (choice,) = Explorer(model, "greedy", candidates=2).choose([[1]])
    assert list(choice.candidates) == [item for item, _ in model.recommend([[1]], k=2)[0]]
    assert choice.item == choice.candidates[0]  # nothing learned: the recommender's best


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("unknown", ["z", None, 1, float("nan"), "A"])
def test_an_unknown_item_is_named_and_nothing_is_learned(unknown, wrapped):
    log = gs.Sessions.from_lists([["a", "b", "c"], ["b", "c", "a"], ["c", "a"]])
    model = gs.models.MarkovChain(3)
    gs.fit(model, log)
    explorer = Explorer(gs.serving.Recommender(model) if wrapped else model, "greedy")
    with pytest.raises(ValueError, match=r"at place 1 is unknown to the recommender: pass the ids"):
        explorer.learn(["c", unknown], [1, 1])
    best = explorer.choose([["a"]])[0]
    assert best.item == best.candidates[0]  # c was not learned, either
    explorer.learn(["c"], [1])  # a log may tell of an item that was never chosen here
    assert explorer.choose([["a"]])[0].item == "c"


def test_bad_input_of_a_bandit_is_named():
    for wrong in (3, None, "model"):
        with pytest.raises(TypeError, match="recommender is a model or another object with"):
            Explorer(wrong)
    explorer = Explorer(Fixed(), "ucb")
    with pytest.raises(ValueError, match=r"items is a list of items, got the text 'ab'"):
        explorer.learn("ab", [1, 0])
    with pytest.raises(ValueError, match=r"rewards are numbers, \[num_items\], got \['x'\]"):
        explorer.learn(["a"], ["x"])
    with pytest.raises(ValueError, match=r"rewards are finite numbers, .* got nan at \[1\]"):
        explorer.learn(["a", "b"], [1, None])
    linear = Explorer(Fixed(), "linucb")
    with pytest.raises(ValueError, match=r"contexts are numbers, \[1, d\], got \[\['x'\]\]"):
        linear.choose([["a"]], [["x"]])
    with pytest.raises(ValueError, match=r"contexts are finite .* got inf at \[0, 1\]"):
        linear.choose([["a"]], [[1, np.inf]])
    with pytest.raises(ValueError, match=r"got shape \[1, 0\]"):
        linear.choose([["a"]], np.zeros((1, 0)))


def test_bad_logs_of_a_replay_are_named_before_anything_is_learned():
    explorer = Explorer(Fixed(["c"]), "ucb")
    with pytest.raises(ValueError, match="this one has no case"):
        replay_policy(explorer, [], [], [])
    with pytest.raises(ValueError, match=r"got nan at \[1\]"):
        replay_policy(explorer, [["x"]] * 2, ["c", "a"], [1, np.nan])
    with pytest.raises(ValueError, match="level must lie in"):
        replay_policy(explorer, [["x"]], ["c"], [1], level=2)
    linear = Explorer(Fixed(["c"]), "linucb")
    with pytest.raises(ValueError, match=r"contexts are finite numbers, \[2, d\], got shape \[5"):
        replay_policy(linear, [["x"]] * 2, ["c", "a"], [1, 0], np.ones((5, 2)))


def test_replay_of_a_random_log_finds_what_a_policy_earns():
    random = np.random.default_rng(0)
    shown = [ARMS[n] for n in random.integers(0, 4, 8000)]
    rewards = (random.random(8000) < [TRUTH[item] for item in shown]).astype(float)
    found = replay_policy(Explorer(Fixed(["c"]), "greedy"), [["x"]] * 8000, shown, rewards)
    assert found.low <= TRUTH["c"] <= found.high
    assert found.matched == shown.count("c")
    assert found.total == 8000


def test_bad_input_is_named(monkeypatch):
    explorer = Explorer(Fixed(), "thompson")
    with pytest.raises(ValueError, match=r"rewards of 0 or 1, got 0\.5"):
        explorer.learn(["a"], [0.5])
    with pytest.raises(ValueError, match="one reward per item"):
        explorer.learn(["a"], [1, 0])
    with pytest.raises(ValueError, match=r"rewards are finite numbers, .* got nan at \[1\]"):
        explorer.learn(["a", "b"], [1, np.nan])
    with pytest.raises(ValueError, match="needs arms, and the recommender gives none"):
        Explorer(Fixed([])).choose([["x"]])
    with pytest.raises(ValueError, match="pass contexts"):
        Explorer(Fixed(), "linucb").choose([["x"]])
    linucb = Explorer(Fixed(), "linucb")
    linucb.learn(["a"], [1], [[1.0, 0.0]])
    with pytest.raises(ValueError, match="2 columns before, now 3"):
        linucb.choose([["x"]], [[1.0, 0.0, 0.0]])
    for options, said in (
        ({"policy": "softmax"}, "policy is"),
        ({"epsilon": 1.0}, "epsilon"),
        ({"alpha": -1.0}, "alpha must be"),
        ({"alpha": "x"}, "alpha must be a finite number of at least 0, got 'x'"),
        ({"candidates": 0}, "candidates must be at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            Explorer(Fixed(), **options)
    with pytest.raises(ValueError, match="no case matches"):
        replay_policy(Explorer(Fixed(["c"]), "greedy"), [["x"]], ["a"], [1.0])
    with pytest.raises(ValueError, match="one session, one item and one reward"):
        replay_policy(explorer, [["x"]], ["a", "b"], [1.0])
    monkeypatch.setitem(sys.modules, "mabwiser.mab", None)
    with pytest.raises(ValueError, match=r"pip install 'graphseq\[exploration\]'"):
        Explorer(Fixed())


@pytest.mark.parametrize("policy", ["ucb", "linucb", "thompson"])
def test_one_call_spreads_over_items_of_which_nothing_is_known(policy):
    contexts = np.ones((40, 2)) if policy == "linucb" else None
    choices = Explorer(Fixed(), policy).choose([["x"]] * 40, contexts)
    assert {choice.item for choice in choices} == set(ARMS)
