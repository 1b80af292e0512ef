"""A language model as a recommender, with a deterministic stand-in for the model."""

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
