"""Make sessions of RetailRocket from events.csv, in the manner of the published ones::

    python prepare.py events.csv --out ROOT

How the published pickles were made is not known for certain; README.md says what this does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from graphseq.data.datasets.preparation import DAY, sessions_by_date, write_pickles


def main(argv: list[str] | None = None) -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="events.csv")
    parser.add_argument("--out", type=Path, required=True, help="the root folder of data sets")
    options = parser.parse_args(argv)
    log = pd.read_csv(options.source).sort_values(["visitorid", "timestamp"], kind="stable")
    seconds = log["timestamp"] // 1000
    frequent = log["itemid"].value_counts().index[:40_000]
    log = log.assign(date=seconds)[log["itemid"].isin(frequent)]
    pause = log["date"].diff() > 8 * 3600
    session = (pause | (log["visitorid"] != log["visitorid"].shift())).cumsum()
    clicks = pd.DataFrame({"session": session, "item": log["itemid"], "date": log["date"]})
    train, test, _ = sessions_by_date(clicks, test_seconds=7 * DAY)
    write_pickles(train, test, options.out / "retailrocket")


if __name__ == "__main__":
    main()
