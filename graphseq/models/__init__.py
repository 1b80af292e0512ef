"""Families of models behind one interface: session graphs in, scores of items out."""

from graphseq.models.base import SessionModel, Traits
from graphseq.models.reading import Additions
from graphseq.models.registry import MODELS, register
from graphseq.models.use.explain import ForExplainer
from graphseq.models.use.grow import grow, in_model_codes
from graphseq.models.use.item_filter import ItemFilter
from graphseq.models.use.model_table import table
from graphseq.models.use.persistence import load
from graphseq.models.use.recommend import recommend
from graphseq.models.use.suggest import Suggestion, suggest

# Families stand in MODELS, and in tables, in the order in which they are imported.
# isort: off
from graphseq.models.counting.counting import CountingModel
from graphseq.models.counting.popularity import Popularity
from graphseq.models.counting.trending import Trending
from graphseq.models.counting.session_popularity import SessionPopularity
from graphseq.models.counting.recency import Recency
from graphseq.models.counting.markov import MarkovChain
from graphseq.models.counting.sequential_rules import SequentialRules
from graphseq.models.counting.item_knn import ItemKNN
from graphseq.models.counting.vsknn import VSKNN
from graphseq.models.counting.vstan import VSTAN
from graphseq.models.graph.srgnn import SRGNN
from graphseq.models.graph.tagnn import TAGNN
from graphseq.models.graph.gcegnn import GCEGNN
from graphseq.models.graph.sgnnhn import SGNNHN
from graphseq.models.sequence.gru4rec import GRU4Rec
from graphseq.models.sequence.sasrec import SASRec
from graphseq.models.sequence.hstu import HSTU
from graphseq.models.sequence.lrurec import LRURec
from graphseq.models.sequence.bsarec import BSARec
from graphseq.models.sequence.core import CORE
from graphseq.models.sequence.bert4rec import BERT4Rec
from graphseq.models.sequence.caser import Caser
from graphseq.models.sequence.hgru4rec import HGRU4Rec
from graphseq.models.features.with_user import WithUser
from graphseq.models.features.with_features import WithFeatures
from graphseq.models.features.with_repeats import WithRepeats
from graphseq.models.features.bst import BST
from graphseq.models.features.bst_ranker import BSTRanker
from graphseq.models.hybrid.content_knn import ContentKNN
from graphseq.models.hybrid.ials import IALS
from graphseq.models.hybrid.lightgcn import LightGCN
from graphseq.models.hybrid.ensemble import Ensemble
# isort: on

from graphseq.models.use.attention import Attention, Gates, attention_of, gates_of

__all__ = [
    "BST",
    "CORE",
    "GCEGNN",
    "HSTU",
    "IALS",
    "MODELS",
    "SGNNHN",
    "SRGNN",
    "TAGNN",
    "VSKNN",
    "VSTAN",
    "Additions",
    "Attention",
    "BERT4Rec",
    "BSARec",
    "BSTRanker",
    "Caser",
    "ContentKNN",
    "CountingModel",
    "Ensemble",
    "ForExplainer",
    "GRU4Rec",
    "Gates",
    "HGRU4Rec",
    "ItemFilter",
    "ItemKNN",
    "LRURec",
    "LightGCN",
    "MarkovChain",
    "Popularity",
    "Recency",
    "SASRec",
    "SequentialRules",
    "SessionModel",
    "SessionPopularity",
    "Suggestion",
    "Traits",
    "Trending",
    "WithFeatures",
    "WithRepeats",
    "WithUser",
    "attention_of",
    "gates_of",
    "grow",
    "in_model_codes",
    "load",
    "recommend",
    "register",
    "suggest",
    "table",
]
