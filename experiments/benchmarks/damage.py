"""Damaged, foreign and exchanged files of every kind that graphseq writes: what becomes of them.

Every damage is done to a whole folder or file, which is then opened in a worker process with a
bound on memory and time. What came out is counted:

- ``refused``: a ValueError of one sentence that names the file;
- ``equal``: opened, and the same as before (space in JSON, bytes that pad a file);
- ``silent``: opened, and something else;
- ``crash``, ``hang``: the worker died or answered no more;
- ``traceback``: another error than a sentence;
- ``lost``: a file of the user's own was gone after a save that met it.

Damage that an attacker could do, with new checksums over it (``sealed``), may well open, so that
there only crashes, hangs and tracebacks count; so it is without checksums (``verify=False``).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from graphseq.comparison.record import read_results, write_results
from graphseq.data.storage import read_file, write_file
from graphseq.data.storage.checksums import checksum, checksum_of_file
from graphseq.data.storage.documents import seal

OUTCOMES = ("refused", "equal", "opened", "silent", "crash", "hang", "traceback", "lost")

BAD = OUTCOMES[3:]
"""What must not happen."""

WORKER = [sys.executable, "-m", "experiments.benchmarks.damage"]

SECONDS = 30
"""How long a worker may be silent."""

MEMORY = 6 << 30
"""Bytes of addresses that a worker may have."""


# -- what is damaged -----------------------------------------------------------------------------


def log(seed: int) -> pd.DataFrame:
    """A log with everything in it: two logs of other seeds have the same shape."""
    rng = np.random.default_rng(seed)
    rows = 60
    items = rng.permutation(np.arange(rows) % 12)
    return pd.DataFrame(
        {
            "session_id": [f"s{number:02d}" for number in np.repeat(np.arange(20), 3)],
            "item_id": [f"item-{item:02d}é" for item in items],
            "time": np.arange(rows, dtype=float) + rng.random(rows),
            "user": np.repeat(rng.permutation(np.arange(20) % 7), 3),
            "price": rng.random(rows).round(3),
            "colour": rng.permutation(np.array(["red", "green", "blue"] * 20)),
            "weight": (items * 7 + seed) / 10,
        }
    )


def sessions_of(seed: int) -> gs.Sessions:
    return gs.Sessions.from_frame(
        log(seed),
        time="time",
        user="user",
        features=["price", "colour"],
        item_features=["weight"],
    )


def make_sessions(path: Path, seed: int) -> None:
    sessions_of(seed).save(path)


def make_shards(path: Path, seed: int) -> None:
    source = path.with_name(f"log-{seed}.parquet")
    log(seed).to_parquet(source)
    gs.data.build_shards(source, path, 2, time="time", features=["price", "colour"])
    source.unlink()


def make_model(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    sessions = sessions_of(seed)
    model = gs.models.GRU4Rec(sessions.num_items, hidden_channels=6)
    model.attach(sessions.catalog())
    model.save(path)


def make_counts(path: Path, seed: int) -> None:
    gs.models.MarkovChain(12).fit_counts(sessions_of(seed)).save(path)


def make_checkpoint(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    state = {
        "settings": {"learning_rate": 0.01, "monitor": "mrr@20", "patience": None},
        "weights": gs.models.GRU4Rec(12, hidden_channels=6).state_dict(),
        "optimizer": {"state": {0: {"step": 3, "mean": torch.randn(12, 6)}}, "groups": [(0, 1)]},
        "best_value": float("nan"),
        "random": torch.get_rng_state(),
    }
    write_file(path, "graphseq.training", 2, state)


def make_report(path: Path, seed: int) -> None:
    sessions = sessions_of(seed)
    gs.evaluate(gs.models.MarkovChain(12).fit_counts(sessions), sessions).save(path)


def make_results(path: Path, seed: int) -> None:
    row = {"model": "srgnn", "settings": {"lr": 0.1, "k": [1, 2]}, "seed": seed, "epochs": 3}
    row |= {"metrics": {"hr@20": 0.25 + seed / 100}, "intervals": {"hr@20": [0.2, 0.5]}}
    content = {
        "command": "python -m experiments.compare",
        "created": "2026-11-28T00:00:00+00:00",
        "versions": {"python": "3.11"},
        "machine": {"cores": 2},
        "data": {"name": "generated", "fingerprint": {"train": "ab"}, "statistics": {}},
        "protocol": {"ks": [20]},
        "rows": [row] * 3,
        "tests": [],
    }
    write_results(content, path)


def told(value: Any) -> str:
    """A hash of a nested value, with types and shapes."""
    if isinstance(value, dict):
        return hashlib.sha256(repr([(k, told(v)) for k, v in value.items()]).encode()).hexdigest()
    if isinstance(value, (list, tuple)):
        inner = [type(value).__name__, *(told(each) for each in value)]
        return hashlib.sha256(repr(inner).encode()).hexdigest()
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype} {value.shape} {checksum(np.asarray(value))}"
    if isinstance(value, (pd.DataFrame, pd.Series, pd.Index)):
        return told(repr(value.to_dict() if isinstance(value, pd.DataFrame) else value.tolist()))
    return hashlib.sha256(f"{type(value).__name__} {value!r}".encode()).hexdigest()


def all_of(sessions: gs.Sessions) -> str:
    """All that sessions hold."""
    features = sessions.item_features
    frame = sessions.to_frame()
    return told([sessions.fingerprint(), frame, None if features is None else features])


def all_of_a_model(model: gs.models.SessionModel) -> str:
    """All that a model holds."""
    catalog = model.catalog
    assert catalog is not None
    kept = [catalog.items.ids, catalog.counts, catalog.item_features, dict(model.settings)]
    kept += [None if catalog.users is None else catalog.users.ids]
    kept += [[name, v.ids] for name, v in catalog.click_vocabularies.items()]
    return told([type(model).__name__, dict(model.state_dict()), kept])


def open_sessions(path: Path, verify: bool) -> Callable[[], str]:
    sessions = gs.Sessions.open(path, verify=verify)
    return lambda: all_of(sessions)


def open_shards(path: Path, verify: bool) -> Callable[[], str]:
    shards = gs.data.Shards(path, verify=verify)
    parts = [shards[number] for number in range(len(shards))]
    return lambda: told([shards.counts, *map(all_of, parts)])


def open_model(path: Path, verify: bool) -> Callable[[], str]:
    model = gs.load(path, verify=verify)
    return lambda: all_of_a_model(model)


def open_checkpoint(path: Path, verify: bool) -> Callable[[], str]:
    state = read_file(path, "graphseq.training", 2, "fit", verify=verify)
    return lambda: told(state)


def open_report(path: Path, verify: bool) -> Callable[[], str]:
    report = gs.evaluation.Report.load(path, verify=verify)
    return lambda: told({name: getattr(report, name) for name in report.__dataclass_fields__})


def open_results(path: Path, verify: bool) -> Callable[[], str]:
    content = read_results(path)
    return lambda: told(content)


Maker: TypeAlias = Callable[[Path, int], None]
Opener: TypeAlias = Callable[[Path, bool], Callable[[], str]]

KINDS: dict[str, tuple[Maker, Opener]] = {
    "sessions": (make_sessions, open_sessions),
    "shards": (make_shards, open_shards),
    "model": (make_model, open_model),
    "counting model": (make_counts, open_model),
    "checkpoint": (make_checkpoint, open_checkpoint),
    "report": (make_report, open_report),
    "results": (make_results, open_results),
}
"""Each kind: what makes one (of a seed; all of one shape), and what opens one and tells of it."""

SAVERS: dict[str, Maker] = {name: KINDS[name][0] for name in ("sessions", "shards", "model")}
"""What replaces a folder."""


# -- how it is damaged ---------------------------------------------------------------------------


def files_of(root: Path) -> list[Path]:
    """The files of a folder, or a file, in one order."""
    if root.is_file():
        return [root]
    return sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".csv")


def flip_bit(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def set_byte(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def zero_512(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return (data[:at] + bytes(512) + data[at + 512 :])[: len(data)]


def cut_off(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def append(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.choice([1, 8, 512]))


def shuffle_blocks(data: bytes, rng: random.Random) -> bytes:
    size = rng.choice([4, 8, 64])
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    if len(blocks) > 2:
        one, other = rng.sample(range(len(blocks) - 1), 2)
        blocks[one], blocks[other] = blocks[other], blocks[one]
    return b"".join(blocks)


BYTES = (flip_bit, set_byte, zero_512, cut_off, append, shuffle_blocks)

ODD: list[Any] = [
    None,
    True,
    "no",
    "",
    "../x",
    "/dev/zero",
    "|O",
    "<U9",
    -1,
    0,
    1.5,
    2**31,
    10**12,
    2**63,
    10**400,
    [],
    {},
    [[]],
    {"a": {}},
    "x" * 5000,
]


def edit_json(text: str, rng: random.Random) -> str:
    """Another value, another key or another text somewhere in a JSON document."""
    way = rng.randrange(6)
    if way == 0:
        return "[" * 100_000 + "]" * 100_000
    if way == 1:
        return text.replace("{", '{"format": 1, "format": 2, ', 1)
    document = json.loads(text)
    if way == 2:
        return json.dumps(document).replace(": ", rng.choice([": NaN, ", ": 1e999, "]), 1)
    change(document, rng)
    return json.dumps(document)


def change(document: Any, rng: random.Random) -> None:
    """Changes a random place of a JSON document."""
    places: list[tuple[Any, Any]] = []
    left = [document]
    while left:
        each = left.pop()
        keys = each.keys() if isinstance(each, dict) else range(len(each))
        places += [(each, key) for key in keys]
        left += [each[key] for key in keys if isinstance(each[key], (dict, list))]
    owner, key = rng.choice(places)
    if rng.random() < 0.15:
        del owner[key]
    elif isinstance(owner, dict) and rng.random() < 0.15:
        owner[rng.choice(["../x", "", "a/b", "items", "\u0000"])] = owner.pop(key)
    else:
        owner[key] = rng.choice(ODD)


def header_of(path: Path) -> tuple[str, bytes]:
    """The JSON at the beginning of a file, and what follows it."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return data.decode(), b""
    line, _, rest = data.partition(b"\n")
    return line.decode(), b"\n" + rest


