"""Loaders: sample order, batches of graphs, shards larger than memory."""
