"""Trending against popularity: what fading, the hour and the category add, without a history.

All models are counts; none is trained. The test part is the end of the log, ranked among all items.
Differences to popularity are paired, clustered by session.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import graphseq as gs
from experiments.benchmarks.report import Benchmark
from experiments.lib.arguments import out_folder
from experiments.lib.results import said
from experiments.studies.cold_items import per_cent
from graphseq.evaluation.significance import mean_interval, paired_test

METRICS = ("hr@20", "mrr@20")
HALF_LIVES = ("12h", "1D", "7D", "30D")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies.trending", description=__doc__
    )
    parser.add_argument("--dataset", default="uci-eshop", help="of a log with times")
    parser.add_argument("--root", help="folder of the data sets (default: $GRAPHSEQ_DATA)")
    parser.add_argument("--files", nargs="+", help="a log of your own instead of --dataset")
    parser.add_argument("--columns", nargs=3, default=["SessionId", "ItemId", "Time"])
    parser.add_argument("--test-days", type=float, default=7)
    parser.add_argument("--category", help="feature of the items, such as 'page'")
    parser.add_argument("--hourly", action="store_true", help="where times tell the hour")
    parser.add_argument("--out", type=out_folder, default=Path("runs/trending"))
    options = parser.parse_args(argv)
    with said():
        if options.files:
            session, item, time = options.columns
            log = gs.Sessions.from_frame(options.files, session=session, item=item, time=time)
        else:
            log = gs.load_dataset(options.dataset, root=options.root)
        split = gs.temporal_split(log, test_days=options.test_days)
    name = Path(options.files[0]).parent.name if options.files else options.dataset
    benchmark = Benchmark.start("experiments.studies.trending", argv, name, split.train)
    reports = {}
    for line, model in models(split.num_items, options).items():
        with said():
            gs.fit(model, split)
        reports[line] = gs.evaluate(model, split.test, ks=(20,))
    rival = reports["popularity"]
    for line, report in reports.items():
        row: dict[str, Any] = {"data": name, "model": line}
        for metric in METRICS:
            values = report.values(metric)
            row[metric] = per_cent(values.mean(), *mean_interval(values, report.cluster))
            test = paired_test(values, rival.values(metric), report.cluster)
            row[f"{metric} beyond popularity"] = (
                "-" if report is rival else per_cent(test.difference, test.low, test.high, sign="+")
            )
        row["cases"] = f"{len(report.cluster):,}"
        benchmark.add(**row)
    benchmark.finish(options.out / "results.json")


def models(num_items: int, options: argparse.Namespace) -> dict[str, gs.models.SessionModel]:
    """Popularity, then one change after the other."""
    made: dict[str, gs.models.SessionModel] = {"popularity": gs.models.Popularity(num_items)}
    for half_life in HALF_LIVES:
        made[f"fades by half in {half_life}"] = gs.models.Trending(num_items, half_life)
    if options.hourly:
        made["by the hour"] = gs.models.Trending(num_items, hourly=True, backoff=1.0)
        made["by the hour, 7D"] = gs.models.Trending(num_items, "7D", hourly=True, backoff=1.0)
    if options.category:
        of = options.category
        made[f"by {of}"] = gs.models.Trending(num_items, category=of)
        made[f"by {of}, 7D"] = gs.models.Trending(num_items, "7D", category=of)
    return made


if __name__ == "__main__":
    main()
