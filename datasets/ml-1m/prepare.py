"""Make the files of ml-1m from GroupLens's ml-1m.zip::

    python prepare.py ml-1m.zip --out ROOT

Numbers and the order of ties are not those of the published file; README.md says why.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd

from graphseq.data.datasets.preparation import write_gzip


def main(argv: list[str] | None = None) -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="ml-1m.zip")
    parser.add_argument("--out", type=Path, required=True, help="the root folder of data sets")
    options = parser.parse_args(argv)
    layout: dict[str, Any] = {
        "sep": "::",
        "engine": "python",
        "header": None,
        "encoding": "latin-1",
    }
    with zipfile.ZipFile(options.source) as archive:
        with archive.open("ml-1m/ratings.dat") as file:
            log = pd.read_csv(file, names=["user", "movie", "rating", "time"], **layout)
        with archive.open("ml-1m/movies.dat") as file:
            movies = pd.read_csv(file, names=["movie", "title", "genres"], index_col=0, **layout)
    while True:
        few = [log.groupby(name)[name].transform("size") < 5 for name in ("user", "movie")]
        if not (few[0] | few[1]).any():
            break
        log = log[~(few[0] | few[1])]
    log = log.sort_values(["user", "time"], kind="stable")
    user, _ = pd.factorize(log["user"])
    item, ids = pd.factorize(log["movie"])
    lines = (f"{u} {i}\n" for u, i in zip(user + 1, item + 1, strict=True))
    write_gzip("".join(lines), options.out / "ml-1m" / "ml-1m.txt.gz")
    table = movies.loc[ids].reset_index(names="movielens_id")
    table.insert(2, "year", table["title"].str.extract(r"\((\d{4})\)\s*$")[0])
    table.index = pd.RangeIndex(1, len(table) + 1, name="item")
    table.to_csv(options.out / "ml-1m" / "items.tsv", sep="\t")


if __name__ == "__main__":
    main()
