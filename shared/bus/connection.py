"""How the real bus is reached: address and user, what is counted, and whether the server keeps what it acknowledges."""

import asyncio
import json
import ssl
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from prometheus_client import CollectorRegistry, Counter, Gauge

log: structlog.stdlib.BoundLogger = structlog.get_logger()

CONNECT_SECONDS = 5
ASK_SECONDS = 5.0


class BusMayLose(Exception):
    """The server may lose what it acknowledged: it does not sync every write."""


@dataclass(frozen=True)
class Address:
    """Where the bus is and as whom a service speaks to it."""

    servers: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    monitor: str = ""
    """The server's monitor, such as `http://127.0.0.1:8222`; empty: not asked."""

    @property
    def inbox(self) -> str:
        """The prefix under which answers arrive: each user's own, so that no other can read them."""
        return f"_INBOX_{self.user}" if self.user else "_INBOX"


class BusMetrics:
    """What is counted about the bus."""

    def __init__(self, service: str, registry: CollectorRegistry | None = None) -> None:
        chosen = registry or CollectorRegistry()
        self._service = service
        self._errors = Counter("entrepot_bus_errors", "Errors of connections.", ("service",), registry=chosen)
        self._refused = Counter("entrepot_bus_refused", "Rights that were missing.", ("service",), registry=chosen)
        self._handled = Counter(
            "entrepot_bus_deliveries",
            "Deliveries by what became of them.",
            ("service", "topic", "fate"),
            registry=chosen,
        )
        self._facts = Counter(
            "entrepot_bus_facts_refused", "Messages that a view did not take.", ("service", "topic"), registry=chosen
        )
        self._restarts = Counter(
            "entrepot_bus_restarts", "Durables taken up anew by the watchdog.", ("service", "durable"), registry=chosen
        )
        self._age = Gauge("entrepot_bus_view_age_seconds", "Age of the oldest view.", ("service",), registry=chosen)

    async def error(self, error: Exception) -> None:
        """An error of a connection: only here does the reason of a refused publication show."""
        if "permissions violation" in str(error).lower():
            self._refused.labels(self._service).inc()
            log.error("bus refuses", reason=str(error))
        else:
            self._errors.labels(self._service).inc()
            log.warning("bus connection error", reason=str(error), kind=type(error).__name__)

    def handled(self, topic: str, fate: str) -> None:
        """A delivery came to its end."""
        self._handled.labels(self._service, topic, fate).inc()

    def fact_refused(self, topic: str) -> None:
        """A view did not take a message: not its producer's to say, or not to be read."""
        self._facts.labels(self._service, topic).inc()

    def restarted(self, durable: str) -> None:
        """The watchdog took a durable up anew."""
        self._restarts.labels(self._service, durable).inc()

    def aged(self, seconds: float) -> None:
        """How old the oldest view is."""
        self._age.labels(self._service).set(seconds)


async def connect(
    address: Address,
    *,
    name: str,
    error: Callable[[Exception], Awaitable[None]],
    closed: Callable[[], Awaitable[None]] | None = None,
    endless: bool = True,
) -> Client:
    """A connection that reconnects for ever, or, not `endless`, one that ends with its first interruption."""
    client = Client()
    opening = cast("Any", client).connect(
        list(address.servers),
        name=name,
        user=address.user or None,
        password=address.password or None,
        tls=address.tls,
        inbox_prefix=address.inbox,
        connect_timeout=CONNECT_SECONDS,
        allow_reconnect=endless,
        # Not 0: the client takes that for "as often as you like".
        max_reconnect_attempts=-1 if endless else 1,
        reconnect_time_wait=1 if endless else 0.1,
        ping_interval=10,
        max_outstanding_pings=2,
        error_cb=error,
        closed_cb=closed,
    )
    try:
        await opening
    except BaseException:
        # Also when it is called off: a half-open connection would stay open.
        await client.close()
        raise
    return client


def jetstream(connection: Client) -> JetStreamContext:
    """JetStream's calls on a connection, each answered in time or failed."""
    return cast("Any", connection).jetstream(timeout=ASK_SECONDS)


async def listen(
    connection: Client, subject: str, heard: Callable[[Msg], Awaitable[None]] | None = None
) -> Subscription:
    """Hear a subject as it is said; without `heard` the messages wait in the subscription."""
    return await cast("Any", connection).subscribe(subject, cb=heard)


class BusSilent(BusMayLose):
    """The monitor does not say whether the server syncs."""


async def refuse_a_lossy_server(address: Address, *, accept_loss: bool) -> None:
    """Ask the monitor whether every write is synced. Raises BusMayLose where it is not, BusSilent without an answer."""
    if accept_loss or not address.monitor:
        return
    try:
        report = await asyncio.to_thread(_report, address.monitor)
    except (OSError, ValueError) as error:
        raise BusSilent(f"the bus's monitor at {address.monitor} does not say whether writes are synced") from error
    if not report.get("jetstream", {}).get("config", {}).get("sync_always"):
        raise BusMayLose("the bus acknowledges before it writes to disk: set `sync_interval: always` in its jetstream")


def _report(monitor: str) -> dict[str, Any]:
    if not monitor.startswith(("http://", "https://")):
        raise ValueError(monitor)
    with urllib.request.urlopen(f"{monitor.rstrip('/')}/varz", timeout=ASK_SECONDS) as answer:  # noqa: S310 - checked
        return json.load(answer)
