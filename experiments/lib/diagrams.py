"""Draws the idea of each family: one diagram per page of docs/models, in one style, as SVG.

Circles are items and states, boxes are computations, blue is what the next click is read from.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from graphseq.visualization.figures import (
    BLUE,
    GRAY,
    INK,
    ORANGE,
    PALE_BLUE,
    VERMILION,
    new_figure,
    whole_file,
)

FOLDER = Path(__file__).parent.parent.parent / "docs" / "images" / "models"
RADIUS = 0.28
Point = tuple[float, float]


class Diagram:
    """Shapes on an empty sheet, 12 units wide."""

    def __init__(self, height: float = 4.0) -> None:
        self.figure = new_figure(7.2, 0.6 * height)
        self.ax: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.ax.set(xlim=(0, 12), ylim=(0, height), aspect="equal")
        self.ax.set_axis_off()
        self.halves: dict[Point, Point] = {}  # width and height of the boxes, by their middle

    def item(self, at: Point, name: str, *, strong: bool = False, ghost: bool = False) -> Point:
        """An item or a state."""
        face = BLUE if strong else "white" if ghost else PALE_BLUE
        style = "--" if ghost else "-"
        self.ax.add_patch(Circle(at, RADIUS, fc=face, ec=BLUE, lw=1.2, ls=style, zorder=3))
        self.text(at, name, color="white" if strong else INK)
        return at

    def row(self, names: str, y: float, x: float = 0.8, step: float = 1.1) -> list[Point]:
        """Items side by side, one per letter."""
        return [self.item((x + step * n, y), name) for n, name in enumerate(names)]

    def box(self, at: Point, words: str, width: float = 1.9, *, strong: bool = False) -> Point:
        """A computation."""
        low = (at[0] - width / 2, at[1] - 0.32)
        face = BLUE if strong else "#F4F6F8"
        edge = BLUE if strong else GRAY
        style = "round,pad=0,rounding_size=0.12"
        shape = FancyBboxPatch(low, width, 0.64, boxstyle=style, fc=face, ec=edge, lw=1, zorder=3)
        self.ax.add_patch(shape)
        self.halves[at] = (width / 2, 0.32)
        self.text(at, words, color="white" if strong else INK)
        return at

    def arrow(
        self,
        start: Point,
        end: Point,
        *,
        bend: float = 0.0,
        color: str = GRAY,
        width: float = 1.2,
    ) -> None:
        """From one shape to another."""
        self.ax.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=9,
                connectionstyle=f"arc3,rad={bend}",
                shrinkA=self.edge(start, end),
                shrinkB=self.edge(end, start),
                color=color,
                lw=width,
                zorder=2,
            )
        )

    def edge(self, at: Point, other: Point) -> float:
        """From the middle of a shape to its edge and a little more, in points of type."""
        across, up = abs(other[0] - at[0]), abs(other[1] - at[1])
        length = (across**2 + up**2) ** 0.5
        reach = RADIUS
        if at in self.halves:
            wide, high = self.halves[at]
            reach = length * min(wide / max(across, 1e-9), high / max(up, 1e-9))
        return 72 * 0.6 * reach + 2

    def text(self, at: Point, words: str, *, color: str = INK, size: float = 9) -> None:
        """Words around a point."""
        self.ax.text(*at, words, ha="center", va="center", color=color, fontsize=size, zorder=4)

    def note(self, at: Point, words: str) -> None:
        """A remark beside the shapes."""
        self.text(at, words, color=GRAY, size=8)

    def out(self, start: Point, at: Point = (11.0, 2.0), words: str = "scores") -> None:
        """What the next click is read from."""
        self.arrow(start, self.box(at, words, 1.5, strong=True), color=BLUE)


def popularity() -> Diagram:
    d = Diagram(3)
    for n, (name, high) in enumerate(zip("abcde", (1.7, 1.1, 0.8, 0.5, 0.3), strict=True)):
        x = 2.2 + 0.9 * n
        d.ax.add_patch(mpl.patches.Rectangle((x - 0.25, 0.8), 0.5, high, fc=PALE_BLUE, ec=BLUE))
        d.text((x, 0.5), name)
    d.note((4.0, 2.7), "clicks of training, by item")
    d.out((6.6, 1.5), (9.4, 1.5), "the same list")
    return d


def session_popularity() -> Diagram:
    d = Diagram(3)
    places = d.row("abac", 1.5, 1.2)
    d.box((7.0, 1.5), "count in the session", 3.0)
    d.arrow(places[-1], (7.0, 1.5))
    d.out((8.2, 1.5), (10.6, 1.5), "a, then b, c")
    return d


def recency() -> Diagram:
    d = Diagram(3)
    names = "abac"
    for place, name in enumerate(names):
        d.item((1.2 + 1.3 * place, 1.5), name, strong=place == 3)
        d.note((1.2 + 1.3 * place, 0.9), ("1/4", "1/3", "1/2", "1")[place])
    d.note((3.2, 2.3), "an item counts by its newest click")
    d.out((5.3, 1.5), (9.4, 1.5), "c, a, b")
    return d


def markov() -> Diagram:
    d = Diagram()
    places = d.row("abc", 2.0, 1.0)
    d.item(places[-1], "c", strong=True)
    for name, y, share in (("d", 3.2, 0.6), ("e", 2.0, 0.3), ("f", 0.8, 0.1)):
        d.item((6.2, y), name, ghost=True)
        d.arrow(places[-1], (6.2, y), width=0.6 + 4 * share, color=BLUE)
        d.note((4.8, 2.0 + 0.62 * (y - 2.0) + 0.25), f"{share:.0%}")
    d.note((2.1, 1.2), "earlier clicks are not read")
    d.out((6.4, 2.0), (10.0, 2.0))
    return d


def sequential_rules() -> Diagram:
    d = Diagram()
    places = d.row("abcd", 1.4, 1.0, 1.7)
    for near, (x, share) in enumerate(((2, "1"), (1, "1/2"), (0, "1/3"))):
        d.arrow(places[x], places[3], bend=-0.35, color=BLUE, width=2.4 - 0.8 * near)
        d.note(((places[x][0] + places[3][0]) / 2, 1.7 + 0.31 * (3 - x)), share)
    d.note((3.5, 0.6), "what follows within a few steps, by its distance")
    d.out((6.2, 1.4), (10.0, 1.4))
    return d


def item_knn() -> Diagram:
    d = Diagram()
    for n, names in enumerate(("ab", "bc", "abd")):
        d.row(names, 3.2 - 1.1 * n, 0.9, 0.9)
    d.box((5.4, 2.0), "items in the same sessions", 3.7)
    d.arrow((3.0, 2.0), (5.4, 2.0))
    d.note((1.8, 0.35), "training sessions")
    d.out((6.8, 2.0), (10.2, 2.0), "near the last")
    return d


def vsknn() -> Diagram:
    d = Diagram()
    d.row("abc", 3.2, 0.8, 0.9)
    d.note((1.7, 2.6), "this session")
    for n, (names, share) in enumerate((("abe", 0.9), ("bcf", 0.6), ("ce", 0.3))):
        y = 3.3 - 1.2 * n
        d.row(names, y, 5.6, 0.8)
        d.arrow((2.9, 3.2), (5.4, y), width=0.6 + 3 * share, color=BLUE)
    d.note((6.4, 0.3), "similar sessions of training")
    d.out((7.6, 2.0), (10.4, 2.0), "their items")
    return d


def vstan() -> Diagram:
    d = vsknn()
    d.note((1.7, 2.05), "old clicks fade,")
    d.note((1.7, 1.65), "old neighbors fade,")
    d.note((1.7, 1.25), "near places count more")
    return d


def ials() -> Diagram:
    d = Diagram(3)
    places = d.row("abc", 1.5, 0.9)
    d.box((5.9, 1.5), "least squares against items", 3.8)
    d.arrow(places[-1], (5.9, 1.5))
    d.note((2.0, 0.8), "a set, without order")
    d.out((7.0, 1.5), (10.4, 1.5), "x · y_j")
    return d


def lightgcn() -> Diagram:
    d = Diagram(3)
    places = d.row("abc", 1.5, 0.9)
    d.box((5.9, 1.5), "sum of what items pass on", 3.8)
    d.arrow(places[-1], (5.9, 1.5))
    d.note((2.0, 0.8), "a set, without order")
    d.note((5.9, 0.6), "learned on the graph of sessions and items")
    d.out((7.0, 1.5), (10.4, 1.5), "x · y_j")
    return d


def recurrent(names: str = "abcd", y: float = 2.6, low: float = 1.1) -> tuple[Diagram, Point]:
    """States from left to right, each from its click and the state before."""
    d = Diagram()
    places = d.row(names, low, 1.2, 1.9)
    states: list[Point] = []
    for n, at in enumerate(places):
        last = n == len(places) - 1
        state = d.item((at[0], y), f"$h_{n + 1}$", strong=last)
        d.arrow(at, state)
        if states:
            d.arrow(states[-1], state)
        states.append(state)
    return d, states[-1]


def gru4rec() -> Diagram:
    d, last = recurrent()
    d.note((4.0, 3.3), "one state of a fixed size: gates say what stays")
    d.out(last, (10.2, 2.6))
    return d


def lrurec() -> Diagram:
    d, last = recurrent()
    d.note((4.0, 3.3), r"$h_t = \lambda \odot h_{t-1} + B\,x_t$: linear, so all steps at once")
    d.out(last, (10.2, 2.6))
    return d


def hgru4rec() -> Diagram:
    d = Diagram(4.6)
    for n, (name, x) in enumerate((("ab", 1.2), ("cd", 4.6), ("ef", 8.0))):
        places = d.row(name, 0.7, x, 1.2)
        states = [d.item((at[0], 2.0), "s", strong=(n, k) == (2, 1)) for k, at in enumerate(places)]
        for at, state in zip(places, states, strict=True):
            d.arrow(at, state)
        d.arrow(states[0], states[1])
        if n < 2:
            user = d.item((states[1][0] + 1.1, 3.6), f"$c_{n + 1}$")
            d.arrow(states[1], user)
            d.arrow(user, (states[1][0] + 2.2, 2.0), color=VERMILION)
    d.arrow((3.5, 3.6), (6.9, 3.6))
    d.note((5.2, 4.2), "the user's state lasts from session to session")
    d.out((9.2, 2.0), (11.1, 2.0))
    return d


def attention(pairs: Callable[[int, int], bool], names: str = "abcd") -> tuple[Diagram, Point]:
    """Clicks below, states above, and who looks at whom."""
    d = Diagram()
    places = d.row(names, 0.8, 1.2, 1.7)
    states = []
    for n, (x, _) in enumerate(places):
        state = d.item((x, 3.0), f"$h_{n + 1}$", strong=n == len(names) - 1)
        states.append(state)
        for m, at in enumerate(places):
            if pairs(n, m):
                d.arrow(at, state, color=BLUE if n == len(names) - 1 else "#B8C2CC", width=1.0)
    return d, states[-1]


def sasrec() -> Diagram:
    d, last = attention(lambda state, click: click <= state)
    d.note((3.8, 3.7), "every state looks at its click and the earlier ones")
    d.out(last, (10.0, 3.0))
    return d


def bert4rec() -> Diagram:
    d, last = attention(lambda state, click: True, "abcm")
    d.item((1.2 + 3 * 1.7, 0.8), "[m]", ghost=True)
    d.note((3.8, 3.7), "every place looks at all; the masked one is to be found")
    d.out(last, (10.0, 3.0))
    return d


def bst() -> Diagram:
    d, last = attention(lambda state, click: click <= state)
    for n in range(4):
        d.note((1.2 + 1.7 * n, 0.25), "item + features")
    d.note((3.8, 3.7), "clicks carry category, price, time")
    d.out(last, (10.0, 3.0))
    return d


def core() -> Diagram:
    d = Diagram()
    places = d.row("abc", 2.0, 1.0, 1.2)
    for at, share in zip(places, (".2", ".5", ".3"), strict=True):
        d.arrow(at, (5.8, 2.0), bend=-0.25, width=0.5 + 5 * float(share), color=BLUE)
        d.note((at[0], 1.45), share)
    d.note((2.2, 0.7), "attention gives weights alone")
    d.box((5.8, 2.0), "weighted sum", 2.0)
    d.out((6.6, 2.0), (9.8, 2.0))
    d.note((5.8, 1.4), "a point among the items")
    return d


def hstu() -> Diagram:
    d, last = attention(lambda state, click: click <= state)
    for n, seconds in enumerate(("0 s", "4 s", "12 s", "17 s")):
        d.note((1.2 + 1.7 * n, 0.25), seconds)
    d.note((3.8, 3.7), "weights know the time between clicks, and need not sum to one")
    d.out(last, (10.0, 3.0))
    return d


def bsarec() -> Diagram:
    d = Diagram()
    places = d.row("abcd", 2.0, 0.9, 0.9)
    d.box((6.2, 3.0), "attention", 2.4)
    d.box((6.2, 1.0), "low and high frequencies", 3.6)
    d.arrow(places[-1], (6.2, 3.0))
    d.arrow(places[-1], (6.2, 1.0))
    d.out((6.9, 2.9), (10.6, 2.0), "their mix")
    d.arrow((7.9, 1.0), (10.6, 2.0), color=BLUE)
    return d


def caser() -> Diagram:
    d = Diagram()
    for n, name in enumerate("bcdef"):
        y = 3.5 - 0.72 * n
        d.text((0.8, y), name)
        for k in range(6):
            corner = (1.2 + 0.42 * k, y - 0.26)
            d.ax.add_patch(mpl.patches.Rectangle(corner, 0.38, 0.5, fc=PALE_BLUE, ec="white"))
    for left, wide, high, color in ((1.15, 2.55, 1.28, VERMILION), (1.58, 0.46, 3.5, ORANGE)):
        corner = (left, 3.8 - high)
        d.ax.add_patch(mpl.patches.Rectangle(corner, wide, high, fill=False, ec=color, lw=2))
    d.box((6.9, 3.0), "horizontal: patterns of some clicks", 4.7)
    d.box((6.4, 1.2), "vertical: sums over clicks", 3.8)
    d.arrow((3.8, 3.0), (6.9, 3.0), color=VERMILION)
    d.arrow((2.1, 1.2), (6.4, 1.2), color=ORANGE)
    d.out((8.7, 2.8), (10.9, 2.1))
    d.arrow((8.3, 1.2), (10.9, 2.1), color=BLUE)
    return d


def graph(d: Diagram, extra: Sequence[tuple[Point, str]] = ()) -> dict[str, Point]:
    """The session a b a c as its graph."""
    d.row("abac", 3.2, 0.7, 0.75)
    at = {"a": (1.3, 1.4), "b": (3.2, 2.1), "c": (3.2, 0.7)}
    for name, place in at.items():
        d.item(place, name, strong=name == "c")
    d.arrow(at["a"], at["b"], bend=0.2)
    d.arrow(at["b"], at["a"], bend=0.2)
    d.arrow(at["a"], at["c"])
    for place, name in extra:
        d.item(place, name, ghost=True)
    return at


def srgnn() -> Diagram:
    d = Diagram()
    graph(d)
    d.box((6.0, 1.4), "gates over neighbors", 3.0)
    d.arrow((3.6, 1.4), (6.0, 1.4))
    d.box((6.0, 2.9), "the last click asks all", 3.2)
    d.arrow((6.0, 1.4), (6.0, 2.9))
    d.out((7.4, 2.9), (10.2, 2.9))
    d.note((1.8, 0.2), "an item that returns is one node")
    return d


def tagnn() -> Diagram:
    d = Diagram()
    graph(d)
    d.box((6.0, 1.4), "gates over neighbors", 3.0)
    d.arrow((3.6, 1.4), (6.0, 1.4))
    d.box((6.0, 2.9), "each candidate asks all", 3.3)
    d.arrow((6.0, 1.4), (6.0, 2.9))
    d.item((9.9, 1.4), "j", ghost=True)
    d.arrow((9.9, 1.4), (7.4, 2.7), color=VERMILION)
    d.out((7.5, 2.9), (10.4, 2.9))
    return d


def gcegnn() -> Diagram:
    d = Diagram()
    at = graph(d)
    d.item((0.5, 0.4), "x", ghost=True)
    d.item((0.4, 2.2), "y", ghost=True)
    d.arrow((0.5, 0.4), at["a"], color=ORANGE)
    d.arrow((0.4, 2.2), at["a"], color=ORANGE)
    d.box((6.2, 2.6), "this session's transitions", 3.6)
    d.box((6.2, 1.2), "those of all sessions", 3.1)
    d.arrow((3.7, 2.0), (6.2, 2.6))
    d.arrow((3.7, 1.2), (6.2, 1.2), color=ORANGE)
    d.out((8.0, 2.5), (10.8, 2.0))
    d.arrow((7.8, 1.2), (10.8, 2.0), color=BLUE)
    return d


def sgnnhn() -> Diagram:
    d = Diagram()
    at = graph(d)
    star = (4.8, 1.4)
    d.ax.scatter(*star, marker="*", s=420, color=ORANGE, zorder=3)
    for place in at.values():
        d.arrow(place, star, color=ORANGE, width=0.9)
    d.note((4.9, 0.7), "a star beside all nodes")
    d.box((7.6, 1.4), "highways keep the clicks", 3.4)
    d.arrow(star, (7.6, 1.4))
    d.out((7.6, 1.6), (10.4, 2.9))
    return d


def with_user() -> Diagram:
    d = Diagram(3)
    places = d.row("abc", 2.1, 0.9)
    d.box((5.2, 2.1), "any family", 2.0)
    d.arrow(places[-1], (5.2, 2.1))
    d.item((2.0, 0.7), "u", strong=True)
    d.box((5.2, 0.7), "vector of the user", 2.8)
    d.arrow((2.0, 0.7), (5.2, 0.7))
    d.text((7.7, 1.4), "+", size=14)
    d.arrow((6.1, 2.1), (7.7, 1.4))
    d.arrow((6.6, 0.7), (7.7, 1.4))
    d.out((7.7, 1.4), (10.2, 1.4))
    return d


def with_repeats() -> Diagram:
    d = Diagram(3)
    places = d.row("aba", 2.1, 0.9)
    last = (places[-1][0] + places[1][0] - places[0][0], 2.1)
    d.item(last, "c", strong=True)
    d.box((6.8, 2.1), "any family", 2.0)
    d.arrow(last, (6.8, 2.1))
    d.text((8.9, 1.4), "+", size=14)
    d.box((6.0, 0.7), "bonuses of a, b, c", 3.1)
    d.arrow(places[1], (6.0, 0.7))
    d.arrow((7.8, 2.1), (8.9, 1.4))
    d.arrow((7.5, 0.7), (8.9, 1.4))
    d.out((8.9, 1.4), (11.1, 1.4))
    return d


def with_features() -> Diagram:
    d = Diagram()
    for n, words in enumerate(("id of the item", "category, price", "title, image")):
        y = 3.2 - 1.2 * n
        d.box((2.2, y), words, 2.8)
        d.arrow((3.6, y), (6.2, 2.0))
    d.text((6.2, 2.0), "+", size=14)
    d.box((8.2, 2.0), "any family", 2.0)
    d.arrow((6.2, 2.0), (8.2, 2.0))
    d.out((9.0, 2.0), (11.1, 2.0))
    d.note((2.2, 0.25), "a new item has no id, and still a vector")
    return d


def content_knn() -> Diagram:
    d = Diagram(3)
    places = d.row("abc", 1.5, 0.9)
    d.box((5.3, 1.5), "features, newest first", 3.1)
    d.arrow(places[-1], (5.3, 1.5))
    d.out((6.7, 1.5), (10.0, 1.5), "cosines")
    return d


def ensemble() -> Diagram:
    d = Diagram()
    places = d.row("abc", 2.0, 0.9)
    for n, words in enumerate(("sequence", "graph", "content")):
        y = 3.2 - 1.2 * n
        d.box((5.4, y), words, 2.0)
        d.arrow(places[-1], (5.4, y))
        d.arrow((6.4, y), (8.3, 2.0), width=(2.4, 1.4, 0.8)[n], color=BLUE)
    d.text((8.3, 2.0), r"$\Sigma$", size=13)
    d.note((8.3, 1.3), "learned weights")
    d.out((8.3, 2.0), (10.8, 2.0))
    return d


def trending() -> Diagram:
    d = Diagram(3)
    for n, high in enumerate((0.3, 0.5, 0.9, 1.6)):
        x = 1.4 + 0.9 * n
        d.ax.add_patch(
            mpl.patches.Rectangle(
                (x - 0.25, 0.8), 0.5, high, fc=BLUE, ec=BLUE, alpha=0.25 + 0.2 * n
            )
        )
    d.note((2.8, 0.45), "clicks of all sessions, old ones fade")
    d.out((5.0, 1.5), (9.0, 1.5), "of this hour")
    return d


DIAGRAMS: dict[str, Callable[[], Diagram]] = {
    drawn.__name__: drawn
    for drawn in (
        bert4rec, bsarec, bst, caser, content_knn, core, ensemble, gcegnn, gru4rec, hgru4rec, hstu,
        ials, item_knn, lightgcn, lrurec, markov, popularity, recency, sasrec, sequential_rules,
        session_popularity, sgnnhn, srgnn, tagnn, trending, vsknn, vstan, with_features,
        with_repeats, with_user,
    )
}  # fmt: skip
"""Page of docs/models -> what draws its idea."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.lib.diagrams", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args(argv)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "graphseq"}):
        for name, draw in DIAGRAMS.items():
            figure = draw().figure
            with whole_file(options.out / f"{name}.svg") as unfinished:
                figure.savefig(unfinished, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
