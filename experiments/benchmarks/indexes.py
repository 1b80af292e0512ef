"""Indexes beside exact search: on a trained model's own items, and on a million like them.

Queries are the session vectors of real test sessions. Random vectors are no stand-in for trained
ones: a million items are therefore grown from the trained table. Each further item lies between an
item and one of its nearest neighbors, plus noise; targets stay those of the sessions. Without
``--model``, GRU4Rec is trained first. ``--draw`` makes the picture of an earlier run.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from experiments.lib.results import fit_whole
from graphseq.data.sessions.catalog import Catalog
from graphseq.data.sessions.vocabulary import Vocabulary
from graphseq.serving import ExactIndex, Index, ItemVectors, build_index, load_index, serving_report

GRAPH = {"neighbors": 16, "ef_build": 80, "ef_search": 256}

INDEXES: dict[str, dict[str, Any]] = {
    "exact": {},
    "faiss_flat": {},
    "faiss_sq8": {},
    "faiss_ivfpq": {},
    "faiss_refined": {},
    "faiss_hnsw": GRAPH,
    "usearch_i8": GRAPH,
    "usearch": GRAPH,
    "voyager": GRAPH,
}
"""Settings of each index."""

NEIGHBORS, NOISE = 10, 0.3
"""Neighbors of an item that others lie towards, and their noise in deviations of a column."""


def trained(split: gs.Split) -> gs.models.SessionModel:
    """GRU4Rec after four epochs, some minutes."""
    torch.manual_seed(0)
    model = gs.models.GRU4Rec(split.num_items, 100, dropout=0.3, input_dropout=0.2)
    loss = gs.SampledLoss("sampled_softmax", num_negatives=1_024, alpha=0.75)
    fit_whole(
        model,
        split,
        loss=loss,
        max_epochs=4,
        batch_size=128,
        learning_rate=0.004,
        schedule="linear",
        progress=False,
    )
    return model


def grown(model: gs.models.SessionModel, num_items: int, seed: int = 0) -> gs.models.SessionModel:
    """The same model with further items, up to ``num_items``, where trained ones lie.

    The rows of the trained items come first and keep their ids; the others have separate ids.
    """
    rng = np.random.default_rng(seed)
    known, more = model.num_items, num_items - model.num_items
    table = model.items.weight.detach().numpy()
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    near, _ = ExactIndex(ItemVectors(unit, np.arange(known))).search(unit, NEIGHBORS + 1)
    parent = rng.integers(known, size=more)
    other = near[parent, rng.integers(1, NEIGHBORS + 1, size=more)]
    share = rng.random((more, 1), dtype=np.float32)
    rows = (1 - share) * table[parent] + share * table[other]
    rows += NOISE * table.std(0) * rng.standard_normal(rows.shape, dtype=np.float32)
    settings = model.settings | {"num_items": num_items}
    larger = type(model)(**settings).eval()
    weights = dict(model.state_dict())
    weights["items.weight"] = torch.from_numpy(np.concatenate([table, rows]))
    bias = weights["items.bias"].numpy()
    weights["items.bias"] = torch.from_numpy(np.concatenate([bias, bias[parent]]))
    larger.load_state_dict(weights)
    catalog = model.catalog
    assert catalog is not None
    ids = [*map(str, catalog.items.ids), *(f"more {number}" for number in range(more))]
    counts = np.concatenate([catalog.counts, np.ones(more, dtype=np.int64)])
    larger.attach(Catalog(Vocabulary.from_unique(pd.Index(ids)), counts))
    return larger


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="diginetica")
    parser.add_argument("--root", default=None, help="folder of the data sets")
    parser.add_argument("--model", type=Path, help="folder of a trained GRU4Rec")
    parser.add_argument("--grow", type=int, default=0, help="items after growing; 0: as trained")
    parser.add_argument("--indexes", nargs="+", default=list(INDEXES), choices=list(INDEXES))
    parser.add_argument("--keep", type=Path, help="folder where built indexes are found again")
    parser.add_argument("--cases", type=int, default=2_000)
    parser.add_argument("--picture", type=Path, help="file for the picture")
    parser.add_argument("--draw", type=Path, help="JSON of an earlier run: only draws it")
    parser.add_argument("--out", type=out_folder, default=Path("runs/benchmarks"))
    options = parser.parse_args(argv)
    if options.draw is not None:
        rows = json.loads(options.draw.read_text())["rows"]
        picture = options.picture or options.draw.with_suffix(".png")
        gs.visualization.plot_serving(pd.DataFrame(rows), 20, path=picture)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    split = gs.load_split(options.dataset, options.root)
    model = trained(split) if options.model is None else gs.load(options.model)
    sessions = split.test
    if options.grow:
        model = grown(model, options.grow)
        sessions = gs.Sessions.from_lists(
            [[str(item) for item in session] for session in split.test.to_lists()]
        )
    name = f"indexes_{model.num_items}.json" if options.grow else f"indexes_{options.dataset}.json"
    benchmark = Benchmark.start("experiments.benchmarks.indexes", argv, options.dataset)
    frames = []
    for kind in options.indexes:
        index, seconds = built(model, kind, options.keep)
        report = serving_report(model, sessions, {kind: index}, max_cases=options.cases)
        frames.append(report.frame.assign(build_seconds=seconds))
        benchmark.add(**row_of(frames[-1].iloc[0]))
        benchmark.write(options.out / name)
    benchmark.content["note"] = (
        f"{report.num_items:,} items, {report.num_cases:,} test cases, k=20; losses against exact "
        "search in points with 95% intervals, clustered by session."
    )
    benchmark.finish(options.out / name)
    if options.picture is not None:
        gs.visualization.plot_serving(pd.concat(frames), 20, path=options.picture)


def built(model: gs.models.SessionModel, kind: str, keep: Path | None) -> tuple[Index, float]:
    """An index and the seconds that its building took, then or now."""
    said = None if keep is None else keep / f"{kind}.txt"
    if said is not None and said.exists():
        return load_index(said.with_suffix(""), model=model), float(said.read_text())
    started = time.perf_counter()
    index = build_index(model, kind, **INDEXES[kind])
    seconds = time.perf_counter() - started
    if said is not None:
        said.parent.mkdir(parents=True, exist_ok=True)
        index.save(said.with_suffix(""))
        said.write_text(str(seconds))
    return index, seconds


def row_of(measured: pd.Series) -> dict[str, Any]:
    """A row of the report, rounded; losses in points of a hundred."""
    row: dict[str, Any] = {"index": measured["index"], "overlap": round(measured["overlap"], 4)}
    for metric in ("hr", "ndcg"):
        row[f"{metric}@20"] = round(measured[metric] * 100, 2)
        row[f"{metric}_loss"] = round(measured[f"{metric}_loss"] * 100, 2)
        ends = (measured[f"{metric}_loss_{end}"] * 100 for end in ("low", "high"))
        row[f"{metric}_loss_interval"] = [round(float(end), 2) for end in ends]
    for name in ("p50_ms", "p90_ms", "p99_ms"):
        row[name] = round(measured[name], 2)
    row["queries_per_second"] = round(measured["queries_per_second"])
    row["build_seconds"] = round(measured["build_seconds"], 1)
    row["bytes_per_item"] = round(measured["bytes_per_item"])
    return row


if __name__ == "__main__":
    main()
