"""GET requests to addresses that came with a build: never into the operator's own network.

Redirects are followed by hand, a few, each target looked at anew. A name is resolved once: the connection goes to an
address that was looked at. Credentials stay with whom they were meant for.
"""

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from services.builder.reach import Reach

MAX_REDIRECTS = 5
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class Refused(Exception):
    """An address that builds do not reach; the message says which."""


class PublicResolver(AbstractResolver):
    """Answers only with addresses that builds may reach."""

    def __init__(self, reach: Reach, resolver: AbstractResolver | None = None) -> None:
        """`resolver` finds the addresses; by default this machine's way."""
        self._reach = reach
        self._resolver = resolver or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Addresses of a host. One that is not allowed spoils them all: a name that mixes both is up to something."""
        found = await self._resolver.resolve(host, port, family)
        if not all(self._reach.allows(one["host"]) for one in found):
            raise Refused(f"{host} has an address that builds do not reach")
        return found

    async def close(self) -> None:
        """Let the resolver go."""
        await self._resolver.close()


@dataclass(frozen=True)
class Web:
    """What the builder fetches with."""

    inside: aiohttp.ClientSession
    """For our own registry and its token service."""
    outside: aiohttp.ClientSession
    reach: Reach

    @classmethod
    def open(cls, reach: Reach, times: aiohttp.ClientTimeout, resolver: AbstractResolver | None = None) -> "Web":
        """Two sessions that keep no cookies."""
        connector = aiohttp.TCPConnector(resolver=PublicResolver(reach, resolver))
        return cls(
            aiohttp.ClientSession(timeout=times, cookie_jar=aiohttp.DummyCookieJar()),
            aiohttp.ClientSession(timeout=times, cookie_jar=aiohttp.DummyCookieJar(), connector=connector),
            reach,
        )

    async def close(self) -> None:
        """Let the connections go."""
        await self.inside.close()
        await self.outside.close()

    async def get(self, address: URL, headers: Mapping[str, str], *, own: bool) -> aiohttp.ClientResponse:
        """GET, redirects followed. `own`: it is our own deployment's, and so allowed, but for redirects elsewhere.

        Raises Refused, aiohttp.ClientError and TimeoutError.
        """
        headers = dict(headers)
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._one(address, headers, own=own)
            if answer.status not in _REDIRECTS:
                return answer
            location = answer.headers.get("Location", "")
            answer.release()
            target = _joined(address, location)
            if target.origin() != address.origin():
                headers.pop("Authorization", None)
                own = False
            address = target
        raise Refused(f"more than {MAX_REDIRECTS} redirects")

    async def _one(self, address: URL, headers: Mapping[str, str], *, own: bool) -> aiohttp.ClientResponse:
        if own:
            return await self.inside.get(address, headers=headers, allow_redirects=False)
        if _literal(address.host or "") and not self.reach.allows(address.host or ""):
            raise Refused(f"builds do not reach {address.host}")
        return await self.outside.get(address, headers=headers, allow_redirects=False)


def parsed(text: str) -> URL:
    """An absolute http or https address without a login in it. Raises Refused."""
    try:
        address = URL(text)
        sound = address.scheme in {"http", "https"} and address.host and address.user is None
        if sound and address.port is not None:
            return address
    except ValueError:
        pass
    raise Refused(f"not an address to fetch from: {text[:200]!r}")


def _joined(address: URL, location: str) -> URL:
    try:
        target = parsed(str(address.join(URL(location))))
    except ValueError:
        raise Refused(f"a redirect to {location[:200]!r}") from None
    if address.scheme == "https" and target.scheme != "https":
        raise Refused("a redirect from https to http")
    return target


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
