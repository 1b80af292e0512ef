"""Plots: session graphs, model comparisons, cost, learning curves, setting searches, periods."""

from graphseq.visualization.comparison import plot_comparison
from graphseq.visualization.cost import plot_cost
from graphseq.visualization.evaluation import (
    plot_critical_difference,
    plot_differences,
    plot_strata,
)
from graphseq.visualization.figures import save_figure
from graphseq.visualization.learning_curves import plot_learning_curves
from graphseq.visualization.rolling import plot_periods
from graphseq.visualization.serving import plot_serving
from graphseq.visualization.session_graphs import (
    draw_session_graph,
    draw_session_graphs,
    to_networkx,
)
from graphseq.visualization.tuning import plot_tuning

__all__ = [
    "draw_session_graph",
    "draw_session_graphs",
    "plot_comparison",
    "plot_cost",
    "plot_critical_difference",
    "plot_differences",
    "plot_learning_curves",
    "plot_periods",
    "plot_serving",
    "plot_strata",
    "plot_tuning",
    "save_figure",
    "to_networkx",
]