def damage(root: Path, sibling: Path, rng: random.Random) -> str:
    """Damages a folder or file in one random way; returns the way's name.

    Args:
        root: What is damaged.
        sibling: Another of the same shape.
        rng: Chance.
    """
    files = files_of(root)
    path = rng.choice(files)
    relative = path.relative_to(root) if root.is_dir() else Path()
    ways = ["bytes"] * 8 + ["json"] * 3 + ["sealed"] * 2
    ways += ["delete", "link", "pipe", "socket", "folder", "sparse"]
    if len(files) > 1:  # one file is whole by itself
        ways += ["sibling", "swap"]
    way = rng.choice(ways)
    heads = [p for p in files if p.suffix == ".json" or root.is_file()]
    if way == "bytes":
        function = rng.choice(BYTES)
        path.write_bytes(function(path.read_bytes(), rng))
        return function.__name__
    if way == "json":
        path = rng.choice(heads)
        text, rest = header_of(path)
        path.write_bytes(edit_json(text, rng).encode() + rest)
    elif way == "sealed":
        seal_anew(rng.choice(heads), root, rng)
    elif way == "sibling":
        shutil.copyfile(sibling / relative, path)
    elif way == "swap":
        other = rng.choice(files)
        one, two = path.read_bytes(), other.read_bytes()
        path.write_bytes(two)
        other.write_bytes(one)
    else:
        data = path.read_bytes()
        path.unlink()
        if way == "link":
            other = path.with_name("elsewhere")
            other.write_bytes(data)
            path.symlink_to(rng.choice([other, Path("nowhere"), path, Path("/dev/zero")]))
        elif way == "pipe":
            os.mkfifo(path)
        elif way == "socket":
            here = os.open(path.parent, os.O_RDONLY)
            try:  # the name of a socket is short
                with socket.socket(socket.AF_UNIX) as made:
                    made.bind(f"/proc/self/fd/{here}/{path.name}")
            finally:
                os.close(here)
        elif way == "folder":
            path.mkdir()
        elif way == "sparse":
            path.write_bytes(data)
            os.truncate(path, 1 << 40)
    return way


