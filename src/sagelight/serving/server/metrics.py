"""What /metrics tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64)
STAGES = {
    "decoding": "From bytes to pixels, waiting included.",
    "model": "From pixels to probabilities, waiting included.",
}
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """Counters and histograms of one server, in a registry of its own."""

    def __init__(self, waiting: Callable[[], int], in_hand: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter(
            "sagelight_requests", "Requests answered.", ["route", "code"], registry=own
        )
        self.seconds = Histogram(
            "sagelight_request_seconds",
            "From headers to answer.",
            ["route"],
            buckets=SECONDS,
            registry=own,
        )
        self.stages = {
            stage: Histogram(f"sagelight_{stage}_seconds", text, buckets=SECONDS, registry=own)
            for stage, text in STAGES.items()
        }
        self.batches = Histogram(
            "sagelight_batch_size", "Photos of a batch.", buckets=SIZES, registry=own
        )
        self.failures = Counter(
            "sagelight_model_failures", "Requests that the network failed.", registry=own
        )
        Gauge(
            "sagelight_queue_length", "Photos that wait for the network.", registry=own
        ).set_function(waiting)
        Gauge(
            "sagelight_requests_in_hand", "Requests not yet answered.", registry=own
        ).set_function(in_hand)
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
