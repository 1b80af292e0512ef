"""Metrics of a service for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphseq.serving.extras import need
from graphseq.serving.live import LiveSessions

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """Counters and histograms of one service, in the text format of Prometheus.

    Args:
        live: The sessions to measure.
    """

    def __init__(self, live: LiveSessions) -> None:
        self._library: Any = need("prometheus_client", "The page /metrics", extra="server")
        self.live = live
        self.registry = self._library.CollectorRegistry()
        self.requests = self._library.Counter(
            "graphseq_requests", "Requests answered", ("route", "status"), registry=self.registry
        )
        self.seconds = self._library.Histogram(
            "graphseq_request_seconds",
            "Seconds per request",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batches = self._library.Histogram(
            "graphseq_batch_size", "Requests per batch", buckets=SIZES, registry=self.registry
        )
        self.registry.register(self)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts a request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def collect(self) -> Iterable[Any]:
        """Metrics that are read from the sessions at each scrape."""
        core = need("prometheus_client.core", "The page /metrics", extra="server")
        clicks = core.CounterMetricFamily(
            "graphseq_clicks", "Clicks by outcome", labels=["outcome"]
        )
        for outcome, count in sorted(self.live.counts.items()):
            clicks.add_metric([outcome], count)
        yield clicks
        evicted = core.CounterMetricFamily("graphseq_evicted_sessions", "Sessions evicted")
        evicted.add_metric([], self.live.store.evicted)
        yield evicted
        cache = self.live.recommender.cache
        if cache is not None:
            asked = core.CounterMetricFamily("graphseq_cache", "Cached answers", labels=["found"])
            asked.add_metric(["yes"], cache.hits)
            asked.add_metric(["no"], cache.misses)
            yield asked

    def text(self) -> bytes:
        """All metrics as text."""
        found: bytes = self._library.generate_latest(self.registry)
        return found
