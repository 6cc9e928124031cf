"""Which addresses builds may reach: what is public, and of what is private only what the operator names."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from services.builder.errors import NoRuntime

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Net: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# What is not meant to be reached through the internet: RFC 6890 and its successors. Documentation networks are in it,
# since they stand for private ones in many test set-ups.
PRIVATE = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_TABLE = Path("/proc/net/fib_trie")


@dataclass(frozen=True)
class Reach:
    """The operator's choice."""

    allowed: tuple[Net, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Reach":
        """Read the setting: networks or addresses with commas between. Raises NoRuntime."""
        try:
            return cls(tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()))
        except ValueError as wrong:
            raise NoRuntime(f"ENTREPOT_BUILDER_REACH: {wrong}") from None

    def allows(self, text: str) -> bool:
        """Whether an address may be connected to."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        inner = _inner(address)
        if any(one in net for net in self.allowed for one in (address, inner) if one.version == net.version):
            return True
        if isinstance(inner, ipaddress.IPv4Address):
            return not any(inner in net for net in PRIVATE)
        return inner.is_global and not inner.is_multicast

    def routes(self, own: Iterable[str], gateway: str) -> list[str]:
        """Lines for `ip -batch` that close a network to all private addresses and to those of this machine."""
        allowed = [net for net in self.allowed if isinstance(net, ipaddress.IPv4Network)]
        closed = [net for net in PRIVATE if not any(net.subnet_of(open_) for open_ in allowed)]
        hosts = [ipaddress.IPv4Network(address) for address in own]
        return [
            *(f"route replace unreachable {net}" for net in closed),
            *(f"route replace {net} via {gateway}" for net in allowed if net.prefixlen),
            *(f"route replace unreachable {host}" for host in hosts if host not in allowed),
        ]


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)
    return address


def own_addresses(table: Path = _TABLE) -> Sequence[str]:
    """The IPv4 addresses of this machine, also public ones. Loopback is left out: it is always closed."""
    try:
        text = table.read_text()
    except OSError:
        return ()
    found = re.findall(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL", text)
    return sorted({address for address in found if not ipaddress.ip_address(address).is_loopback})
