"""Exploration around any recommender: which of its candidates to show, to learn what is clicked.

A recommender that always shows its best guess never learns of the others. Here each candidate of a
session is an arm of a bandit; the package ``mabwiser`` keeps what was learned of the arms.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphseq.arguments import check_choice, check_not_negative, check_shares, whole
from graphseq.evaluation.significance import mean_interval
from graphseq.random import stream
from graphseq.serving.answers import is_one_session
from graphseq.serving.extras import need
from graphseq.serving.recommender import Recommender

Policy = Literal["greedy", "random", "epsilon_greedy", "ucb", "thompson", "linucb"]
POLICIES: tuple[Policy, ...] = ("greedy", "random", "epsilon_greedy", "ucb", "thompson", "linucb")


class Recommends(Protocol):
    """A model or a :class:`~graphseq.serving.Recommender`."""

    def recommend(self, sessions: Any, k: int = ...) -> Any: ...


@dataclass(frozen=True)
class Choice:
    """What is shown to one session.

    Args:
        item: The item, in the recommender's ids.
        propensity: The probability with which the policy shows it, for off-policy estimates
            (:func:`graphseq.evaluation.ips`); NaN where it has no closed form (``"thompson"``).
        candidates: What could have been shown, the recommender's best first.
    """

    item: Hashable
    propensity: float
    candidates: tuple[Hashable, ...]


class Explorer:
    r"""Shows one of a recommender's candidates, and learns from what comes of it.

    - ``"greedy"``: the candidate with the largest mean reward so far.
    - ``"random"``: any, with the same probability.
    - ``"epsilon_greedy"``: the greedy one, or with probability ``epsilon`` any.
    - ``"ucb"``: the largest mean plus ``alpha`` :math:`\sqrt{2 \ln N / n}` (Auer et al., 2002);
      those never shown come first.
    - ``"thompson"``: the largest draw from the Beta posterior of each; rewards are 0 or 1.
    - ``"linucb"``: the largest upper bound of a linear model of the context per item (Li et al.,
      WWW 2010).

    Candidates that are equal stand in the order of the recommender, which is the prior. Sessions of
    one call see what the call showed before: a new item is not tried by all of them at once.

    Args:
        recommender: A model or a :class:`~graphseq.serving.Recommender`.
        policy: One of these.
        candidates: Items of the recommender that may be shown.
        epsilon: Share of random choices of ``"epsilon_greedy"``, in [0, 1).
        alpha: Width of the bounds of ``"ucb"`` and ``"linucb"``, at least 0.
        seed: Of all that is drawn.

    Raises:
        ValueError: If the policy is unknown, an argument is out of range, or ``mabwiser`` is not
            installed.
        TypeError: If the recommender has no ``recommend``.
    """

    def __init__(
        self,
        recommender: Recommends,
        policy: Policy = "thompson",
        *,
        candidates: int = 20,
        epsilon: float = 0.1,
        alpha: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not callable(getattr(recommender, "recommend", None)):
            raise TypeError(
                f"recommender is a model or another object with recommend(sessions, k), got "
                f"{recommender!r}."
            )
        check_choice("policy", policy, POLICIES)
        check_shares(epsilon=epsilon)
        check_not_negative(alpha=alpha)
        self.recommender = recommender
        self.policy = policy
        self.candidates = whole("candidates", candidates)
        self.epsilon = epsilon
        self.alpha = alpha
        self.seed = whole("seed", seed, at_least=0)
        self._mab = need("mabwiser.mab", "Exploration", extra="exploration")
        self._bandit: Any = None
        self._waiting: dict[Hashable, int] = {}  # shown, and nothing learned of the item yet
        self._width: int | None = None
        self._random = stream("exploration", self.seed)

    def choose(self, sessions: Any, contexts: ArrayLike | None = None) -> list[Choice]:
        """What to show to each session.

        Args:
            sessions: Whatever ``recommend`` takes; there is one choice per session.
            contexts: What ``"linucb"`` reads, [num_sessions, d]; the others read none.

        Raises:
            ValueError: If a session has no candidate, or contexts are missing or of another shape.
        """
        lists = self._candidates(sessions)
        rows = self.checked_contexts(contexts, len(lists))
        made = []
        for number, scored in enumerate(lists):
            arms = tuple(item for item, _ in scored)
            if not arms:
                raise ValueError(
                    f"A bandit needs arms, and the recommender gives none for session {number}: "
                    "loosen its filters."
                )
            choice = self._choice(arms, None if rows is None else rows[number])
            self._waiting[choice.item] = self._waiting.get(choice.item, 0) + 1
            made.append(choice)
        return made

    def _candidates(self, sessions: Any) -> list[list[tuple[Hashable, float]]]:
        """One list per session, also where a recommender would give a frame or one list."""
        options: dict[str, Any] = {}
        if isinstance(self.recommender, Recommender):
            sessions = [sessions] if is_one_session(sessions) else sessions
            options["as_frame"] = False
        return list(self.recommender.recommend(sessions, k=self.candidates, **options))

    def learn(
        self,
        items: Sequence[Hashable],
        rewards: ArrayLike,
        contexts: ArrayLike | None = None,
    ) -> None:
        """Learns from what was shown.

        Args:
            items: Items shown, in the recommender's ids; a log may name some that were never chosen
                here.
            rewards: What came of each, [len(items)]; of ``"thompson"`` 0 or 1.
            contexts: Those given to :meth:`choose`, [len(items), d].

        Raises:
            ValueError: If lengths differ, a reward is not finite, or not 0 or 1 for ``"thompson"``,
                or an item is unknown to the recommender; nothing is learned then.
        """
        if isinstance(items, str):
            raise ValueError(f"items is a list of items, got the text {items!r}: pass [{items!r}].")
        reward = _numbers("rewards", rewards, "[num_items]")
        if reward.shape != (len(items),):
            raise ValueError(f"There is one reward per item, [{len(items)}], got {reward.shape}.")
        if self.policy == "thompson" and not np.isin(reward, (0.0, 1.0)).all():
            bad = reward[~np.isin(reward, (0.0, 1.0))][0]
            raise ValueError(f"Thompson sampling takes rewards of 0 or 1, got {bad}.")
        rows = self.checked_contexts(contexts, len(items))
        self._refuse_unknown(items)
        for item in items:
            self._waiting.pop(item, None)
        if not len(items) or self.policy == "random":
            return
        new = self._bandit is None
        if new:
            self._bandit = self._mab.MAB(
                arms=list(dict.fromkeys(items)), learning_policy=self._learning(), seed=self.seed
            )
        for item in dict.fromkeys(items):
            if item not in self._bandit.arms:
                self._bandit.add_arm(item)
        feed = self._bandit.fit if new else self._bandit.partial_fit
        feed(list(items), reward, *([] if rows is None else [rows]))

    def _refuse_unknown(self, items: Sequence[Hashable]) -> None:
        """Refuses ids that the recommender's catalog lacks; one without a catalog knows all."""
        catalog = getattr(getattr(self.recommender, "model", self.recommender), "catalog", None)
        if catalog is None:
            return
        unknown = np.flatnonzero(catalog.items.encode(list(items)) < 0)
        if len(unknown):
            place = int(unknown[0])
            raise ValueError(
                f"Item {items[place]!r} at place {place} is unknown to the recommender: pass the "
                "ids that choose gave, as choice.item, or grow the recommender first."
            )

    def _choice(self, arms: tuple[Hashable, ...], context: NDArray[np.float64] | None) -> Choice:
        number = len(arms)
        if self.policy == "random":
            return Choice(arms[int(self._random.integers(number))], 1 / number, arms)
        values = self._values(arms, context)
        best = int(np.argmax(values))
        if self.policy == "epsilon_greedy":
            explores = self._random.random() < self.epsilon
            chosen = int(self._random.integers(number)) if explores else best
            share = self.epsilon / number + (1 - self.epsilon) * (chosen == best)
            return Choice(arms[chosen], float(share), arms)
        return Choice(arms[best], float("nan") if self.policy == "thompson" else 1.0, arms)

    def _values(
        self, arms: tuple[Hashable, ...], context: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """How good each arm may be."""
        known: dict[Hashable, float] = {}
        if self._bandit is not None:
            asked = [] if context is None else [context[None]]
            known = self._bandit.predict_expectations(*asked)
        return np.array(
            [known[arm] if arm in known else self._unknown(arm, context) for arm in arms],
            dtype=np.float64,
        )

    def _unknown(self, arm: Hashable, context: NDArray[np.float64] | None) -> float:
        """The value of an arm of which nothing was learned; what waits for a lesson counts as 0."""
        waiting = self._waiting.get(arm, 0)
        if self.policy == "ucb":
            rounds = sum(self._waiting.values())
            if not waiting:
                return float("inf")
            return self.alpha * float(np.sqrt(2 * np.log(max(rounds, 1)) / waiting))
        if self.policy == "thompson":
            return float(self._random.beta(1, 1 + waiting))
        if self.policy == "linucb" and context is not None:
            length = float(context @ context)
            return self.alpha * float(np.sqrt(length / (1 + waiting * length)))
        return 0.0

    def _learning(self) -> Any:
        policies = self._mab.LearningPolicy
        made = {
            "ucb": lambda: policies.UCB1(alpha=self.alpha),
            "thompson": lambda: policies.ThompsonSampling(),
            "linucb": lambda: policies.LinUCB(alpha=self.alpha),
        }
        return made.get(self.policy, lambda: policies.EpsilonGreedy(epsilon=0.0))()

    def checked_contexts(
        self, contexts: ArrayLike | None, number: int
    ) -> NDArray[np.float64] | None:
        """What ``"linucb"`` reads, [number, d]; ``None`` for other policies.

        Raises:
            ValueError: If they are missing, no numbers, or of another shape.
        """
        if self.policy != "linucb":
            return None
        if contexts is None:
            raise ValueError(
                "LinUCB reads a context per session, [num_sessions, d]: pass contexts."
            )
        rows = _numbers("contexts", contexts, f"[{number}, d]")
        if rows.ndim != 2 or len(rows) != number or rows.shape[1] == 0:
            raise ValueError(
                f"contexts are finite numbers, [{number}, d], got shape {list(rows.shape)}."
            )
        if self._width is not None and rows.shape[1] != self._width:
            raise ValueError(f"contexts had {self._width} columns before, now {rows.shape[1]}.")
        self._width = rows.shape[1]
        return rows


def _numbers(name: str, values: ArrayLike, shape: str) -> NDArray[np.float64]:
    """Finite numbers, or an error that names them."""
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} are numbers, {shape}, got {values!r:.80}.") from error
    finite = np.isfinite(found)
    if not finite.all():
        place = tuple(int(at[0]) for at in np.nonzero(~finite))
        raise ValueError(
            f"{name} are finite numbers, {shape}, got {found[place]} at {list(place)}: leave such "
            "cases out."
        )
    return found


