"""Make the files of diginetica from train-item-views.csv of the CIKM Cup 2016::

    python prepare.py train-item-views.csv --out ROOT

The steps are those of the code of SR-GNN, see README.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from graphseq.data.datasets.preparation import DAY, sessions_by_date, write_lines


def main(argv: list[str] | None = None) -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="train-item-views.csv")
    parser.add_argument("--out", type=Path, required=True, help="the root folder of data sets")
    options = parser.parse_args(argv)
    log = pd.read_csv(options.source, sep=";")
    log.columns = log.columns.str.replace("_", "").str.lower()
    days = pd.to_datetime(log["eventdate"], utc=True).astype("datetime64[s, UTC]")
    log = log.assign(date=days.astype("int64"), row=range(len(log)))
    # The date of a session is that of its last row in the file, whatever the order of its clicks.
    log["date"] = log.groupby("sessionid")["date"].transform("last")
    log["first"] = log.groupby("sessionid")["row"].transform("first")
    log = log.sort_values(["first", "timeframe"], kind="stable")
    clicks = log.rename(columns={"sessionid": "session", "itemid": "item"})
    train, test, _ = sessions_by_date(clicks, test_seconds=7 * DAY)
    write_lines(train, options.out / "diginetica" / "train_sessions.txt.gz")
    write_lines(test, options.out / "diginetica" / "test_sessions.txt.gz")


if __name__ == "__main__":
    main()
