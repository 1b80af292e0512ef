"""Which clicks and transitions made a recommendation, for every family, and what would undo it."""

from graphseq.explanations.counterfactual import Counterfactual, counterfactual
from graphseq.explanations.deletion import deletion_curves
from graphseq.explanations.explain import explain
from graphseq.explanations.explanation import Explanation

__all__ = ["Counterfactual", "Explanation", "counterfactual", "deletion_curves", "explain"]
