"""What a service is built from, and what its `build` gives back."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel

from shared.blobs import Blobs
from shared.blobs.elsewhere import Buckets
from shared.bus import Bus
from shared.clock import Clock, Cpu, Ids
from shared.http.face import face
from shared.http.gate import Authenticate, Verifier
from shared.http.limits import Limits
from shared.http.middleware import Challenge
from shared.http.origins import behind
from shared.http.routes import Route
from shared.http.translation import ErrorBody, google_error
from shared.identity.directory import Directory
from shared.journal import Journal
from shared.outbox import Outbox
from shared.settings import PREFIX, Settings, read
from shared.state.face import State
from shared.state.keys import Keys
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Traces

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Parts:
    """Everything that a service is built from; in tests and simulation these are the memory versions."""

    service: str
    settings: Settings
    environment: Mapping[str, str]
    clock: Clock
    ids: Ids
    cpu: Cpu
    state: State
    keys: Keys
    bus: Bus
    blobs: Blobs
    outbox: Outbox
    journal: Journal
    directory: Directory
    verifier: Verifier
    metrics: Metrics
    traces: Traces
    elsewhere: Mapping[str, Blobs] = field(default_factory=dict[str, Blobs])
    """The buckets of registries in other locations, by location."""

    @property
    def buckets(self) -> Buckets:
        """Where the bytes of each location are."""
        return Buckets(self.blobs, self.elsewhere)

    def face(
        self,
        routes: Sequence[Route],
        *,
        limits: Limits | None = None,
        error_body: ErrorBody = google_error,
        challenge: Challenge | None = None,
        authenticate: Authenticate | None = None,
    ) -> web.Application:
        """The service's HTTP face, with this process's parts behind it."""
        return face(
            self.service,
            routes,
            directory=self.directory,
            verifier=self.verifier,
            journal=self.journal,
            clock=self.clock,
            ids=self.ids,
            limits=limits or Limits.of(self.settings),
            error_body=error_body,
            challenge=challenge,
            authenticate=authenticate,
            metrics=self.metrics,
            traces=self.traces,
            origins=behind(self.settings.trusted_proxies),
        )

    def own(self, model: type[M]) -> M:
        """The service's own settings: the field `window` of the scanner is `ENTREPOT_SCANNER_WINDOW`."""
        return read(model, self.environment, f"{PREFIX}{self.service.upper()}_")


@dataclass(frozen=True)
class Service:
    """What `build` gives back: a face, and what runs beside it."""

    app: web.Application
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    """Loops that run as long as the process; one that ends takes the process down."""
    on_start: Sequence[Callable[[], Awaitable[None]]] = ()
    """Done once, before the bus is heard and calls are taken."""
    on_stop: Sequence[Callable[[], Awaitable[None]]] = ()
    """Done once, after the last call and event."""
    ready: Callable[[], list[str]] = list[str]
    """Reasons why this replica is not ready."""


Build = Callable[[Parts], Service]
