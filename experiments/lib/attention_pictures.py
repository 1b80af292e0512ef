"""Draws what models look at, for docs/visualization.md: a triangle, two sides, weights on a graph.

The models are trained briefly on sessions of the e-shop, and read one visit that none has seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import graphseq as gs
from experiments.lib.results import fit_whole, said
from experiments.studies.study import bounded
from graphseq.visualization.figures import new_figure, save_figure

WIDTH = {"hidden_channels": 32}
FAMILIES = {
    "SASRec: to the left": gs.models.SASRec,
    "BERT4Rec: to both sides": gs.models.BERT4Rec,
    "SR-GNN: on the graph": gs.models.SRGNN,
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.lib.attention_pictures", description=__doc__
    )
    parser.add_argument("--newest", type=int, default=3000, help="training sessions")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/images/attention.png"))
    options = parser.parse_args(argv)
    figure = new_figure(11.6, 4.2, constrained=True)
    axes = figure.subplots(1, len(FAMILIES))
    with said():
        split = bounded(gs.load_split("uci-eshop"), options.newest, None)
        visit = next(s for s in split.test[:] if len(s) == 8 and len(set(s)) in (5, 6))
        for ax, (title, family) in zip(axes, FAMILIES.items(), strict=True):
            model = family(split.num_items, **WIDTH)
            fit_whole(
                model,
                split,
                max_epochs=options.epochs,
                batch_size=64,
                learning_rate=0.004,
                seed=0,
                progress=False,
            )
            gs.visualization.draw_attention(model, visit[:-1], ax=ax)
            ax.set_title(title, fontsize=12)
    save_figure(figure, options.out)


if __name__ == "__main__":
    main()