@dataclass(frozen=True)
class Replayed:
    """What a policy earned on a log of random choices.

    Args:
        value: Mean reward of the cases that it would have shown, too.
        low, high: The interval of the mean.
        matched: Number of these cases.
        total: Cases of the log.
    """

    value: float
    low: float
    high: float
    matched: int
    total: int


def replay_policy(
    explorer: Explorer,
    sessions: Sequence[Any],
    shown: Sequence[Hashable],
    rewards: ArrayLike,
    contexts: ArrayLike | None = None,
    *,
    batch_size: int = 100,
    level: float = 0.95,
) -> Replayed:
    """Plays a log through a policy: cases in which it shows what was shown count, and teach it.

    Unbiased where the log shows every candidate with the same probability, whatever the session
    (Li et al., WSDM 2011); a case that does not match is left out, as if it had not happened.

    Args:
        explorer: A policy that has learned nothing of this log; it learns on the way.
        sessions: One per case, in the order of time.
        shown: The item shown in each case.
        rewards: What came of it, [num_cases].
        contexts: Of ``"linucb"``, [num_cases, d].
        batch_size: Cases between two lessons.
        level: Level of the interval.

    Raises:
        ValueError: If lengths differ, a number is not finite, there is no case, or none matches.
    """
    check_shares(level=level)
    reward = _numbers("rewards", rewards, "[num_cases]")
    if reward.ndim != 1 or not len(sessions) == len(shown) == len(reward):
        raise ValueError(
            "There is one session, one item and one reward per case, got "
            f"{len(sessions)}, {len(shown)} and {list(reward.shape)}."
        )
    if not len(sessions):
        raise ValueError("A replay needs a log, and this one has no case.")
    rows = explorer.checked_contexts(contexts, len(sessions))
    matching: list[float] = []
    for start in range(0, len(sessions), whole("batch_size", batch_size)):
        part = slice(start, start + batch_size)
        at_hand = None if rows is None else rows[part]
        choices = explorer.choose(list(sessions[part]), at_hand)
        same = np.array(
            [c.item == s for c, s in zip(choices, shown[part], strict=True)], dtype=bool
        )
        items = [item for item, kept in zip(shown[part], same, strict=True) if kept]
        explorer.learn(items, reward[part][same], None if at_hand is None else at_hand[same])
        matching += reward[part][same].tolist()
    if not matching:
        raise ValueError("The policy would have shown nothing of what was shown: no case matches.")
    values = np.array(matching)
    low, high = mean_interval(values, np.arange(len(values)), level=level)
    return Replayed(float(values.mean()), low, high, len(values), len(sessions))
