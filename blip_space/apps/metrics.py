"""What `GET /metrics` says, in the text form of Prometheus: counts, times and the engine's state, and nothing of users.

The only importer of prometheus_client. Its labels have few values each: no text, address, file or key.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from blip_space.serving.observed import BATCH, Answer
from blip_space.serving.protocol import EngineProtocol, EngineStatus

FIRST_TOKEN_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ANSWER_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class ServerMetrics:
    """The metrics of one server."""

    def __init__(self, engine: EngineProtocol) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.registry.register(_EngineState(engine))
        ProcessCollector(registry=self.registry)
        self._calls = Counter(
            "blip_space_requests",
            "Calls of endpoints, and events of the page, that have ended, by outcome: answered, cancelled, or the code "
            "of an error.",
            ("endpoint", "outcome"),
            registry=self.registry,
        )
        self._responses = Counter(
            "blip_space_http_responses", "HTTP responses.", ("route", "status"), registry=self.registry
        )
        self._answers = Counter(
            "blip_space_answers",
            "Answers that have ended, those of each image of a batch included.",
            ("model", "endpoint", "outcome"),
            registry=self.registry,
        )
        self._tokens = Counter(
            "blip_space_generated_tokens", "Tokens of answers that have ended.", ("model",), registry=self.registry
        )
        self._first_token_seconds = Histogram(
            "blip_space_first_token_seconds",
            "From a request to the first text of a streamed answer, queueing included.",
            ("model",),
            buckets=FIRST_TOKEN_SECONDS,
            registry=self.registry,
        )
        self._answer_seconds = Histogram(
            "blip_space_answer_seconds",
            "From a request to the end of a complete answer, queueing included.",
            ("model", "quality"),
            buckets=ANSWER_SECONDS,
            registry=self.registry,
        )

    def add_answer(self, answer: Answer) -> None:
        """Count an answer that has ended. A call that its client has left ends only there."""
        self._answers.labels(answer.model, answer.endpoint, answer.outcome).inc()
        self._tokens.labels(answer.model).inc(answer.tokens)
        if answer.outcome == "answered":
            self._answer_seconds.labels(answer.model, answer.quality).observe(answer.seconds)
        if answer.first_token_seconds is not None:
            self._first_token_seconds.labels(answer.model).observe(answer.first_token_seconds)
        if answer.outcome == "cancelled" and answer.endpoint != BATCH:
            self.add_call(answer.endpoint, answer.outcome)

    def add_call(self, endpoint: str, outcome: str) -> None:
        """Count a call of an endpoint that has ended."""
        self._calls.labels(endpoint, outcome).inc()

    def add_response(self, route: str, status: int) -> None:
        """Count an HTTP response."""
        self._responses.labels(route, str(status)).inc()

    def respond(self, _request: Request) -> Response:
        """The response to `GET /metrics`. It asks the engine for its state, so it runs in a thread."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)


class _EngineState(Collector):
    """The engine's status at the time of a scrape. The engine may be another process, which is asked once."""

    def __init__(self, engine: EngineProtocol) -> None:
        self._engine = engine

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering asks for no status."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The metrics of the engine's state."""
        status = self._engine.status()
        metrics = status.metrics
        yield _gauge("blip_space_waiting", "Requests that wait for their answer to begin.", status.waiting)
        yield _gauge("blip_space_running", "Answers that are being generated.", status.running)
        yield _gauge("blip_space_ready", "1 if a model is loaded and can answer, else 0.", status.status == "ready")
        yield _gauge("blip_space_replicas", "Engines that are ready.", _count_engines(status))
        yield _gauge("blip_space_tokens_per_second", "Over the last 10 seconds.", metrics.tokens_per_second)
        yield _gauge("blip_space_engine_memory_bytes", "Memory of the engine's process.", metrics.memory_bytes)
        yield _gauge(
            "blip_space_device_memory_bytes", "Memory of the GPU that torch holds.", metrics.device_memory_bytes
        )
        labels = {"model": status.model, "precision": status.precision, "device": status.device}
        model = GaugeMetricFamily("blip_space_model_info", "The model that was used last.", labels=list(labels))
        model.add_metric(list(labels.values()), 1)
        yield model
        hits = CounterMetricFamily("blip_space_cache_hits", "What caches saved computing again.", labels=["cache"])
        hits.add_metric(["image_features"], metrics.prefix_hits)
        hits.add_metric(["kv_prefix"], metrics.turn_hits)
        yield hits
        yield CounterMetricFamily(
            "blip_space_restarts", "How often a thread, a batch or a process was restarted.", value=metrics.restarts
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _count_engines(status: EngineStatus) -> int:
    return int(status.status == "ready") if status.replicas is None else status.replicas
