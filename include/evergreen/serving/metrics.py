"""The service's numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from evergreen.serving.service import Service

BUCKETS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 4.096)


class Metrics:
    """Counts requests, and reads the rest from the services when asked."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "evergreen_requests", "Predict requests by HTTP status", ["pipeline", "status"], registry=self._registry
        )
        self._rows = Counter("evergreen_predicted_rows", "Rows scored", ["pipeline"], registry=self._registry)
        self._seconds = Histogram(
            "evergreen_request_seconds",
            "Seconds from a predict request's arrival to its answer",
            ["pipeline"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._registry.register(ServiceCollector(list(services)))

    def observe(self, pipeline_name: str, status: int, seconds: float, rows: int) -> None:
        """Counts one answered predict request."""
        self._requests.labels(pipeline_name, str(status)).inc()
        self._seconds.labels(pipeline_name).observe(seconds)
        self._rows.labels(pipeline_name).inc(rows)

    def exposition(self) -> bytes:
        """All numbers in Prometheus' text format."""
        return generate_latest(self._registry)


class ServiceCollector(Collector):
    """What the services say of themselves at the moment of a scrape."""

    def __init__(self, services: list[Service]) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        version = GaugeMetricFamily("evergreen_version_info", "1 for what serves", labels=["pipeline", "version"])
        ready = GaugeMetricFamily("evergreen_ready", "1 when the published version serves", labels=["pipeline"])
        backlog = GaugeMetricFamily(
            "evergreen_prediction_backlog_rows", "Predictions journaled but not in the lake yet", labels=["pipeline"]
        )
        history = GaugeMetricFamily("evergreen_history_rows", "Recent events in memory", labels=["pipeline"])
        failures = CounterMetricFamily(
            "evergreen_model_load_failures", "Published models that could not be loaded", labels=["pipeline"]
        )
        for service in self._services:
            name = service.pipeline.pipeline
            if service.follower.live is not None:
                version.add_metric([name, service.follower.live.version], 1)
            ready.add_metric([name], service.ready)
            backlog.add_metric([name], service.log.backlog_rows)
            history.add_metric([name], service.history.num_rows)
            failures.add_metric([name], service.follower.failures)
        yield from (version, ready, backlog, history, failures)
