"""The checks of every model, from simple to complex; each failure is one sentence."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphseq.data.graphs.dataset import Samples, SessionGraphDataset
from graphseq.data.sessions.sessions import Sessions
from graphseq.evaluation.evaluate import counts_of, evaluate
from graphseq.models.base import SessionModel
from graphseq.models.counting.counting import CountingModel
from graphseq.models.use.persistence import load
from graphseq.nn.chance import OwnDraws
from graphseq.random import stream, torch_stream
from graphseq.testing.examples import (
    NUM_ITEMS,
    QUERIES,
    graphs_of,
    sessions_of,
    training_sessions,
    with_times,
)
from graphseq.testing.subject import Subject
from graphseq.training.fit import fit

LONGEST = 4096
"""A ``max_length`` above this number of clicks is not checked."""


class ModelCheckError(AssertionError):
    """Raised if a model fails a check; the message is one sentence on what it does wrong."""


Check = Callable[[Subject], None]

CHECKS: dict[str, Check] = {}
"""Name of a check -> the check, in the order in which they run."""


def _check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def _ask(holds: bool | Tensor, sentence: str) -> None:
    if not bool(holds):
        raise ModelCheckError(sentence)


def _close(one: Tensor, other: Tensor) -> bool:
    """Equal up to rounding, with the same infinities."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def _apart(one: Tensor, other: Tensor) -> str:
    """The difference of two tensors, for a message."""
    if one.shape != other.shape:
        return f"shapes {list(one.shape)} and {list(other.shape)}"
    difference = (one.double() - other.double()).nan_to_num(nan=0.0).abs()
    return f"by up to {float(difference.max()):.3g}"


def _states(model: SessionModel, batch: Batch) -> Tensor | None:
    """The state after every click, if the model has such states."""
    try:
        return model.click_states(batch)
    except NotImplementedError:
        return None


def _scores(model: SessionModel, lists: Sequence[Sequence[int]]) -> Tensor:
    with torch.no_grad():
        return model.score(graphs_of(lists))


@_check
def declarations(subject: Subject) -> None:
    """The declarations of the class agree with the methods it defines."""
    family, model = subject.family, subject.new()
    _ask(
        model.num_items == NUM_ITEMS,
        f"{subject.name} built for {NUM_ITEMS} items has num_items={model.num_items}: hand "
        "num_items to super().__init__(num_items).",
    )
    counts = isinstance(model, CountingModel)
    _ask(
        counts == (model.samples == "counts"),
        f"{subject.name} declares samples={model.samples!r} and is "
        f"{'a' if counts else 'no'} CountingModel: a model that counts is one and declares "
        "samples='counts', no other is or does.",
    )
    has_states = family.click_states is not SessionModel.click_states
    _ask(
        has_states or not (model.causal or model.samples == "sessions"),
        f"{subject.name} declares samples={model.samples!r} and causal={model.causal}, but defines "
        "no click_states(batch): define it, or declare samples='prefixes' and causal=False.",
    )
    own_scores = family.score is not SessionModel.score
    _ask(
        own_scores or counts or family.forward is not SessionModel.forward,
        f"{subject.name} defines neither forward(batch) nor score(batch, items=None): define one.",
    )
    if not counts:
        _ask(
            any(parameter.requires_grad for parameter in model.parameters()),
            f"{subject.name} has no parameter that learns: register layers and "
            "torch.nn.Parameter in __init__, or inherit from CountingModel.",
        )


