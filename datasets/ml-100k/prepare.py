"""Make the files of ml-100k from GroupLens's ml-100k.zip::

    python prepare.py ml-100k.zip --out ROOT

The form is that of RecBole's atomic files.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

import pandas as pd

from graphseq.data.datasets.preparation import write_gzip


def main(argv: list[str] | None = None) -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="ml-100k.zip")
    parser.add_argument("--out", type=Path, required=True, help="the root folder of data sets")
    options = parser.parse_args(argv)
    with zipfile.ZipFile(options.source) as archive:
        log = pd.read_csv(archive.open("ml-100k/u.data"), sep="\t", header=None)
        genres = pd.read_csv(archive.open("ml-100k/u.genre"), sep="|", header=None)[0].tolist()
        movies = pd.read_csv(
            archive.open("ml-100k/u.item"), sep="|", header=None, encoding="latin-1"
        )
    log.columns = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    title = movies[1].str.extract(r"^(.*?)(?:\s*\((\d{4})\))?$")
    flags = movies.iloc[:, 5 : 5 + len(genres)].to_numpy(dtype=bool)
    named = [" ".join(g for g, has in zip(genres, row, strict=True) if has) for row in flags]
    table = pd.DataFrame(
        {
            "item_id:token": movies[0],
            "movie_title:token_seq": title[0],
            "release_year:token": title[1],
            "class:token_seq": named,
        }
    )
    for name, frame in (("inter", log), ("item", table)):
        text = frame.to_csv(sep="\t", index=False)
        write_gzip(text, options.out / "ml-100k" / f"ml-100k.{name}.gz")


if __name__ == "__main__":
    main()
