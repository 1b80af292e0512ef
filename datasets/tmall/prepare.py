"""Make sessions of Tmall from user_log_format1.csv, in the manner of the published ones::

    python prepare.py user_log_format1.csv --out ROOT

How our files were made is not known for certain; README.md says what this does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from graphseq.data.datasets.preparation import DAY, sessions_by_date, write_gzip, write_lines


def main(argv: list[str] | None = None) -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="user_log_format1.csv")
    parser.add_argument("--sessions", type=int, default=120_000, help="the first so many")
    parser.add_argument("--out", type=Path, required=True, help="the root folder of data sets")
    options = parser.parse_args(argv)
    log = pd.read_csv(options.source)
    log = log[log["action_type"] == 0]  # clicks
    # Times are month and day: a session is what a user clicked on one day.
    day = pd.to_datetime("2014" + log["time_stamp"].astype(str).str.zfill(4), format="%Y%m%d")
    number = log.groupby(["user_id", "time_stamp"], sort=False).ngroup()
    clicks = pd.DataFrame(
        {
            "session": number,
            "item": log["item_id"],
            "date": day.astype("datetime64[s]").astype("int64"),
        }
    )
    clicks = clicks[number < options.sessions].sort_values("session", kind="stable")
    train, test, ids = sessions_by_date(clicks, test_seconds=DAY / 2, most_clicks=40)
    folder = options.out / "tmall"
    write_lines(train, folder / "train_sessions.txt.gz")
    write_lines(test, folder / "test_sessions.txt.gz")
    items = log.drop_duplicates("item_id").set_index("item_id").loc[ids]
    lines = (
        f"{item} {field} {int(value)}\n"
        for field, column in enumerate(("cat_id", "seller_id", "brand_id"))
        for item, value in enumerate(items[column], start=1)
        if pd.notna(value)
    )
    write_gzip("".join(lines), folder / "item_features.txt.gz")


if __name__ == "__main__":
    main()