def seal_anew(path: Path, root: Path, rng: random.Random) -> None:
    """Damage with checksums that say that it is none."""
    text, rest = header_of(path)
    document = json.loads(text)
    names = list(document.get("files", {}))
    if names and rng.random() < 0.7:
        file = path.parent / rng.choice(names)
        file.write_bytes(rng.choice(BYTES)(file.read_bytes(), rng))
        with file.open("rb") as opened:
            about = {"bytes": file.stat().st_size, "checksum": checksum_of_file(opened.fileno())}
        document["files"][file.name] = about
    else:
        change(document, rng)
    if isinstance(document, dict) and {"format", "version"} <= document.keys():
        with contextlib.suppress(ValueError):
            document = seal(document, document["format"], document["version"])
    path.write_bytes(json.dumps(document).encode() + rest)


# -- what becomes of it --------------------------------------------------------------------------


def outcome(root: Path, open_it: Opener, expected: str, *, may_differ: bool, verify: bool) -> str:
    """What opening gives."""
    try:
        tell = open_it(root, verify)
    except ValueError as error:
        return judge(error, root)
    except Exception as error:
        return f"traceback {type(error).__name__}: {error}"[:300]
    try:
        found = tell()
    except Exception as error:  # as IndexError, for a code that no checksum was asked for
        return f"traceback {type(error).__name__}: {error}"[:300] if verify else "opened"
    if found == expected:
        return "equal"
    return "opened" if may_differ else "silent"