@_check
def arguments_kept(subject: Subject) -> None:
    """The constructor's arguments are stored as settings and rebuild the same model."""
    model = subject.new()
    named = list(inspect.signature(type(model).__init__).parameters.values())[1:]
    for parameter in named:
        _ask(
            parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            or parameter.name in model.settings,
            f"{subject.name}.settings lacks the argument {parameter.name!r}: build the model by "
            "its class, and leave settings and __new__ as they are.",
        )
    with OwnDraws(0):
        try:
            again = type(model)(**model.settings)
        except Exception as error:
            raise ModelCheckError(
                f"{subject.name} cannot be built again from its settings {model.settings} "
                f"({type(error).__name__}: {error}): let __init__ take each by its name."
            ) from error
    _ask(
        again.settings == model.settings,
        f"{subject.name} built from its settings {model.settings} has others: {again.settings}.",
    )
    _ask(
        repr(again) == repr(model),
        f"{subject.name} built from its settings is another: {again!r}, not {model!r}.",
    )
    mine, other = model.state_dict(), again.state_dict()
    for key in mine:
        _ask(
            key in other and torch.equal(mine[key], other[key]),
            f"{subject.name} built twice with the same arguments after torch.manual_seed(0) has "
            f"another {key}: let first weights depend on torch's random state alone.",
        )


@_check
def wrong_arguments(subject: Subject) -> None:
    """A wrong number of items raises an error when the model is built."""
    for wrong in (0, -1, 1.5, "12", None):
        try:
            subject.new(wrong)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            continue
        raise ModelCheckError(
            f"{subject.name} is built with num_items={wrong!r}: call super().__init__(num_items) "
            "first, which refuses it, and annotate num_items: int."
        )


@_check
def finite_scores(subject: Subject) -> None:
    """Every session has a finite score for some items, even of one click or repeated items."""
    model = subject.ready()
    scores = _scores(model, QUERIES)
    _ask(
        list(scores.shape) == [len(QUERIES), NUM_ITEMS],
        f"{subject.name}.score of {len(QUERIES)} sessions and {NUM_ITEMS} items has shape "
        f"{list(scores.shape)}, wanted {[len(QUERIES), NUM_ITEMS]}.",
    )
    _ask(scores.is_floating_point(), f"{subject.name}.score gives {scores.dtype}, wanted a float.")
    for session, row in zip(QUERIES, scores, strict=True):
        _ask(
            (row.isfinite() | row.isneginf()).all(),
            f"{subject.name} scores the session {session} with NaN or infinity: only -inf, for "
            "what is never recommended, is allowed besides numbers.",
        )
    _ask(scores.isfinite().any(), f"{subject.name} scores every item of every session with -inf.")
    _ask(
        _close(_scores(model, QUERIES), scores),
        f"{subject.name} in evaluation mode scores the same sessions differently the second time: "
        "use dropout and random draws in training mode only (self.training).",
    )


@_check
def shapes(subject: Subject) -> None:
    """Vectors and states have one row per session and per click, as wide as the item table."""
    model, batch = subject.ready(), graphs_of(QUERIES)
    if not model.scores_by_table:
        return
    with torch.no_grad():
        width = model.items.channels
        vectors = model(batch)
        sessions, clicks = batch.num_graphs, batch.num_clicks
        _ask(
            list(vectors.shape) == [sessions, width],
            f"{subject.name}.forward of {sessions} sessions gives shape {list(vectors.shape)}, "
            f"wanted {[sessions, width]}: one row per session, as wide as the item table.",
        )
        states = _states(model, batch)
        _ask(
            states is None or list(states.shape) == [clicks, width],
            f"{subject.name}.click_states of {clicks} clicks gives shape "
            f"{None if states is None else list(states.shape)}, wanted {[clicks, width]}: one row "
            "per click.",
        )


@_check
def alone_or_in_a_batch(subject: Subject) -> None:
    """A session has the same scores alone, in a batch, and in a batch of another order."""
    model = subject.ready()
    together = _scores(model, QUERIES)
    for session, row in zip(QUERIES, together, strict=True):
        alone = _scores(model, [session])
        _ask(
            _close(alone, row.unsqueeze(0)),
            f"{subject.name} scores the session {session} differently alone and in a batch "
            f"({_apart(alone, row.unsqueeze(0))}): nothing may pass from one session to another; "
            "batch.click_batch tells the session of each click.",
        )
    backwards = _scores(model, QUERIES[::-1]).flip(0)
    _ask(
        _close(backwards, together),
        f"{subject.name} scores sessions differently in another order "
        f"({_apart(backwards, together)}).",
    )


