"""Make the files of yoochoose1_64 from yoochoose-clicks.dat of the RecSys Challenge 2015::

    python prepare.py yoochoose-clicks.dat --out ROOT

The steps are those of the code of SR-GNN, see README.md. It takes about 10 GB of memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from graphseq.data.datasets.preparation import DAY, sessions_by_date, write_lines


def main(argv: list[str] | None = None) -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="yoochoose-clicks.dat")
    parser.add_argument("--out", type=Path, required=True, help="the root folder of data sets")
    options = parser.parse_args(argv)
    names = ["session", "date", "item", "category"]
    clicks = pd.read_csv(options.source, names=names, usecols=names[:3], dtype={"date": "str"})
    if clicks["session"].iloc[0] == "session_id":  # SR-GNN's readers put a header there by hand
        clicks = clicks.iloc[1:]
    seconds = pd.to_datetime(clicks["date"].str[:19], format="%Y-%m-%dT%H:%M:%S", utc=True)
    clicks["date"] = seconds.astype("datetime64[s, UTC]").astype(int)
    train, test, _ = sessions_by_date(clicks, test_seconds=DAY, newest=1 / 64)
    write_lines(train, options.out / "yoochoose1_64" / "train_sessions.txt.gz")
    write_lines(test, options.out / "yoochoose1_64" / "test_sessions.txt.gz")


if __name__ == "__main__":
    main()
