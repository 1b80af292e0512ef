"""Plots: session graphs, model comparisons, cost, learning curves, setting searches, periods."""

from graphseq.visualization.attention import (
    draw_attention,
    draw_attention_heads,
    draw_filters,
    draw_gates,
)
from graphseq.visualization.comparison import plot_comparison
from graphseq.visualization.cost import plot_cost
from graphseq.visualization.data import graph_statistics, plot_lengths
from graphseq.visualization.embeddings import draw_embeddings, nearest_items
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
    animate_session,
    draw_session_graph,
    draw_session_graphs,
    to_networkx,
)
from graphseq.visualization.transitions import (
    draw_transition_graph,
    export_graph,
    transition_network,
)
from graphseq.visualization.tuning import plot_tuning

__all__ = [
    "animate_session",
    "draw_attention",
    "draw_attention_heads",
    "draw_embeddings",
    "draw_filters",
    "draw_gates",
    "draw_session_graph",
    "draw_session_graphs",
    "draw_transition_graph",
    "export_graph",
    "graph_statistics",
    "nearest_items",
    "plot_comparison",
    "plot_cost",
    "plot_critical_difference",
    "plot_differences",
    "plot_learning_curves",
    "plot_lengths",
    "plot_periods",
    "plot_serving",
    "plot_strata",
    "plot_tuning",
    "save_figure",
    "to_networkx",
    "transition_network",
]