def judge(error: ValueError, root: Path) -> str:
    """Whether an error is one sentence that names the file."""
    text = str(error)
    is_sentence = type(error) is ValueError and "\n" not in text and len(text) < 1000
    if is_sentence and root.name in text and text.endswith("."):
        return "refused"
    return f"traceback {type(error).__name__}: {text}"[:300]


class Trial:
    """One kind in a separate folder, damaged and mended again and again.

    Args:
        kind: A name of :data:`KINDS`.
        folder: An empty folder to work in.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        make, self.open = KINDS[kind]
        self.kind, self.folder = kind, folder
        self.root, self.sibling = folder / "it", folder / "sibling"
        make(self.root, 0)
        make(self.sibling, 1)
        self.whole = {path: path.read_bytes() for path in files_of(self.root)}
        self.expected = self.open(self.root, True)()
        assert self.expected != self.open(self.sibling, True)()

    def run(self, number: int) -> Iterator[tuple[str, str, str]]:
        """One damage: how it was done, how it was opened, and what came out."""
        self.mend()
        way = damage(self.root, self.sibling, random.Random(f"{self.kind} {number}"))
        for verify in (True, False):
            sealed = way == "sealed"
            if verify or number % 4 == 0:
                found = outcome(
                    self.root,
                    self.open,
                    self.expected,
                    may_differ=sealed or not verify,
                    verify=verify,
                )
                yield way, "verified" if verify else "verify=False", found
        if self.kind in SAVERS and number % 8 == 0:
            self.mend()
            way = damage(self.root, self.sibling, random.Random(f"{self.kind} {number}"))
            yield way, "saved over", self.save_over(random.Random(number))

    def save_over(self, rng: random.Random) -> str:
        """Saves over the damaged folder with a user's own files in it; counts those lost."""
        folders = [self.root, *(path for path in self.root.rglob("*") if path.is_dir())]
        own = rng.choice(folders) / rng.choice(["notes.txt", "src", "weights.old.npy", ".git"])
        if rng.random() < 0.3:
            own = own / "main.py"
            own.parent.mkdir()
        own.write_text("mine")
        if rng.random() < 0.3:
            for name in ("sessions.json", "shards.json", "model.json"):
                if (self.root / name).is_file():
                    (self.root / name).write_text("")
        if rng.random() < 0.3:
            shutil.rmtree(self.folder / "link", ignore_errors=True)
            (self.folder / "link").unlink(missing_ok=True)
            (self.folder / "link").symlink_to(self.root)
        target = self.folder / "link" if (self.folder / "link").is_symlink() else self.root
        try:
            SAVERS[self.kind](target, 1)
            found = "opened"
        except ValueError as error:
            found = judge(error, self.root)
        except Exception as error:
            found = f"traceback {type(error).__name__}: {error}"[:300]
        is_there = own.is_file() and own.read_text() == "mine"
        return found if is_there else "lost"

    def mend(self) -> None:
        """Makes the folder or file whole again."""
        (self.folder / "link").unlink(missing_ok=True)
        if self.root.is_dir() and not self.root.is_symlink():
            for path in sorted(self.root.rglob("*"), reverse=True):
                if path.is_symlink() or not path.is_dir():
                    if path not in self.whole or path.is_symlink() or not path.is_file():
                        path.unlink()
                elif not any(path in whole.parents for whole in self.whole):
                    shutil.rmtree(path)
        elif os.path.lexists(self.root):
            self.root.unlink()
        elsewhere = self.folder / "elsewhere"
        elsewhere.unlink(missing_ok=True)
        if self.root not in self.whole:
            self.root.mkdir(exist_ok=True)
        for path, data in self.whole.items():
            path.parent.mkdir(exist_ok=True)
            size = path.stat().st_size if path.is_file() else -1
            if size != len(data) or path.read_bytes() != data:
                if path.is_dir():
                    shutil.rmtree(path)
                path.write_bytes(data)


