"""Make clicks.parquet and models.parquet of UCI's "Clickstream Data for Online Shopping".

Run once by whoever maintains this folder, with the zip file as the publisher hands it out::

    python prepare.py "clickstream+data+for+online+shopping.zip"

The publisher's file says everything about a model of clothing again in each of its clicks; here
that stands once, in models.parquet.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SOURCE_SHA256 = "cc8fd7588fb7f0b87441a88a9afb2868e92dc3124089c6c41fa23b762909cd2d"
NUM_CLICKS, NUM_SESSIONS, NUM_MODELS = 165_474, 24_026, 217

OF_THE_CLICK = {"page 1 (main category)": "category", "country": "country"}
OF_THE_MODEL = {
    "colour": "colour",
    "location": "location",
    "model photography": "photography",
    "price": "price",
    "price 2": "above_average_price",
    "page": "page",
}
"""Columns of the publisher's file, and their names here."""


def tables(frame: pd.DataFrame) -> tuple[pa.Table, pa.Table]:
    """Clicks in the order (session, order), and models in the order of their ids."""
    frame = frame.sort_values(["session ID", "order"], kind="stable", ignore_index=True)
    days = pd.to_datetime(frame[["year", "month", "day"]], utc=True).astype("datetime64[s, UTC]")
    clicks = pd.DataFrame(
        {
            "session_id": frame["session ID"],
            "item_id": frame["page 2 (clothing model)"],
            "timestamp": days.astype("int64"),
            **{name: frame[column] for column, name in OF_THE_CLICK.items()},
        }
    )
    models = frame[["page 2 (clothing model)", *OF_THE_MODEL]].drop_duplicates()
    models = models.rename(columns={"page 2 (clothing model)": "item_id", **OF_THE_MODEL})
    if models["item_id"].duplicated().any():
        raise ValueError("A model of clothing is described in two ways.")
    models = models.sort_values("item_id")
    first, second = (pa.Table.from_pandas(t, preserve_index=False) for t in (clicks, models))
    # What pandas adds names its version, and the same data would have another checksum.
    return first.replace_schema_metadata(), second.replace_schema_metadata()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="path of the publisher's zip file")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    found = hashlib.sha256(arguments.source.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        raise SystemExit(f"{arguments.source} is not UCI's file: its SHA-256 is {found}.")
    with zipfile.ZipFile(arguments.source) as archive, archive.open(archive.namelist()[0]) as file:
        frame = pd.read_csv(file, sep=";")
    sizes = (
        len(frame),
        frame["session ID"].nunique(),
        frame["page 2 (clothing model)"].nunique(),
    )
    if sizes != (NUM_CLICKS, NUM_SESSIONS, NUM_MODELS):
        raise SystemExit(
            f"Expected (clicks, sessions, models) {NUM_CLICKS, NUM_SESSIONS, NUM_MODELS}."
        )
    for name, table in zip(("clicks", "models"), tables(frame), strict=True):
        path = arguments.out / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd", compression_level=19, use_dictionary=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.name}: {table.num_rows} rows, {path.stat().st_size} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
