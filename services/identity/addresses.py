"""Where this service is: by its settings or, where these say nothing, by the socket that a call came in on.

What the caller writes into its Host header is never believed: an assertion for somebody else's token endpoint would be
good here for whoever names that endpoint.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from aiohttp import web

from shared.settings import Settings


@dataclass(frozen=True)
class Addresses:
    """The addresses that clients may know this service by."""

    settings: Settings

    def base(self, request: web.Request) -> str:
        """The address that key files and discovery name."""
        return self.configured or self._reached(request)

    def tokens(self, request: web.Request) -> frozenset[str]:
        """Every address of the token endpoint that an assertion may be made out to."""
        base = self.base(request)
        names = [base] if self.configured else [base, *_loopback(base)]
        return frozenset(f"{name}/token" for name in names)

    @property
    def configured(self) -> str:
        """The public address; empty where none is set."""
        return self.settings.public_url.rstrip("/")

    def _reached(self, request: web.Request) -> str:
        host, port = _socket(request) or (self.settings.host, self.settings.port)
        scheme = "https" if self.settings.tls_certificate is not None else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _socket(request: web.Request) -> tuple[str, int] | None:
    """Our end of the connection."""
    place: Any = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return (str(place[0]), int(place[1])) if isinstance(place, tuple) else None  # pyright: ignore[reportUnknownArgumentType]


def _loopback(base: str) -> list[str]:
    """On this machine an address has one more name."""
    scheme, _, place = base.partition("://")
    host, _, port = place.rpartition(":")
    try:
        here = ip_address(host.strip("[]")).is_loopback
    except ValueError:
        here = False
    return [f"{scheme}://localhost:{port}"] if here else []
