"""Families of models behind one interface: session graphs in, scores of items out."""

from graphseq.models.base import SessionModel, Traits
from graphseq.models.counting import CountingModel
from graphseq.models.gru4rec import GRU4Rec
from graphseq.models.markov import MarkovChain
from graphseq.models.popularity import Popularity
from graphseq.models.sasrec import SASRec
from graphseq.models.srgnn import SRGNN
from graphseq.models.suggest import Suggestion, suggest
from graphseq.models.table import table

MODELS: dict[str, type[SessionModel]] = {
    "popularity": Popularity,
    "markov": MarkovChain,
    "srgnn": SRGNN,
    "gru4rec": GRU4Rec,
    "sasrec": SASRec,
}
"""Name of a family -> its class."""

__all__ = [
    "MODELS",
    "SRGNN",
    "CountingModel",
    "GRU4Rec",
    "MarkovChain",
    "Popularity",
    "SASRec",
    "SessionModel",
    "Suggestion",
    "Traits",
    "suggest",
    "table",
]
