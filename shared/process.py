"""A service's process: the parts it is given, what it gives back, and how it is started."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
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
from shared.settings import PREFIX, Settings, SettingsWrong, read
from shared.state.face import State
from shared.state.keys import Keys
from shared.telemetry.logs import log_to, take_over
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Traces

M = TypeVar("M", bound=BaseModel)

WRONG_SETTINGS = 78
"""Exit code for settings that cannot be: EX_CONFIG of sysexits.h."""


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


def run(service: str, build: Build, *, loop: str = "uvloop") -> None:
    """Run a service until it is told to stop; `loop` is what it prefers, where the settings say nothing."""
    try:
        settings = read(Settings, os.environ)
        log_to(sys.stderr, settings.log_level, service)
        with asyncio.Runner(loop_factory=_loop_factory(settings.loop or loop)) as runner:
            code = runner.run(_live(service, build, settings))
    except SettingsWrong as error:
        sys.stderr.write(f"{service}: {error}\n")
        code = WRONG_SETTINGS
    except Exception as error:  # noqa: BLE001 - the last line of a process: told in the form of all other logs
        structlog.get_logger("process").error("not started", reason=str(error), exc_info=error)
        code = 1
    raise SystemExit(code)


async def _live(service: str, build: Build, settings: Settings) -> int:
    # Imported here: tests and simulation build services without the real parts and what these import.
    from shared.assembly import assembled  # noqa: PLC0415
    from shared.lifetime import Lifetime  # noqa: PLC0415

    async with assembled(service, settings, os.environ) as real:
        take_over()
        return await Lifetime(real, build(real.parts)).live()


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    import uvloop  # noqa: PLC0415 - a service on asyncio needs no uvloop

    return uvloop.new_event_loop
