"""A language model as a recommender, with a deterministic stand-in for the model."""

import pandas as pd
import pytest

import graphseq as gs
from graphseq.serving import PromptRecommender

TITLES = {1: "Toy Story (1995)", 2: "Jaws", 3: "Léon: The Professional (1994)", 4: "Heat (1995)"}


def test_the_prompt_holds_the_history_and_the_answer_is_grounded():
    prompts = []

    def generate(prompt):
        prompts.append(prompt)
        return "1. Leon - the professional\n2) An Invented Film\n- HEAT\n"

    recommender = PromptRecommender(TITLES, generate, retries=0)
    assert recommender.recommend([[1, 2, 777]], k=2) == [[(3, 1.0), (4, 0.5)]]
    assert prompts[0].index("- Toy Story (1995)") < prompts[0].index("- Jaws")
    assert "777" not in prompts[0]
    assert "Name 2 others" in prompts[0]
    usage = recommender.usage
    assert (usage.calls, usage.titles, usage.unknown_titles, usage.failed_calls) == (1, 3, 1, 0)
    assert usage.prompt_characters == len(prompts[0])


def test_a_title_with_a_slip_is_found_and_another_film_is_not():
    recommender = PromptRecommender(TITLES, lambda _: "Toy Storry\nHeath Ledger", retries=0)
    assert recommender.recommend([[2]], k=3) == [[(1, 1.0)]]


def test_items_of_the_session_and_repeats_are_left_out():
    recommender = PromptRecommender(TITLES, lambda _: "Jaws\nHeat\nHeat (1995)", retries=0)
    assert recommender.recommend([[2]], k=3) == [[(4, 1.0)]]


@pytest.mark.parametrize("answer", ["", "   \n", None, 7, "no such film\nnor this one"])
def test_nothing_and_junk_are_retried_then_filled_by_the_fallback(answer):
    log = gs.Sessions.from_lists([[1, 2, 3], [2, 3, 4], [1, 3]])
    model = gs.models.MarkovChain(4)
    gs.fit(model, log)
    recommender = PromptRecommender(TITLES, lambda _: answer, model, retries=2)
    found = recommender.recommend([[1, 2]], k=2)[0]
    assert [item for item, _ in found] == [3, 4]
    assert recommender.usage.calls == 3
    assert recommender.usage.filled == 2
    assert recommender.usage.failed_calls == (0 if answer and "film" in str(answer) else 3)


def test_a_model_that_raises_costs_a_call_and_loses_nothing(caplog):
    def generate(_):
        raise TimeoutError("no answer in 10 s")

    recommender = PromptRecommender(TITLES, generate, retries=1)
    assert recommender.recommend([[1], [2]], k=2) == [[], []]
    assert recommender.usage.failed_calls == 4
    assert "no answer in 10 s" in caplog.text


def test_named_items_stand_above_those_of_the_fallback():
    class Fixed:
        def recommend(self, sessions, k=10):
            return [[(item, 1.0) for item in (1, 2, 3, 4)][:k] for _ in sessions]

    recommender = PromptRecommender(TITLES, lambda _: "Heat", Fixed(), retries=0)
    assert [item for item, _ in recommender.recommend([[2]], k=3)[0]] == [4, 1, 3]


def test_a_session_without_a_title_asks_nothing():
    recommender = PromptRecommender(TITLES, lambda _: "Heat")
    assert recommender.recommend([[99], []], k=1) == [[], []]
    assert recommender.usage.calls == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"titles": {}}, "needs the titles"),
        ({"prompt": "What next?"}, "no place {history}"),
        ({"max_history": 0}, "max_history must be at least 1"),
        ({"closeness": 0.0}, "closeness lies in"),
    ],
)
def test_bad_arguments_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        PromptRecommender(**{"titles": TITLES, "generate": str, **options})


def test_what_cannot_be_called_is_named():
    with pytest.raises(TypeError, match="generate is a function from a prompt to a text, got 'x'"):
        PromptRecommender(TITLES, "x")


@pytest.mark.parametrize(
    "answer",
    [
        '["Heat", "Jaws"]',
        'Here they are:\n```json\n["Heat (1995)", "Jaws"]\n```',
        "1. **Heat** (1995) - a heist\n2. **Jaws**: a shark",
        "“Heat” is grim.\n* Jaws (1975), of course",
    ],
)
def test_answers_of_other_forms_are_read(answer):
    recommender = PromptRecommender(TITLES, lambda _: answer, retries=0)
    assert recommender.recommend([[1]], k=2) == [[(4, 1.0), (2, 0.5)]]


@pytest.mark.parametrize("sequel", ["Jaws: The Revenge", "Jaws - The Revenge", "Heat 2 [1997]"])
def test_a_sequel_that_the_catalog_lacks_is_not_its_first_part(sequel):
    recommender = PromptRecommender(TITLES, lambda _: sequel, retries=0)
    assert recommender.recommend([[1]], k=2) == [[]]
    assert recommender.usage.unknown_titles == 1


def test_films_of_one_title_are_told_by_their_year_and_by_what_was_seen():
    titles = {"old": "Sabrina (1954)", "new": "Sabrina (1995)", "x": "Heat"}
    named = PromptRecommender(titles, lambda _: "Sabrina (1995)", retries=0)
    assert named.recommend([["x"], ["new"]], k=1) == [[("new", 1.0)], [("old", 1.0)]]
    bare = PromptRecommender(titles, lambda _: "Sabrina\nSabrina", retries=0)
    assert bare.recommend([["x"], ["old"]], k=2) == [
        [("old", 1.0), ("new", 0.5)],
        [("new", 1.0)],
    ]


def test_items_without_a_title_are_counted_and_never_named(caplog):
    titles = {1: "Toy Story", 2: None, 3: float("nan"), 4: "  "}
    recommender = PromptRecommender(titles, lambda _: "nan\nNone\nToy Story", retries=0)
    assert recommender.recommend([[2]], k=3) == [[]]  # no title to ask with
    assert "3 of 4 items have no title" in caplog.text
    assert recommender.usage.calls == 0
    assert PromptRecommender(pd.Series(TITLES), lambda _: "Jaws").titles == TITLES


def test_what_is_no_recommender_and_no_list_of_sessions_is_named():
    with pytest.raises(TypeError, match="titles maps item ids to titles"):
        PromptRecommender(["Jaws"], lambda _: "")
    with pytest.raises(ValueError, match="needs the titles of the items, and got none"):
        PromptRecommender({1: None}, lambda _: "")
    with pytest.raises(TypeError, match="fallback is a model or another object"):
        PromptRecommender(TITLES, lambda _: "", fallback=3)
    recommender = PromptRecommender(TITLES, lambda _: "Jaws")
    for flat, message in (("ab", "sessions are lists"), (["ab"], "Session 0 is"), ([1, 2], "0 is")):
        with pytest.raises(ValueError, match=message):
            recommender.recommend(flat)
    log = gs.Sessions.from_lists([[1, 3], [2]])
    assert recommender.recommend(log, k=1) == [[(2, 1.0)], []]
