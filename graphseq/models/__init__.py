"""Families of models behind one interface: session graphs in, scores of items out."""

from graphseq.models.base import SessionModel, Traits
from graphseq.models.bert4rec import BERT4Rec
from graphseq.models.bst import BST
from graphseq.models.bst_ranker import BSTRanker
from graphseq.models.caser import Caser
from graphseq.models.counting import CountingModel
from graphseq.models.gcegnn import GCEGNN
from graphseq.models.grow import grow, in_model_codes
from graphseq.models.gru4rec import GRU4Rec
from graphseq.models.hgru4rec import HGRU4Rec
from graphseq.models.item_filter import ItemFilter
from graphseq.models.item_knn import ItemKNN
from graphseq.models.markov import MarkovChain
from graphseq.models.popularity import Popularity
from graphseq.models.recency import Recency
from graphseq.models.sasrec import SASRec
from graphseq.models.sequential_rules import SequentialRules
from graphseq.models.session_popularity import SessionPopularity
from graphseq.models.srgnn import SRGNN
from graphseq.models.suggest import Suggestion, suggest
from graphseq.models.table import table
from graphseq.models.tagnn import TAGNN
from graphseq.models.vsknn import VSKNN
from graphseq.models.vstan import VSTAN
from graphseq.models.with_user import WithUser

MODELS: dict[str, type[SessionModel]] = {
    "popularity": Popularity,
    "session_popularity": SessionPopularity,
    "recency": Recency,
    "markov": MarkovChain,
    "sequential_rules": SequentialRules,
    "item_knn": ItemKNN,
    "vsknn": VSKNN,
    "vstan": VSTAN,
    "srgnn": SRGNN,
    "tagnn": TAGNN,
    "gcegnn": GCEGNN,
    "gru4rec": GRU4Rec,
    "sasrec": SASRec,
    "bert4rec": BERT4Rec,
    "caser": Caser,
    "hgru4rec": HGRU4Rec,
    "with_user": WithUser,
    "bst": BST,
    "bst_ranker": BSTRanker,
}
"""Name of a family -> its class."""

__all__ = [
    "BST",
    "GCEGNN",
    "MODELS",
    "SRGNN",
    "TAGNN",
    "VSKNN",
    "VSTAN",
    "BERT4Rec",
    "BSTRanker",
    "Caser",
    "CountingModel",
    "GRU4Rec",
    "HGRU4Rec",
    "ItemFilter",
    "ItemKNN",
    "MarkovChain",
    "Popularity",
    "Recency",
    "SASRec",
    "SequentialRules",
    "SessionModel",
    "SessionPopularity",
    "Suggestion",
    "Traits",
    "WithUser",
    "grow",
    "in_model_codes",
    "suggest",
    "table",
]