# -- many of them --------------------------------------------------------------------------------


def work(kind: str, start: int, stop: int) -> None:
    """What a worker does: a line of JSON before each damage, and one for what came out."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        trial = Trial(kind, Path(name))
        for number in range(start, stop):
            for way, how, found in trial.run(number):
                sys.stdout.write(json.dumps([number, way, how, found]) + "\n")
            sys.stdout.write(json.dumps([number, None, None, None]) + "\n")
            sys.stdout.flush()


def tally(kind: str, count: int) -> tuple[Counter[tuple[str, str, str]], list[Any]]:
    """Outcomes of so many damages of a kind, by way and how it was opened; and bad ones in full."""
    found: Counter[tuple[str, str, str]] = Counter()
    bad: list[Any] = []
    number = 0
    while number < count:
        arguments = ["--worker", kind, str(number), str(count)]
        process = subprocess.Popen(
            [*WORKER, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        reader = selectors.DefaultSelector()
        reader.register(process.stdout, selectors.EVENT_READ)
        end = "crash"
        while True:
            if not reader.select(SECONDS * (1 if number else 4)):
                end = "hang"
                process.kill()
            line = process.stdout.readline()
            if not line:
                break
            at, way, how, what = json.loads(line)
            if way is None:
                number = at + 1
                continue
            what = what.split(" ")[0] if (full := what) else what
            found[way, how, what] += 1
            if what in BAD:
                bad.append([kind, at, way, how, full])
        process.wait()
        if number < count:
            found["unknown", "verified", end] += 1
            bad.append([kind, number, "unknown", "verified", end])
            number += 1
    return found, bad


def main(argv: list[str] | None = None) -> None:
    """Tells what becomes of many damages, kind by kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="damages in all")
    parser.add_argument("--out", type=out_folder, default=Path("runs/damage"))
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        kind, start, stop = options.worker
        work(kind, int(start), int(stop))
        return
    benchmark = Benchmark.start("experiments.benchmarks.damage", argv)
    bad: list[Any] = []
    for kind in KINDS:
        counts, further = tally(kind, -(-options.count // len(KINDS)))
        bad += further
        for how in ("verified", "verify=False", "saved over"):
            by_outcome = {
                what: sum(n for (_, h, w), n in counts.items() if (h, w) == (how, what))
                for what in OUTCOMES
            }
            if total := sum(by_outcome.values()):
                benchmark.add(kind=kind, how=how, damages=total, **by_outcome)
        benchmark.content["bad"] = bad[:100]
        benchmark.write(options.out / "damage.json")
    benchmark.finish(options.out / "damage.json")


if __name__ == "__main__":
    main()
