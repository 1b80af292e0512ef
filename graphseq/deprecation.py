"""Old names that still work for one release, each with a ``DeprecationWarning``."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

GONE_IN = "0.3"
"""The version without the old names."""

P = ParamSpec("P")
R = TypeVar("R")


def warn_of_old_name(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warns of an old name.

    Args:
        old: As the caller wrote it.
        new: What to write instead.
        stacklevel: 1 is the function that calls this, 2 its caller.
    """
    message = f"{old} is now {new}; the old name will be removed in graphseq {GONE_IN}."
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)


def renamed(
    values: Mapping[str, Mapping[str, str]] | None = None, **names: str
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Lets a function, or a class by its ``__init__``, take arguments by their old names too.

    Args:
        values: Argument -> old value -> new value, of arguments given by name.
        **names: Old name -> new name; only the new one is in the signature.

    Example:
        >>> @renamed(neighbours="neighbors", values={"weight": {"linear": "1/n"}})
        ... def nearest(*, neighbors=100, weight="1/n"):
        ...     return neighbors, weight
        >>> nearest(neighbours=5, weight="linear")
        (5, '1/n')
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        called = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in [name for name in kwargs if name in names]:
                new = names[old]
                if new in kwargs:
                    raise TypeError(f"{called} got {new} and its old name {old}: pass {new} alone.")
                warn_of_old_name(f"{called}({old}=...)", f"{called}({new}=...)")
            given = in_new_names(call, kwargs)
            for name in given.keys() & (values or {}).keys():
                if given[name] != kwargs.get(name, given[name]):
                    was, now = (f"{called}({name}={each[name]!r})" for each in (kwargs, given))
                    warn_of_old_name(was, now)
            return function(*args, **given)

        RENAMED[call] = (names, values or {})
        return call

    return decorate


def renamed_value(argument: str, value: R, names: Mapping[Any, R]) -> R:
    """The value of an argument by its new name.

    Args:
        argument: As the caller writes it, ``"grow(initial=...)"``.
        value: As it was given.
        names: Old name -> new name.
    """
    if not isinstance(value, str) or value not in names:
        return value
    warn_of_old_name(f"{value!r} of {argument}", repr(names[value]), stacklevel=3)
    return names[value]


RENAMED: WeakKeyDictionary[Any, tuple[Mapping[str, str], Mapping[str, Mapping[str, str]]]] = (
    WeakKeyDictionary()
)
"""What :func:`renamed` knows of each function."""


def in_new_names(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a function by their new names and values, without a warning.

    Args:
        function: With or without renamed arguments.
        arguments: As given, or as saved by an older version.
    """
    names, values = RENAMED.get(function, ({}, {}))
    given = {names.get(name, name): value for name, value in arguments.items()}
    for name, changed in values.items():
        value = given.get(name)
        if isinstance(value, str):
            given[name] = changed.get(value, value)
    return given


def old_name(old: str, function: Callable[P, R]) -> Callable[P, R]:
    """A function or method under the name that it had before.

    Args:
        old: The old name; for a method with its class, as ``"Sessions.but"``.
        function: The one that is called.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        warn_of_old_name(f"{old}()", f"{function.__qualname__}()")
        return function(*args, **kwargs)

    return call


def old_classmethod(old: str, new: str) -> Any:
    """A class method under the name that it had before.

    Args:
        old: The old name with its class, as ``"ItemFilter.of"``.
        new: The new name alone.
    """

    def call(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
        warn_of_old_name(f"{old}()", f"{cls.__name__}.{new}()")
        return getattr(cls, new)(*args, **kwargs)

    return classmethod(call)


def old_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module, some of whose names were renamed.

    Args:
        module: Its ``__name__``.
        names: Old name -> new one with its module, as ``"graphseq.data.SessionParallelSampler"``.
            ``"*"`` -> a module that has all other names: where the module became a package.
    """

    def find(name: str) -> Any:
        home, _, new = names.get(name, "").rpartition(".")
        if not home and "*" in names and not name.startswith("_"):
            home, new = names["*"], name
        if not home or not hasattr(import_module(home), new):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        # "from package import name" asks twice, and first to see whether name is a submodule.
        if sys._getframe(1).f_code.co_name != "_handle_fromlist":
            warn_of_old_name(f"{module}.{name}", f"{home}.{new}")
        return getattr(import_module(home), new)

    return find


MODULES = {
    "data.sessions": "catalog describe features filters fingerprint generate history ragged samples"
    " sliding>windows vocabulary",
    "data.logs": "coded_log conversion events",
    "data.formats": "atomic>recbole pickles readers tokens>id_lines",
    "data.datasets": "published>builders registry",
    "data.splits": "split_parts",
    "data.graphs": "augment dataset item_graph session_graph transforms views",
    "data.loading": "lanes>session_parallel loader permutation samplers shard_loader shards",
    "evaluation": "cases>targets clicks>ctr lists>list_metrics ranks>rank_counts",
    "models.counting": "item_knn lists markov popularity recency sequential_rules session_knn"
    " session_popularity vsknn vstan",
    "models.graph": "gcegnn srgnn tagnn",
    "models.sequence": "bert4rec caser gru4rec hgru4rec sasrec",
    "models.features": "behavior bst bst_ranker with_user",
    "models.use": "grow inference item_filter persistence queries>requests recommend suggest"
    " table>model_table ties",
    "training.losses": "distillation full_cross_entropy>exact sampled_softmax>shared_negatives",
    "training.objectives": "auxiliary contrastive loss_choice objective tasks>auxiliary_heads",
    "training.negatives": "hard_negatives seen>session_items",
    "training.optim": "average>weight_average layout optimizers schedules",
    "training.lightning": "chance checkpoints feed>resumable_loader identity"
    " inputs>data_module launch>distributed log>loggers loop>module progress ranks>collectives"
    " run_folder running>interrupt shared state>resume",
    "visualization": "circle>timeline circular_layout>timeline periods>rolling",
}
"""Package -> the modules that moved into it, ``name`` or ``old_name>name``, from its room."""

MOVED = {
    "graphseq.data.arguments": "graphseq.arguments",
    "graphseq.data.counter_random": "graphseq.random",
} | {
    f"graphseq.{package.partition('.')[0]}.{names[0]}": f"graphseq.{package}.{names[-1]}"
    for package, modules in MODULES.items()
    for names in (module.split(">") for module in modules.split())
}
"""Old dotted path of a module -> its new one, where no package has taken the old path."""


def watch_old_modules() -> None:
    """Lets modules be imported by their old paths; those that exist are found first."""
    sys.meta_path.append(MovedModules())


class MovedModules(MetaPathFinder, Loader):
    """Gives a module that moved to those who import it by its old path."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warn_of_old_name(spec.name, MOVED[spec.name])  # warnings skip the import system's frames
        module = import_module(MOVED[spec.name])
        spec.loader_state = module.__spec__
        # "graphseq.models.grow" is a function now as before: the module must not take its place.
        sys.modules[spec.name.rpartition(".")[0]].__class__ = Package
        return module

    def exec_module(self, module: ModuleType) -> None:
        old = module.__spec__
        assert old is not None
        module.__spec__ = old.loader_state


class Package(ModuleType):
    """A package whose names a moved module of the same name does not replace."""

    def __setattr__(self, name: str, value: Any) -> None:
        if f"{self.__name__}.{name}" not in MOVED or not hasattr(self, name):
            super().__setattr__(name, value)
