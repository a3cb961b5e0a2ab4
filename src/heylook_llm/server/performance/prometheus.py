"""GET /metrics: what was measured since the server began, in the words of Prometheus and OpenTelemetry's GenAI."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from heylook_llm.server.backend import ModelStatus
from heylook_llm.server.performance.measures import measured
from heylook_llm.server.performance.record import Finished

_DURATIONS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TO_FIRST: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""OpenTelemetry's bounds, and below 10 ms some more: small models draw hundreds of tokens a second."""
_OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/api/chat": "chat",
    "/v1/completions": "text_completion",
    "/api/generate": "generate_content",
    "/v1/embeddings": "embeddings",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
}
_NAMES: Final = ("gen_ai_request_model", "gen_ai_operation_name")


class Metrics:
    """Counts finished requests; asks for the rest when it is scraped."""

    def __init__(
        self, models: Callable[[], list[ModelStatus]], in_flight: Callable[[], int], dropped: Callable[[], int]
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "heylook_requests",
            "Finished requests.",
            (*_NAMES, "route", "outcome", "error_type"),
            registry=self._registry,
        )
        self._tokens = Counter(
            "heylook_tokens", "Tokens: prompt (cached ones among them), output.", ("gen_ai_request_model", "type"),
            registry=self._registry,
        )  # fmt: skip
        self._refused = Counter(
            "heylook_refused_requests",
            "Requests that were refused before a model was asked.",
            ("error_type",),
            registry=self._registry,
        )
        self._duration = self._histogram(
            "gen_ai_server_request_duration_seconds", "From reception to the last byte.", _DURATIONS
        )
        self._to_first = self._histogram(
            "gen_ai_server_time_to_first_token_seconds", "From reception to the first token.", _TO_FIRST
        )
        self._per_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds", "Per token after the first.", _PER_TOKEN
        )
        self._joules = Counter(
            "heylook_energy_joules", "Energy attributed to requests, without the idle machine's.",
            ("gen_ai_request_model", "phase"), registry=self._registry,
        )  # fmt: skip
        self._queue = self._histogram("heylook_queue_seconds", "Waiting for the model and for a place.", _TO_FIRST)
        self._load = self._histogram("heylook_load_seconds", "Waiting for the model's load.", _DURATIONS)
        self._registry.register(_Now(models, in_flight, dropped))

    def _histogram(self, name: str, what: str, bounds: tuple[float, ...]) -> Histogram:
        return Histogram(name, what, _NAMES, buckets=bounds, registry=self._registry)

    def observe(self, finished: Finished) -> None:
        """Count a request."""
        names = (finished.model, _OPERATIONS.get(finished.route, "other"))
        self._requests.labels(*names, finished.route, finished.outcome, finished.error or "").inc()
        usage, measures = finished.usage, measured(finished)
        for kind, count in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("output", usage.output_tokens),
            ("drafted", usage.draft_tokens),
            ("accepted", usage.accepted_tokens),
        ):
            self._tokens.labels(finished.model, kind).inc(count)
        if finished.energy is not None:
            for phase, joules in (
                ("prefill", finished.energy.prefill_joules),
                ("decode", finished.energy.decode_joules),
            ):
                if joules is not None:
                    self._joules.labels(finished.model, phase).inc(joules)
        for histogram, ns in (
            (self._duration, measures.e2e_ns),
            (self._to_first, measures.ttft_ns),
            (self._per_token, measures.tpot_ns),
            (self._queue, measures.queue_ns),
            (self._load, measures.load_ns),
        ):
            if ns is not None:
                histogram.labels(*names).observe(ns / 1e9)

    def refuse(self, code: str) -> None:
        """Count a request that was refused before it became one."""
        self._refused.labels(code).inc()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All of it in the format that was asked for, and its media type."""
        encode, media_type = choose_encoder(accept)
        encoded: bytes = encode(self._registry)
        return encoded, media_type


class _Now(Collector):
    """What is so when it is asked."""

    def __init__(
        self, models: Callable[[], list[ModelStatus]], in_flight: Callable[[], int], dropped: Callable[[], int]
    ) -> None:
        self._models = models
        self._in_flight = in_flight
        self._dropped = dropped

    def describe(self) -> Iterator[Any]:
        """Nothing before it is asked: there is no model at the start."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """The gauges, and counters that others keep."""
        yield GaugeMetricFamily("heylook_requests_in_flight", "Requests that are being answered.", self._in_flight())
        yield CounterMetricFamily("heylook_dropped_records", "Requests that could not be kept.", self._dropped())
        statuses = self._models()
        yield _gauge("heylook_model_loaded", "1: it is loaded.", statuses, lambda s: float(s.state == "ready"))
        yield _gauge("heylook_model_queued", "Requests that wait for it.", statuses, lambda s: s.queued)
        yield _gauge(
            "heylook_model_resident_bytes", "Main memory of its process.", statuses, lambda s: s.resident_bytes
        )
        yield _gauge(
            "heylook_batch_size",
            "Sequences of its last step.",
            statuses,
            lambda s: s.stats.batch_size if s.stats else None,
        )
        yield _gauge(
            "heylook_kv_used_tokens",
            "Cells of its pool in use.",
            statuses,
            lambda s: s.stats.kv_used_tokens if s.stats else None,
        )
        yield _gauge(
            "heylook_kv_tokens", "Cells of its pool.", statuses, lambda s: s.info.kv_tokens if s.info else None
        )


def _gauge(
    name: str, what: str, statuses: list[ModelStatus], value: Callable[[ModelStatus], float | None]
) -> GaugeMetricFamily:
    """One value for each model of which it is known."""
    family = GaugeMetricFamily(name, what, labels=("gen_ai_request_model",))
    for status in statuses:
        found = value(status)
        if found is not None:
            family.add_metric((status.spec.id,), found)
    return family
