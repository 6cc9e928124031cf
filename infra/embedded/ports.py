"""Which port each part listens on, counted from one base so that several suites can run beside each other."""

import socket
from collections.abc import Iterable

from infra.embedded.errors import CannotStart

SERVICES = {
    "registry": 0,
    "identity": 1,
    "builder": 2,
    "scanner": 3,
    "attestor": 4,
    "cleanup": 5,
    "audit_log": 6,
}
"""Offsets of the services, in the order in which they are listed."""

NATS, NATS_MONITOR, VALKEY, S3 = 20, 21, 22, 23
S3_INSIDE = range(30, 40)
"""What the S3 server's parts speak among themselves."""

WORKERS = (*range(7, 20), *range(40, 91))
"""Where each worker of a service is met alone, when there are several behind the service's port."""

HIGHEST = max(*S3_INSIDE, *WORKERS)


def check_free(base: int, offsets: Iterable[int]) -> None:
    """Raises CannotStart naming the first port that somebody else has."""
    if not 1024 <= base <= 65535 - HIGHEST:
        raise CannotStart(f"the port base must lie between 1024 and {65535 - HIGHEST}, not at {base}")
    for offset in offsets:
        if not _free(base + offset):
            raise CannotStart(f"port {base + offset} is taken by another program: choose another base with --port-base")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
