"""Data sets by name: their files, checksums, and standard splits."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType

from graphseq.data.datasets import builders as published
from graphseq.data.sessions.sessions import Sessions
from graphseq.data.splits.split_parts import Split
from graphseq.data.splits.splits import fixed_split, leave_last_split, temporal_split

ROOT_VARIABLE = "GRAPHSEQ_DATA"
"""Environment variable with the folder of the data sets, used if no ``root`` is given."""


@dataclass(frozen=True)
class Dataset:
    """A named data set.

    Args:
        name: The name, also of the folder in ``datasets/`` with its card.
        files: Path below the root -> SHA-256 of the file, in the order of the arguments of
            ``reader``. Files of an embedded data set are in its own folder.
        reader: Function from the files, and options by keyword, to the parts of the data set.
        splitter: Function from the parts, and a size of the validation part or ``None``, to the
            split.
        protocol: The split in words.
        validation: A good size of the validation part, in the unit of the split: a share of the
            training sessions, clicks per user, or days.
        embedded: Whether the files are part of the package, so that no root is needed.
    """

    name: str
    files: Mapping[str, str]
    reader: Callable[..., list[Sessions]]
    splitter: Callable[..., Split]
    protocol: str
    validation: float
    embedded: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the reader's options."""
        parameters = inspect.signature(self.reader).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def load_dataset(
    name: str, root: str | os.PathLike[str] | None = None, *, verify: bool = True, **options: object
) -> Sessions:
    """All sessions of a data set; if it has two files, the training file comes first.

    Args:
        name: One of :data:`DATASETS`.
        root: Folder of the data sets; ``None``: the folder in the environment variable
            ``GRAPHSEQ_DATA``. Embedded data (``uci-eshop``, ``movielens-small``) needs none.
        verify: Whether to check the checksums first (one or two seconds per GB).
        **options: ``gap`` for ``movielens-small`` and ``ml-100k``: the longest pause within a
            session, as ``"30min"`` or in seconds; without it a user's history is one session.

    Raises:
        ValueError: If the name or an option is unknown, or a file is missing or differs from the
            expected one.
    """
    return Sessions.concat(_read(_dataset(name), root, verify, options))


def load_split(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float | None = None,
    verify: bool = True,
) -> Split:
    """A data set in its standard split: see ``DATASETS[name].protocol``.

    Args:
        name, root, verify: As for :func:`load_dataset`.
        validation: Size of a validation part cut from training, in the unit of the split (see
            ``DATASETS[name].validation`` for a good one); ``None``: no such part.

    Raises:
        ValueError: As :func:`load_dataset`; or if the size is out of range.
    """
    dataset = _dataset(name)
    return dataset.splitter(_read(dataset, root, verify, {}), validation)


# -- finding the files -------------------------------------------------------------------------


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise ValueError(f"There is no data set {name!r}: choose one of {', '.join(DATASETS)}.")
    return DATASETS[name]


def _read(
    dataset: Dataset,
    root: str | os.PathLike[str] | None,
    verify: bool,
    options: Mapping[str, object],
) -> list[Sessions]:
    unknown = [option for option in options if option not in dataset.options]
    if unknown:
        known = ", ".join(dataset.options) or "none"
        raise ValueError(f"{dataset.name} has no option {unknown[0]!r}; its options: {known}.")
    folder = embedded_folder(dataset.name) if dataset.embedded else _root(dataset, root)
    paths = {file: folder.joinpath(*file.split("/")) for file in dataset.files}
    missing = [file for file, path in paths.items() if not path.is_file()]
    if missing:
        raise ValueError(
            f"Data set {dataset.name!r} lacks {' and '.join(missing)}: put it below {folder}; "
            f"datasets/{dataset.name}/README.md shows where to get it."
        )
    if verify:
        for file, expected in dataset.files.items():
            with paths[file].open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
            if found != expected:
                raise ValueError(
                    f"{paths[file]} is not the file that {dataset.name!r} expects: its SHA-256 is "
                    f"{found}, not {expected}; get it again (datasets/{dataset.name}/README.md) or "
                    "read it as it is with verify=False."
                )
    return dataset.reader(*paths.values(), **options)


def _root(dataset: Dataset, root: str | os.PathLike[str] | None) -> Path:
    root = root if root is not None else os.environ.get(ROOT_VARIABLE)
    if not root:
        raise ValueError(
            f"Data set {dataset.name!r} needs {' and '.join(dataset.files)} below a root folder: "
            f"pass root=... or set {ROOT_VARIABLE}; datasets/{dataset.name}/README.md shows where "
            "to get them."
        )
    return Path(root)


def embedded_folder(name: str) -> Traversable:
    """The folder of an embedded data set: in an installed wheel, else in the checkout."""
    package = files("graphseq")
    installed = package / "_datasets" / name
    return installed if installed.is_dir() else Path(str(package)).parent / "datasets" / name


# -- the data sets -----------------------------------------------------------------------------


def _fixed(parts: list[Sessions], validation: float | None) -> Split:
    train, test = parts
    return fixed_split(train, test, validation)


def _leave_last(parts: list[Sessions], validation: float | None, *, n: int = 1) -> Split:
    return leave_last_split(parts[0], n, validation=validation)


def _temporal(parts: list[Sessions], validation: float | None, *, at: str) -> Split:
    return temporal_split(parts[0], at=at, validation=validation)


FIXED = "the published training and test sessions; every click after the first is a target"
SAMPLES = "the published training sessions, and the published samples of the test"
LAST = "the last click of every user is the target"

