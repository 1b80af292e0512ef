"""The rules of an evaluation: which clicks are targets, their candidates, and ties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from graphseq.arguments import whole
from graphseq.metric_scale import SAMPLED, UNSEEN


@dataclass(frozen=True)
class Protocol:
    """The rules of an evaluation, the same for all models that are compared.

    An unknown target is always a miss that stays in the denominator, and a click before the
    ``first_target`` of its session is never a target, because it belongs to training.

    >>> Protocol(targets="last", candidates=100, sampling="popularity").metric("hr@10")
    'sampled hr@10'

    Args:
        targets: ``"all"``: every click from ``first_target``, each after its whole prefix;
            ``"last"``: the last click of each session; n: its last n clicks.
        seen: Whether items of the history before a target stay in its ranking: ``"keep"``,
            ``"remove"`` (a target that was seen is then a miss), or ``"both"``: metrics with seen
            items, and also ``unseen hr@10`` and so on without them.
        candidates: Items that a target is ranked among: ``"all"`` items, or n items drawn for each
            target and the target itself. Every metric over drawn candidates is called ``sampled``,
            because it does not order models as the full ranking does (Krichene & Rendle, KDD 2020).
        sampling: Whether candidates are drawn ``"uniform"`` over the items, or by ``"popularity"``,
            in proportion to the training counts; without replacement, and without the target.
        seed: Seed of the draw, which is the same for all models of one catalog.
        min_history: Minimum number of clicks before a target; targets with fewer are not cases.
        ties: Place of a target among items with the same score: ``"expected"``, the mean of each
            metric over the places of the tie; ``"optimistic"``, the first place; ``"pessimistic"``,
            the last.
        name: Name of the preset, if any.
        note: Other parts of the practice that the preset names.

    Raises:
        ValueError: If a value is not allowed.
    """

    targets: Literal["all", "last"] | int = "all"
    seen: Literal["keep", "remove", "both"] = "keep"
    candidates: Literal["all"] | int = "all"
    sampling: Literal["uniform", "popularity"] = "uniform"
    seed: int = 0
    min_history: int = 0
    ties: Literal["expected", "optimistic", "pessimistic"] = "expected"
    name: str = field(default="", compare=False)
    note: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for given, named in (("targets", "'all' or 'last'"), ("candidates", "'all'")):
            value = getattr(self, given)
            if not isinstance(value, str) or repr(value) not in named.split(" or "):
                if isinstance(value, str):
                    raise ValueError(f"{given} is {named}, or a number of them, got {value!r}.")
                object.__setattr__(self, given, whole(given, value))
        for given, words in (
            ("seen", ("keep", "remove", "both")),
            ("sampling", ("uniform", "popularity")),
            ("ties", ("expected", "optimistic", "pessimistic")),
        ):
            value = getattr(self, given)
            if not isinstance(value, str) or value not in words:
                raise ValueError(f"{given} is one of {', '.join(words)}, got {value!r}.")
        for given in ("name", "note"):
            if not isinstance(getattr(self, given), str):
                raise ValueError(f"{given} is text, got {getattr(self, given)!r}.")
        for given in ("seed", "min_history"):
            object.__setattr__(self, given, whole(given, getattr(self, given), at_least=0))

    @property
    def sampled(self) -> bool:
        """Whether targets are ranked among drawn candidates."""
        return self.candidates != "all"

    def metric(self, name: str, *, unseen: bool = False) -> str:
        """The name of a metric under these rules: ``"hr@10"`` -> ``"sampled hr@10"``.

        Args:
            name: As ``"hr@10"``.
            unseen: Whether it is the second metric of ``seen="both"``, without seen items.
        """
        return (SAMPLED if self.sampled else "") + (UNSEEN if unseen else "") + name

    def metrics(self, names: list[str]) -> list[str]:
        """The names of all metrics under these rules; twice as many for ``seen="both"``."""
        both = (False, True) if self.seen == "both" else (False,)
        return [self.metric(name, unseen=unseen) for unseen in both for name in names]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a ``results.json``; fields that do not apply are left out."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        values["unknown_targets"] = "miss"
        if not self.sampled:
            del values["sampling"], values["seed"]
        return {key: value for key, value in values.items() if value != ""}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """The protocol that :meth:`to_dict` wrote.

        Raises:
            ValueError: If a field or value is unknown, or these are not named values.
        """
        if not isinstance(values, Mapping):
            raise ValueError(
                "A protocol is read from a mapping of names to values, as Protocol.to_dict writes "
                f"it, got {type(values).__name__}."
            )
        known = {part.name for part in fields(cls)}
        unknown = sorted(set(values) - known - {"unknown_targets"})
        if unknown:
            raise ValueError(
                f"A protocol has no field {unknown[0]!r}; it has {', '.join(sorted(known))}."
            )
        return cls(**{key: value for key, value in values.items() if key in known})


PRESETS: dict[str, Protocol] = {
    preset.name: preset
    for preset in (
        Protocol(
            name="srgnn",
            note="Wu et al., AAAI 2019: every prefix of the sessions of the last day or week, all "
            "items; their code places ties by item number, here a tie shares its places.",
        ),
        Protocol(
            ties="pessimistic",
            name="gru4rec",
            note="Hidasi & Karatzoglou, CIKM 2018: every prefix of the sessions of the last day, "
            "all items, a tied item is before the target (mode 'conservative' of their code).",
        ),
        Protocol(
            targets="last",
            seen="both",
            name="leave-one-out",
            note="Kang & McAuley, ICDM 2018, over all items: the last click of each user's "
            "history, with seen items and without.",
        ),
        Protocol(
            name="temporal",
            note="Every click after one point of time, known to no training click: "
            "gs.temporal_split makes the parts.",
        ),
        Protocol(
            name="rolling",
            note="Ludewig & Jannach, UMUAI 2018: temporal parts at several points of time, each "
            "with its own training; one report per period.",
        ),
    )
}
"""The evaluation practices of the literature, by name."""


def protocol_of(given: Protocol | str | None, exclude_seen: bool | None = None) -> Protocol:
    """The protocol itself, a preset by its name, or the protocol that ``exclude_seen`` implies.

    Args:
        given: A protocol, the name of a preset, or ``None``: all targets among all items.
        exclude_seen: ``True``: ``seen="remove"``; ``None``: as in ``given``.

    Raises:
        ValueError: If there is no such preset, or both arguments disagree on seen items.
    """
    if given is None:
        return Protocol(seen="remove" if exclude_seen else "keep")
    if isinstance(given, str):
        if given not in PRESETS:
            raise ValueError(f"There is no protocol {given!r}; choose from {', '.join(PRESETS)}.")
        given = PRESETS[given]
    if not isinstance(given, Protocol):
        raise ValueError(
            "protocol is a gs.evaluation.Protocol or the name of a preset "
            f"({', '.join(PRESETS)}), got {type(given).__name__}."
        )
    if exclude_seen and given.seen != "remove":
        raise ValueError(
            f"exclude_seen=True and protocol.seen={given.seen!r} contradict each other: leave "
            'exclude_seen out, or pass dataclasses.replace(protocol, seen="remove").'
        )
    return given