@_check
def empty_batch(subject: Subject) -> None:
    """An empty batch has no scores; a session without a known item gets popular items."""
    model = subject.ready()
    with torch.no_grad():
        scores = model.score(graphs_of([]))
    _ask(
        list(scores.shape) == [0, NUM_ITEMS],
        f"{subject.name}.score of no session has shape {list(scores.shape)}, wanted "
        f"{[0, NUM_ITEMS]}.",
    )
    _ask(model.recommend([]) == [], f"{subject.name} recommends something for no session.")
    answer = model.recommend([[]], k=3)
    _ask(len(answer[0]) == 3, f"{subject.name} recommends {answer} for a session without clicks.")


@_check
def candidates(subject: Subject) -> None:
    """Scores of candidates equal the columns of the scores of all items."""
    model, batch = subject.ready(), graphs_of(QUERIES)
    with torch.no_grad():
        everything = model.score(batch)
        shared = torch.tensor([4, 0, NUM_ITEMS - 1, 4])
        size = (len(QUERIES), 3)
        each = torch.randint(NUM_ITEMS, size, generator=torch_stream("model_checks", 3))
        for items, wanted in ((shared, everything[:, shared]), (each, everything.gather(1, each))):
            given = model.score(batch, items)
            _ask(
                _close(given, wanted),
                f"{subject.name}.score(batch, items) with items of shape {list(items.shape)} "
                f"differs from those columns of score(batch) ({_apart(given, wanted)}): items are "
                "[C], the same for all, or [num_sessions, C].",
            )


@_check
def gradients(subject: Subject) -> None:
    """Every parameter gets a gradient from the scores or from the training vectors."""
    model = subject.ready(with_times(training_sessions()))  # as the sessions that it scores
    if isinstance(model, CountingModel):
        return
    # Some parameters are behind a ReLU, which can be zero for a few sessions at this width: use
    # many.
    generator = torch_stream("model_checks", 1)
    lists = [torch.randint(NUM_ITEMS, (9,), generator=generator).tolist() for _ in range(20)]
    scores = model.score(graphs_of([*lists, *QUERIES]))
    # Weighted sums of scores, since a softmax does not see what is added to all of them.
    (scores * torch.rand(scores.shape, generator=generator)).sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    if without and model.samples != "pairs":
        model.train()
        batch = _training_batch(model, with_times(sessions_of([[*each, 0] for each in lists])))
        vectors, targets, *_ = model.training_rows(batch, torch_stream("model_checks", 0))
        known = targets >= 0
        scores = model.items.scores(vectors[known])
        torch.nn.functional.cross_entropy(scores, targets[known]).backward()
        without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    _ask(
        not without,
        f"{subject.name} never uses {', '.join(without)}: no gradient reaches it; use it, or do "
        "not make it a parameter.",
    )


@_check
def times(subject: Subject) -> None:
    """Scores that depend on the times of clicks are declared, since live sessions go by that."""
    model, batch = subject.ready(with_times(training_sessions())), graphs_of(QUERIES)
    with torch.no_grad():
        scores = model.score(batch)
        batch.click_time = batch.click_time * 2
        _ask(
            model.reads_times or _close(model.score(batch), scores),
            f"{subject.name} scores clicks at other times differently: declare reads_times = True, "
            "so that live sessions give it their times.",
        )


@_check
def item_codes(subject: Subject) -> None:
    """Renumbering the items renumbers the scores and changes nothing else."""
    order = torch.randperm(NUM_ITEMS, generator=torch_stream("model_checks", 2))
    code = order.argsort()  # new code of each item
    model = subject.ready()
    other = subject.ready(training_sessions(order.tolist()))
    tables = _item_tables(subject)
    state = dict(model.named_parameters())
    # The parts that attach computed from the catalog already use the new codes.
    kept = {**other.state_dict(), **state}
    for key, first in tables.items():
        rows = torch.arange(len(state[key]))
        rows[first : first + NUM_ITEMS] = first + order
        kept[key] = state[key][rows]
    other.load_state_dict(kept)
    renumbered = _scores(other, [code[torch.tensor(each)].tolist() for each in QUERIES])
    wanted = _scores(model, QUERIES)[:, order]
    _ask(
        _close(renumbered, wanted),
        f"{subject.name} scores items differently when they are numbered in another order "
        f"({_apart(renumbered, wanted)}): codes of items are names, not numbers to compute with; "
        "leave_out=['item_codes'] where that is meant.",
    )


