"""Families of models behind one interface: session graphs in, scores of items out."""

from graphseq.models.base import SessionModel, Traits
from graphseq.models.counting.counting import CountingModel
from graphseq.models.counting.item_knn import ItemKNN
from graphseq.models.counting.markov import MarkovChain
from graphseq.models.counting.popularity import Popularity
from graphseq.models.counting.recency import Recency
from graphseq.models.counting.sequential_rules import SequentialRules
from graphseq.models.counting.session_popularity import SessionPopularity
from graphseq.models.counting.vsknn import VSKNN
from graphseq.models.counting.vstan import VSTAN
from graphseq.models.features.bst import BST
from graphseq.models.features.bst_ranker import BSTRanker
from graphseq.models.features.with_user import WithUser
from graphseq.models.graph.gcegnn import GCEGNN
from graphseq.models.graph.sgnnhn import SGNNHN
from graphseq.models.graph.srgnn import SRGNN
from graphseq.models.graph.tagnn import TAGNN
from graphseq.models.sequence.bert4rec import BERT4Rec
from graphseq.models.sequence.bsarec import BSARec
from graphseq.models.sequence.caser import Caser
from graphseq.models.sequence.core import CORE
from graphseq.models.sequence.gru4rec import GRU4Rec
from graphseq.models.sequence.hgru4rec import HGRU4Rec
from graphseq.models.sequence.hstu import HSTU
from graphseq.models.sequence.sasrec import SASRec
from graphseq.models.use.grow import grow, in_model_codes
from graphseq.models.use.item_filter import ItemFilter
from graphseq.models.use.model_table import table
from graphseq.models.use.suggest import Suggestion, suggest

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
    "sgnnhn": SGNNHN,
    "gru4rec": GRU4Rec,
    "sasrec": SASRec,
    "hstu": HSTU,
    "bsarec": BSARec,
    "core": CORE,
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
    "CORE",
    "GCEGNN",
    "HSTU",
    "MODELS",
    "SGNNHN",
    "SRGNN",
    "TAGNN",
    "VSKNN",
    "VSTAN",
    "BERT4Rec",
    "BSARec",
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
