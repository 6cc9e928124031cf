"""Where a call comes from: the peer, or who a gateway that we trust says it is."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from aiohttp import web
from multidict import CIMultiDictProxy


@dataclass(frozen=True, slots=True)
class Head:
    """What a request says before its body, where no request object was made of it."""

    headers: CIMultiDictProxy[str]
    remote: str | None
    """The other end of the connection."""


Arrived = web.Request | Head

Origins = Callable[[Arrived], str]
"""Tells the address of whoever made a call; empty where it is unknown."""

Network = IPv4Network | IPv6Network


def peer(request: Arrived) -> str:
    """The other end of the connection."""
    return request.remote or ""


def behind(proxies: str) -> Origins:
    """Believe X-Forwarded-For as far as it was written by gateways in these networks, separated by commas.

    Raises ValueError for what is not a network.
    """
    trusted = tuple(ip_network(text.strip()) for text in proxies.split(",") if text.strip())
    if not trusted:
        return peer

    def origin(request: Arrived) -> str:
        written = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        return _nearest_stranger([*written, peer(request)], trusted)

    return origin


def _nearest_stranger(hops: list[str], trusted: tuple[Network, ...]) -> str:
    """The last hop that is none of ours: what stands before it anybody may have written."""
    found = ""
    for hop in reversed(hops):
        address = hop.strip()
        if not _is_address(address):
            return found
        found = address
        if not any(ip_address(address) in network for network in trusted):
            return found
    return found


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
