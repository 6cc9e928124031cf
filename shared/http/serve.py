"""Serves an application on an address until it is stopped, and closes connections that only cost."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from shared.http.connection import LaneConnection, LaneRunner

SWEEP_SECONDS = 5.0

_POLL_SECONDS = 0.02
_LAST_SECONDS = 1.0
"""How long a call may take to end once it is cancelled."""


@dataclass(frozen=True)
class Place:
    """Where and how an application is served."""

    host: str = "127.0.0.1"
    port: int = 0
    own_port: int = 0
    """Where several processes share `port`: one at which this process alone is met, by whoever looks after it."""
    certificate: Path | None = None
    key: Path | None = None
    client_authority: Path | None = None
    """Clients may show a certificate that one of these signed; others end the connection, none is none."""
    header_bytes: int = 16 * 1024
    """How long the request line, or one header, may be: tokens are long."""
    headers: int = 100
    idle_seconds: float = 75.0
    """How long a connection may wait between two calls; longer than gateways keep theirs."""
    header_seconds: float = 20.0
    """How long a connection may take to send the head of a call."""
    stop_seconds: float = 20.0
    """How long calls under way may take at the end."""


class Server:
    """An application that listens."""

    def __init__(self, app: web.Application, place: Place, monotonic: Callable[[], float]) -> None:
        """`monotonic` tells the time that silent connections are measured by."""
        self._place = place
        self._monotonic = monotonic
        self._runner = LaneRunner(
            app,
            access_log=None,
            logger=_quiet_logger(),
            handle_signals=False,
            shutdown_timeout=_LAST_SECONDS,
            keepalive_timeout=place.idle_seconds,
            max_line_size=place.header_bytes,
            max_field_size=place.header_bytes,
            max_headers=place.headers,
            lingering_time=2.0,
            auto_decompress=False,
        )
        self._silent_since: dict[int, float] = {}
        self._sweep: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, also when any free one was asked for."""
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        await self._runner.setup()
        place, tls = self._place, _tls(self._place)
        shared = True if place.own_port else None
        for port in (place.port, place.own_port) if shared else (place.port,):
            site = web.TCPSite(self._runner, place.host, port, ssl_context=tls, backlog=1024, reuse_port=shared)
            await site.start()
        self._sweep = asyncio.create_task(self._close_silent_connections())

    async def stop(self) -> None:
        """Take no more connections, let calls under way finish within `stop_seconds`, close."""
        if self._sweep is not None:
            self._sweep.cancel()
        for site in self._runner.sites:
            await site.stop()
        await self._finish_calls()
        await self._runner.cleanup()

    async def _finish_calls(self) -> None:
        """Wait for calls under way. aiohttp's own way would throw away what still arrives of their bodies."""
        until = self._monotonic() + self._place.stop_seconds
        while (connections := self._connections()) and self._monotonic() < until:
            for connection in connections:
                if _is_idle(connection):
                    connection.force_close()
            await asyncio.sleep(_POLL_SECONDS)

    async def _close_silent_connections(self) -> None:
        """Nothing in aiohttp ends the wait for a first head: who sends it too slowly is cut off here."""
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self._place.header_seconds / 2))
            self.sweep()

    def sweep(self) -> None:
        """Close every connection that has sent no whole head for too long since it was first seen without one."""
        now = self._monotonic()
        silent = {id(connection): connection for connection in self._connections() if _is_silent(connection)}
        self._silent_since = {known: self._silent_since.get(known, now) for known in silent}
        for known, since in self._silent_since.items():
            if now - since >= self._place.header_seconds:
                silent[known].force_close()

    def _connections(self) -> list[Any]:
        return list(self._runner.server.connections) if self._runner.server else []


def _is_silent(connection: Any) -> bool:
    """Whether a connection has never sent a whole head: what comes later is under the keep-alive's time."""
    return connection._request_count == 0  # noqa: SLF001 - aiohttp offers no other way to see it


def _is_idle(connection: Any) -> bool:
    """Whether a connection serves no call at the moment."""
    if isinstance(connection, LaneConnection):
        return not connection.busy
    return not (connection._request_in_progress or connection._messages)  # noqa: SLF001 - as above


def _quiet_logger() -> logging.Logger:
    """Without this, every head that is no HTTP is logged as an error with its traceback: anybody could fill the log."""
    logger = logging.getLogger("http")
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


def _tls(place: Place) -> ssl.SSLContext | None:
    if place.certificate is None or place.key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(place.certificate, place.key)
    if place.client_authority is not None:
        context.load_verify_locations(place.client_authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context