_ALL = (
    Dataset(
        "uci-eshop",
        {
            "clicks.parquet": "d8bac1f344ca8799b81fcc1c070dbaa080c928874f2e4d5eed374108900bbe0e",
            "models.parquet": "e8d7670356f40f0c63fd171b41dc53a6b510176d7b54914c27f7902b0d173bd1",
        },
        published.uci_eshop,
        partial(_temporal, at="2008-07-31"),
        "the sessions from 31 July 2008 on are the test; every click after the first is a target",
        validation=14,
        embedded=True,
    ),
    Dataset(
        "movielens-small",
        {
            "ratings.parquet": "2adcb908f9350dcc2752ba7b550da64ca682951f1ef0e518164416a2296852e8",
            "movies.parquet": "f4400cb190314595222f06e6f97a607c5f5af771700f80e09e680e8300b632f8",
        },
        published.movielens_small,
        partial(_leave_last, n=10),
        "the last 10 ratings of every user are the targets",
        validation=5,
        embedded=True,
    ),
    Dataset(
        "diginetica",
        {
            "diginetica/train_sessions.txt.gz": (
                "e8a325185f82ae2097ab31d962c6b38cc063b3ff7f705c3b65a045b40748af2a"
            ),
            "diginetica/test_sessions.txt.gz": (
                "0b467f84280cc8f92f90bb97fc0e6364af15d0eeec5031beb95261cc260ff87b"
            ),
        },
        published.train_and_test,
        _fixed,
        FIXED,
        validation=0.1,
    ),
    Dataset(
        "yoochoose1_64",
        {
            "yoochoose1_64/train_sessions.txt.gz": (
                "db4554bae1cec861637d233748b8f942b45283aa1b0b4d52489f3a4a08a8dba2"
            ),
            "yoochoose1_64/test_sessions.txt.gz": (
                "ba91446cfffd4a2913490f595320e70ebd8aceec8b261c3fa55b9d8d9494d2a4"
            ),
        },
        published.train_and_test,
        _fixed,
        FIXED,
        validation=0.1,
    ),
    Dataset(
        "tmall",
        {
            "tmall/train_sessions.txt.gz": (
                "aaea2455d7471ca914c1513d0a50bad50b78b3fa9f20f477cc82bbe8281f523c"
            ),
            "tmall/test_sessions.txt.gz": (
                "e0ec88a505b0273b061cc77258f56d07c30b7254882dab79581140ee811a01d3"
            ),
            "tmall/item_features.txt.gz": (
                "b8e80309d04a4b935c6fd663f38b23d93da67e3d8b28787f6073631991927af9"
            ),
        },
        published.train_and_test,
        _fixed,
        FIXED,
        validation=0.1,
    ),
    Dataset(
        "retailrocket",
        {
            "retailrocket/all_train_seq.txt": (
                "dcb31faa5037c527b516b4d8e3aa6d81b81549e45f4ead3b02ca99c6ecd67181"
            ),
            "retailrocket/test.txt": (
                "212345e160a899fb64451aa1288407fdf65816e8c128905bd98784bce1256c85"
            ),
        },
        published.published_pickles,
        _fixed,
        SAMPLES,
        validation=0.1,
    ),
    Dataset(
        "beauty",
        {
            "amazon_5core/Beauty.txt.gz": (
                "6cf381f60cac51b56a91cd92abf019f8c521de05e25388f61b993c20b8ec8ee3"
            ),
            "amazon_5core/Beauty_item2attributes.json.gz": (
                "99019d4e1ab5a0cfc19fea2ceffba1e4c670ee44a33bcfc6d383bb24c7804b44"
            ),
        },
        published.amazon,
        _leave_last,
        LAST,
        validation=1,
    ),
    Dataset(
        "sports",
        {
            "amazon_5core/Sports_and_Outdoors.txt.gz": (
                "9e053feb22a50e3c3039b4e17691fdc108d166412376d5fd439c7fb1b07fcac8"
            ),
            "amazon_5core/Sports_and_Outdoors_item2attributes.json.gz": (
                "87e4ba22aba3f885bdcb46b14b7a4378950298fa347a6aa617ddfbd19d148ea1"
            ),
        },
        published.amazon,
        _leave_last,
        LAST,
        validation=1,
    ),
    Dataset(
        "toys",
        {
            "amazon_5core/Toys_and_Games.txt.gz": (
                "a44fb9ebf2b3babda40cfe39eff4cdd8f2a91020e0c796bbaa11ff1fbcb2a926"
            ),
            "amazon_5core/Toys_and_Games_item2attributes.json.gz": (
                "9e95ec741dbfcc28b9f53b7ad66e247d2f0d55f15f127312201bb1229192ef01"
            ),
        },
        published.amazon,
        _leave_last,
        LAST,
        validation=1,
    ),
    Dataset(
        "ml-1m",
        {
            "ml-1m/ml-1m.txt.gz": (
                "3602216dd3b50459f48f89fdb5d0925b935f4241698fec995fbcdb24133aab7d"
            ),
            "ml-1m/items.tsv": "1b35ca797bb0b3e75371da03285a0f9d9b49010a08f0ecb400c0c9fc9a362a0f",
        },
        published.ml_1m,
        _leave_last,
        LAST,
        validation=1,
    ),
    Dataset(
        "ml-100k",
        {
            "ml-100k/ml-100k.inter.gz": (
                "b4e1aa7ef694e18d091589df398be212c3fc3aa9973ea3f7cdc262bcecc2717e"
            ),
            "ml-100k/ml-100k.item.gz": (
                "2ed96cef76a88d4dc18c83abd7da83e698b4439623a993e0336c8670e112b3b1"
            ),
        },
        published.ml_100k,
        _leave_last,
        LAST,
        validation=1,
    ),
)

DATASETS: Mapping[str, Dataset] = MappingProxyType({dataset.name: dataset for dataset in _ALL})
"""The data sets by name."""
