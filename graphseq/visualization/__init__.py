"""Pictures: session graphs, models side by side, and quality against cost."""

from graphseq.visualization.comparison import plot_comparison
from graphseq.visualization.cost import plot_cost
from graphseq.visualization.figures import save_figure
from graphseq.visualization.session_graphs import (
    draw_session_graph,
    draw_session_graphs,
    to_networkx,
)

__all__ = [
    "draw_session_graph",
    "draw_session_graphs",
    "plot_comparison",
    "plot_cost",
    "save_figure",
    "to_networkx",
]
