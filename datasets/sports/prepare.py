r"""Make the files of sports from reviews of Amazon (category Sports_and_Outdoors, 2014)::

    python prepare.py reviews_Sports_and_Outdoors_5.json.gz \
        meta_Sports_and_Outdoors.json.gz --out ROOT

The steps are those of S3-Rec, as far as they are known; see README.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from graphseq.data.datasets.preparation import amazon_files, write_gzip, write_lines


def main(argv: list[str] | None = None) -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reviews", type=Path, help="reviews_Sports_and_Outdoors_5.json.gz")
    parser.add_argument("metadata", type=Path, help="meta_Sports_and_Outdoors.json.gz")
    parser.add_argument("--attribute-support", type=int, default=0, help="items of an attribute")
    parser.add_argument("--out", type=Path, required=True, help="the root folder of data sets")
    options = parser.parse_args(argv)
    histories, attributes = amazon_files(
        options.reviews, options.metadata, options.attribute_support
    )
    folder = options.out / "amazon_5core"
    write_lines(histories, folder / "Sports_and_Outdoors.txt.gz", numbered=True)
    write_gzip(attributes, folder / "Sports_and_Outdoors_item2attributes.json.gz")


if __name__ == "__main__":
    main()
