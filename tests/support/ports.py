"""Ports for what tests start: no other test process of this machine is given the same ones as long as this one lives.

All of them lie below those that the kernel gives to outgoing connections: one of these could take a port before the
server does.
"""

import atexit
import itertools
import os
import socket
from functools import cached_property

SUITE = 40
"""How many ports, from its base on, a suite may take."""


class Blocks:
    """A range of ports in blocks, each of which one process at a time has to itself.

    A claim is a name in the kernel: it is seen wherever the ports are, and ends with the process, however that ends.
    """

    def __init__(self, ports: range, size: int, whose: str = "tests") -> None:
        """Only those see each other's claims that say `whose` alike."""
        self._whose = whose
        self._blocks = [range(first, first + size) for first in range(ports.start, ports.stop, size)]
        self._claim = socket.socket(socket.AF_UNIX)
        self._tried = itertools.count(os.getpid())

    @cached_property
    def block(self) -> range:
        """The block of this process, claimed when it is first asked for."""
        for block in self._blocks:
            try:
                self._claim.bind(f"\0entrepot {self._whose} {block.start}")
            except OSError:
                continue
            atexit.register(self.give_back)
            return block
        raise RuntimeError("other test processes have all ports that are there for tests")

    def free(self, together: int = 1, *, again: bool) -> int:
        """The first of that many free ports in a row, another one each time: a port comes again as late as can be.

        `again`: what only waits to be forgotten by the kernel counts as free, as for a server that says so.
        """
        firsts = self.block[::together]
        for _ in firsts:
            first = firsts[next(self._tried) % len(firsts)]
            if all(_is_free(port, again=again) for port in range(first, first + together)):
                return first
        raise RuntimeError(f"no free port from {self.block.start} to {self.block.stop}")

    def give_back(self) -> None:
        """End the claim before the process ends."""
        self._claim.close()


_SINGLE = Blocks(range(10_000, 20_000), 500)
_SUITES = Blocks(range(20_000, 32_000), 10 * SUITE)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    return _SINGLE.free(again=True)


def free_base() -> int:
    """A port base with room for a suite."""
    return _SUITES.free(SUITE, again=False)


def _is_free(port: int, *, again: bool) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, again)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
