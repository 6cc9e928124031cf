"""What is counted in every service, in Prometheus' form."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class _Series:
    """Calls that were alike."""

    seconds: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY) + 1))
    """How many fell into each bucket, not cumulated."""


class _Calls(Collector):
    """How long calls took. Counted here, for the library's own histogram takes as long as the rest of a short call."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._series: dict[tuple[str, str, int], _Series] = {}

    def count(self, verb: str, route: str, code: int, seconds: float) -> None:
        """One more."""
        series = self._series.get((verb, route, code))
        if series is None:
            series = self._series[verb, route, code] = _Series()
        series.seconds += seconds
        series.counts[bisect_left(LATENCY, seconds)] += 1

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """As the library wants it."""
        names = ("service", "verb", "route", "code")
        family = HistogramMetricFamily("entrepot_http_seconds", "How long calls took, by route.", labels=names)
        for (verb, route, code), series in list(self._series.items()):
            bounds = (*map(str, LATENCY), "+Inf")
            buckets = list(zip(bounds, accumulate(series.counts), strict=True))
            family.add_metric((self._service, verb, route, str(code)), buckets, series.seconds)
        yield family


class Metrics:
    """A service's counters; others that it needs it adds to the same `registry`."""

    def __init__(self, service: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.service = service
        self._calls = _Calls(service)
        self.registry.register(self._calls)
        self.in_flight = Gauge("entrepot_http_in_flight", "Calls under way.", ("service",), registry=self.registry)
        self.unaudited = Counter(
            "entrepot_http_unaudited", "Changes without an audit entry.", ("service", "route"), registry=self.registry
        )
        self._waiting = Gauge(
            "entrepot_http_waiting",
            "Calls that wait for earlier ones of their caller.",
            ("service",),
            registry=self.registry,
        )
        self._waited = Counter(
            "entrepot_http_waited",
            "Calls that had to wait for earlier ones of their caller: `came`, or refused as `late` or `full`.",
            ("service", "outcome"),
            registry=self.registry,
        )
        self.handled = Histogram(
            "entrepot_event_seconds",
            "How long handlers took, by topic and how they ended.",
            ("service", "topic", "outcome"),
            buckets=LATENCY,
            registry=self.registry,
        )
        self._watched: dict[str, Gauge] = {}
        self._under_way = 0
        self.in_flight.labels(service).set_function(lambda: self._under_way)

    def call_began(self) -> None:
        """One more call is under way."""
        self._under_way += 1

    def call_ended(self, verb: str, route: str, code: int, seconds: float) -> None:
        """A call was answered; `route` is the template, never the path."""
        self._under_way -= 1
        self._calls.count(verb, route, code, seconds)

    def call_left(self) -> None:
        """A call that was counted as under way goes on elsewhere, and is counted there."""
        self._under_way -= 1

    def calls_wait(self, read: Callable[[], int]) -> None:
        """How many calls wait is asked here."""
        self._waiting.labels(self.service).set_function(read)

    def turn_ended(self, outcome: str) -> None:
        """A call that had to wait did so, or was refused."""
        self._waited.labels(self.service, outcome).inc()

    def event_handled(self, topic: str, outcome: str, seconds: float) -> None:
        """A handler ended: `handled`, `rejected`, `later` or `failed`."""
        self.handled.labels(self.service, topic, outcome).observe(seconds)

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for, such as a lane's length; who comes last is asked."""
        if name not in self._watched:
            self._watched[name] = Gauge(f"entrepot_{name}", what, registry=self.registry)
        self._watched[name].set_function(read)

    def text(self) -> bytes:
        """Everything counted, as `/metrics` answers it."""
        return generate_latest(self.registry)
