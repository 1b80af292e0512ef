"""Layers and readouts over ragged clicks and batched session graphs."""

from graphseq.nn.attention import SelfAttention, TransformerBlock
from graphseq.nn.dropout import Dropout
from graphseq.nn.features import FeatureEmbedding, ItemFeatures
from graphseq.nn.frequency_filter import FrequencyBlock, FrequencyFilter
from graphseq.nn.gated_session_conv import GatedSessionConv
from graphseq.nn.hstu import HSTULayer, HSTULayers
from graphseq.nn.item_table import EncodedItemTable, FeatureItemTable, ItemTable
from graphseq.nn.ligr import LiGRBlock, LiGRLayers
from graphseq.nn.packed_gru import PackedGRU
from graphseq.nn.positions import (
    LearnedPositions,
    NoPositions,
    RotaryPositions,
    SinusoidalPositions,
    TimeBuckets,
)
from graphseq.nn.ragged import DenseView, WindowView
from graphseq.nn.readouts import PooledReadout, SRGNNReadout
from graphseq.nn.recurrences import LinearAttention, LinearRecurrentUnit
from graphseq.nn.session_attention_conv import SessionAttentionConv
from graphseq.nn.star_session_conv import StarSessionConv
from graphseq.nn.window_conv import HorizontalConv, VerticalConv

__all__ = [
    "DenseView",
    "Dropout",
    "EncodedItemTable",
    "FeatureEmbedding",
    "FeatureItemTable",
    "FrequencyBlock",
    "FrequencyFilter",
    "GatedSessionConv",
    "HSTULayer",
    "HSTULayers",
    "HorizontalConv",
    "ItemFeatures",
    "ItemTable",
    "LearnedPositions",
    "LiGRBlock",
    "LiGRLayers",
    "LinearAttention",
    "LinearRecurrentUnit",
    "NoPositions",
    "PackedGRU",
    "PooledReadout",
    "RotaryPositions",
    "SRGNNReadout",
    "SelfAttention",
    "SessionAttentionConv",
    "SinusoidalPositions",
    "StarSessionConv",
    "TimeBuckets",
    "TransformerBlock",
    "VerticalConv",
    "WindowView",
]