def _item_tables(subject: Subject) -> dict[str, int]:
    """Parameters with a row for each item, and the row of the first item."""
    one, other = subject.new(), subject.new(NUM_ITEMS + 1)
    larger = dict(other.named_parameters())
    return {
        name: value.size(0) - NUM_ITEMS if _first_row_is_no_item(one, value) else 0
        for name, value in one.named_parameters()
        if value.dim() and larger[name].size(0) == value.size(0) + 1
    }


def _first_row_is_no_item(model: SessionModel, value: Tensor) -> bool:
    """Whether the table has extra rows before the items, such as a padding row."""
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.weight is value:
            return module.padding_idx == 0
    return False


@_check
def samples(subject: Subject) -> None:
    """Training rows match the declaration: per click or per session, each with its target."""
    model = subject.ready()
    if isinstance(model, CountingModel) or model.samples == "pairs":
        return
    model.train()
    lists = [[3, 5, 3, 0], [7, 1], [2, 2, 2]]
    batch = _training_batch(model, sessions_of(lists))
    vectors, targets, session = model.training_rows(batch, torch_stream("model_checks", 0))
    _ask(
        len(vectors) == len(targets) == len(session),
        f"{subject.name} trains on {len(vectors)} vectors with {len(targets)} targets of "
        f"{len(session)} sessions: each vector has one of both; vectors have shape "
        f"{list(vectors.shape)}, targets {list(targets.shape)}.",
    )
    _ask(
        (targets >= 0).any() and int(targets.max()) < NUM_ITEMS,
        f"{subject.name} trains on the targets {targets.tolist()}: they are codes below "
        f"{NUM_ITEMS}, -1 for an unknown item, -100 for none.",
    )
    _ask(
        vectors[targets >= 0].isfinite().all(),
        f"{subject.name} trains on vectors with NaN or infinity.",
    )


@_check
def causal(subject: Subject) -> None:
    """Click states equal the session vectors of prefixes if and only if ``causal`` is declared."""
    model = subject.ready()
    if isinstance(model, CountingModel):
        return
    session = QUERIES[-1]
    prefixes = [session[:end] for end in range(1, len(session) + 1)]
    with torch.no_grad():
        states = _states(model, graphs_of([session], users=[1]))
        if states is None:
            _ask(not model.causal, f"{subject.name} is causal, but has no state for every click.")
            return
        vectors = model(graphs_of(prefixes, users=[1] * len(prefixes)))
        equal = _close(states, vectors)
        _ask(
            equal or not model.causal,
            f"{subject.name} declares causal=True, but the states of the clicks of {session} "
            f"differ from the vectors of its prefixes ({_apart(states, vectors)}): an earlier "
            "state sees later clicks, or forward is not the last state; declare causal=False.",
        )
        _ask(
            not equal or model.causal,
            f"{subject.name} declares causal=False, but the states of its clicks are the vectors "
            "of its prefixes: declare causal=True, so that one pass evaluates a whole session.",
        )
        if model.samples == "sessions":
            later = [*session[:-1], (session[-1] + 1) % NUM_ITEMS]
            seen = model.click_states(graphs_of([later], users=[1]))[:-1]
            _ask(
                _close(seen, states[:-1]),
                f"{subject.name} is trained on the state of each click, but an earlier state "
                f"changes with the last click ({_apart(seen, states[:-1])}): it sees what it is to "
                "predict; declare samples='prefixes'.",
            )


