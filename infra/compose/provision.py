"""`python -m infra.compose.provision`: waits for the servers, then makes streams, durables and the bucket."""

import argparse
import asyncio
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from infra.compose import bucket
from infra.embedded import valkey
from infra.nats import __main__ as nats
from shared.blobs import BucketUnavailable
from shared.blobs.s3 import S3Blobs, S3Store
from shared.settings import secret

_PATIENCE = 120.0


class NotThere(Exception):
    """A server did not answer in time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once; the exit code is 0 when everything is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m infra.compose.provision", description=__doc__)
    parser.add_argument("--keys", type=Path, default=Path("/entrepot/keys"))
    parser.add_argument("--bus", default="nats:4222", help="host and port, here and below")
    parser.add_argument("--state", default="valkey:6379")
    parser.add_argument("--bucket", default="s3:8333")
    options = parser.parse_args(arguments)
    try:
        _wait("the bus", lambda: _listens(options.bus))
        _wait("the state store", lambda: _knows_us(options.state, secret(options.keys / "state.password")))
        _wait("the bucket", lambda: asyncio.run(_has_bucket(options.bucket, secret(options.keys / "bucket.secret"))))
    except NotThere as error:
        print(f"{error} did not answer within {_PATIENCE:.0f} s", file=sys.stderr)  # noqa: T201 - a command line tool
        return 1
    return nats.main(["apply", "--server", f"nats://{options.bus}", "--passwords", str(options.keys)])


def _wait(server: str, answers: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE
    while not answers():
        if time.monotonic() > until:
            raise NotThere(server)
        time.sleep(0.3)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=2):
        return True
    return False


def _knows_us(address: str, password: str) -> bool:
    host, _, port = address.rpartition(":")
    return valkey.takes_commands(host, int(port), password)


async def _has_bucket(endpoint: str, secret_key: str) -> bool:
    """Whether the store answers and has the bucket, which is made where it is missing."""
    who = bucket.access_key(bucket.PROVISIONER)
    store = S3Store(endpoint=endpoint, bucket=bucket.BUCKET, access_key=who, secret_key=secret_key, secure=False)
    blobs = S3Blobs(store)
    try:
        await blobs.make_bucket()
    except BucketUnavailable:
        return False
    finally:
        await blobs.close()
    return True


if __name__ == "__main__":
    sys.exit(main())
