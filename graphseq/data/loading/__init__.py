"""Loaders: order of samples, batches of graphs, shards larger than memory."""