@_check
def streaming(subject: Subject) -> None:
    """Scores from the streamed state equal the scores of the whole session."""
    model: Any = subject.ready()
    if isinstance(model, CountingModel):
        return
    _ask(
        not model.keeps_state or isinstance(model.initial_state(), Tensor),
        f"{subject.name} declares keeps_state=True, but has no initial_state() of a fixed size: "
        "define it with step(state, items), update_state(state, item) and score_state(state).",
    )
    session = QUERIES[-1]
    sizes = set()
    with torch.no_grad():
        state, earlier = model.initial_state(), torch.empty(0)
        for end, item in enumerate(session, 1):
            before = state
            state = model.update_state(state, item)
            scores = model.score_state(state)
            newest = session[max(0, end - (model.max_length or end)) : end]
            batch = graphs_of([newest], users=[-1])
            del batch["click_session"], batch["click_time"]  # only the item of a click is known
            wanted = model.score(batch)[0]
            _ask(
                _close(scores, wanted),
                f"{subject.name} scores {session[:end]} differently click by click and from its "
                f"start ({_apart(scores, wanted)}): update_state leaves another state.",
            )
            _ask(
                end == 1 or _close(model.score_state(before), earlier),
                f"{subject.name}.update_state changes its input state: return a new state.",
            )
            earlier = scores
            if isinstance(state, Tensor):
                sizes.add(tuple(state.shape))
        skipped = model.score_state(model.update_state(state, -1))
        _ask(
            _close(skipped, scores),
            f"{subject.name}.update_state with -1, an unknown item, changes the state: skip it.",
        )
    _ask(
        len(sizes) <= 1 or not model.keeps_state,
        f"{subject.name} declares keeps_state=True, but its states have shapes {sorted(sizes)}.",
    )


@_check
def evaluation(subject: Subject) -> None:
    """Evaluation ranks every target as ``score`` of the preceding clicks does."""
    model = subject.ready()
    sessions = sessions_of(QUERIES)
    places = evaluate(model, sessions).ranks[["better", "tied"]].to_numpy()
    dataset = SessionGraphDataset(sessions, "prefixes", max_length=model.max_length)
    with torch.no_grad():
        for sample, (above, beside) in enumerate(places.tolist()):
            graphs = dataset.batch([sample])
            better, tied = counts_of(model, model.score(graphs), graphs.y)
            found, wanted = (above, above + beside), (int(better), int(better + tied))
            _ask(
                found == wanted,
                f"{subject.name} has the target {int(graphs.y)} of {graphs.click_item.tolist()} on "
                f"places {found} in gs.evaluate and {wanted} by score(batch): check causal, "
                "max_length and score.",
            )


@_check
def more_items_than_exist(subject: Subject) -> None:
    """If more items are requested than exist, each is recommended once."""
    model = subject.ready()
    scores = _scores(model, QUERIES)
    answers = model.recommend([list(each) for each in QUERIES], k=3 * NUM_ITEMS)
    for session, answer, row in zip(QUERIES, answers, scores, strict=True):
        items = sorted(item for item, _ in answer)
        wanted = row.isfinite().nonzero().view(-1).tolist()
        _ask(
            items == wanted,
            f"{subject.name} asked for {3 * NUM_ITEMS} items after {session} gives {items}, wanted "
            f"each of {wanted} once.",
        )


@_check
def unknown_item(subject: Subject) -> None:
    """A click on an unknown item is skipped in recommend and in evaluate."""
    model, stranger = subject.ready(), NUM_ITEMS + 99
    known = model.recommend([[3, 5]], k=4)
    _ask(
        model.recommend([[3, stranger, 5]], k=4) == known,
        f"{subject.name} recommends other items when an unknown click lies between two.",
    )
    with_it, without = (
        evaluate(model, Sessions.from_lists([each])).ranks[["better", "tied"]].to_numpy()[-1]
        for each in ([stranger, 3, 5], [3, 5])
    )
    _ask(
        (with_it == without).all(),
        f"{subject.name} ranks a target differently after an unknown click.",
    )


@_check
def max_length(subject: Subject) -> None:
    """Clicks before the newest ``max_length`` change nothing, in training and in use."""
    model = subject.ready()
    length = model.max_length
    if length is None or length > LONGEST:
        return
    generator = stream("model_checks", 0)
    long = generator.integers(0, NUM_ITEMS, length + 4).tolist()
    cut = long[-length - 1 :]  # the newest clicks, and the target
    one, other = (model.recommend([each], k=NUM_ITEMS) for each in (long[:-1], cut[:-1]))
    _ask(
        [item for item, _ in one[0]] == [item for item, _ in other[0]],
        f"{subject.name} declares max_length={length}, but recommends other items after a longer "
        "session than after its newest clicks alone.",
    )
    last, alone = (
        evaluate(model, sessions_of([each])).ranks[["better", "tied"]].to_numpy()[-1]
        for each in (long, cut)
    )
    _ask(
        (last == alone).all(),
        f"{subject.name} declares max_length={length}, but evaluate ranks the target of a longer "
        "session otherwise than after its newest clicks alone.",
    )
    if model.samples not in ("prefixes", "pairs"):  # of others, each click has a window
        return
    trained = []
    for lists in ([long], [cut]):
        fresh = subject.ready()
        # What it counts over whole training sessions stays the same.
        object.__setattr__(fresh, "attach", lambda catalog, sessions=None: None)
        sessions = sessions_of(lists)
        sessions = replace(sessions, first_target=sessions.lengths - 1)
        fit(fresh, sessions, max_epochs=1, progress=False)
        trained.append(fresh.state_dict())
    for key, value in trained[0].items():
        _ask(
            _close(value.float(), trained[1][key].float()),
            f"{subject.name} declares max_length={length}, but training on a longer session "
            f"changes {key} otherwise than training on its newest clicks.",
        )


@_check
def save_and_load(subject: Subject) -> None:
    """A saved and loaded model has the same settings, scores and recommendations."""
    model = subject.ready()
    sessions = [*(list(each) for each in QUERIES), []]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "model"
        model.save(folder)
        loaded = load(folder, model_class=subject.family)
        _ask(
            loaded.settings == model.settings,
            f"{subject.name} loaded again has the settings {loaded.settings}, not "
            f"{model.settings}.",
        )
        one, other = _scores(loaded, QUERIES), _scores(model, QUERIES)
        _ask(
            torch.equal(one, other),
            f"{subject.name} loaded again scores differently ({_apart(one, other)}): what scores "
            "depend on is a parameter, a buffer (register_buffer) or an argument of __init__.",
        )
        _ask(
            loaded.recommend(sessions, k=5) == model.recommend(sessions, k=5),
            f"{subject.name} loaded again recommends other items.",
        )


@_check
def fit_again(subject: Subject) -> None:
    """A second fit equals a fresh one: counts are reset, and the same seed repeats the result."""
    model, fresh = subject.ready(), subject.new()
    sessions = training_sessions()
    if isinstance(model, CountingModel) and isinstance(fresh, CountingModel):
        other = Sessions.from_lists([[6, 7, 6], [9, 0]], vocabulary=sessions.vocabulary)
        other = replace(other, item_features=sessions.item_features)
        model.fit_counts(other)
        fresh.fit_counts(other)
        what = "fitted a second time remembers the first in"
    else:
        model = subject.new()
        for each in (model, fresh):
            fit(each, sessions, max_epochs=1, seed=3, progress=False)
        before = subject.new().state_dict()
        learned = any(
            not torch.equal(v, before[k]) for k, v in model.state_dict().items() if k in before
        )
        _ask(
            learned,
            f"{subject.name} has the same weights after an epoch of gs.fit: nothing is trained.",
        )
        what = "trained twice from the same weights with the same seed differs in"
    mine, other_state = model.state_dict(), fresh.state_dict()
    _ask(
        mine.keys() == other_state.keys(),
        f"{subject.name} fitted a second time has other buffers than a fresh one.",
    )
    for key, value in other_state.items():
        _ask(torch.equal(mine[key], value), f"{subject.name} {what} {key}.")


def _training_batch(model: SessionModel, sessions: Sessions) -> Batch:
    kind: Samples = "prefixes" if model.samples in ("prefixes", "pairs") else "sessions"
    dataset = SessionGraphDataset(sessions, kind)
    return dataset.batch(np.arange(len(dataset)))
