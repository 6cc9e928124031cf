"""`python -m infra.nats config|plan|apply`: write the server's configuration; show, or do, what its streams lack."""

import argparse
import asyncio
import json
import ssl
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nats.aio.client import Client
from nats.errors import Error
from pydantic import TypeAdapter, ValidationError

from infra.nats.passwords import Passwords
from infra.nats.provision import Act, Change, Provisioner, ProvisionRefused
from infra.nats.server import Listening, write_configuration
from infra.nats.topology import ADMINISTRATOR, Subscriber, Topology
from shared.bus.connection import Address, connect
from shared.clock import SystemIds
from shared.names import LOCATION
from shared.settings import SettingsWrong

_SUBSCRIBERS = TypeAdapter(tuple[Subscriber, ...])


@dataclass(frozen=True)
class Target:
    """A server to be provisioned, and for whom."""

    server: str
    passwords: Passwords
    topology: Topology
    subscribers: Sequence[Subscriber] = ()
    tls: ssl.SSLContext | None = None


async def provision_all(target: Target, *, do: bool, may_shrink: bool = False) -> list[Change]:
    """Plan, and where `do` says so apply, for the services' account and each outside subscriber's."""
    changes: list[Change] = []
    async with _connected(target, ADMINISTRATOR) as connection:
        provisioner = Provisioner(connection)
        changes += await provisioner.plan(target.topology.streams(), target.topology.durables())
        if do:
            await provisioner.apply(changes, may_shrink=may_shrink)
    for subscriber in target.subscribers:
        async with _connected(target, subscriber.administrator) as connection:
            changes += await _copy(Provisioner(connection), target, subscriber, do=do, may_shrink=may_shrink)
    return changes


async def _copy(
    provisioner: Provisioner, target: Target, subscriber: Subscriber, *, do: bool, may_shrink: bool
) -> list[Change]:
    planned = await provisioner.plan([target.topology.copy_for(subscriber)], [])
    # Durables there are the subscriber's own.
    changes = [change for change in planned if change.act is not Act.FOREIGN]
    if do:
        await provisioner.apply(changes, may_shrink=may_shrink)
    return changes


@asynccontextmanager
async def _connected(target: Target, user: str) -> AsyncGenerator[Client]:
    address = Address((target.server,), user, target.passwords.of(user), target.tls)
    connection = await connect(address, name=user, error=_tell, endless=False)
    try:
        yield connection
    finally:
        await connection.close()


async def _tell(error: Exception) -> None:
    print(f"bus: {error}", file=sys.stderr)  # noqa: T201 - a command line tool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 when all is well, 1 when refused, 2 when `plan` finds something to do."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ProvisionRefused, SettingsWrong, OSError, Error, ValidationError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 - a command line tool
        return 1


def _config(options: argparse.Namespace) -> int:
    listening = Listening(
        store=options.store,
        listen=options.listen,
        monitor=options.monitor,
        certificate=options.certificate,
        key=options.key,
        locations=options.locations,
    )
    passwords = Passwords(options.passwords, SystemIds())
    changed = write_configuration(options.file, listening, passwords, _subscribers(options.subscribers))
    print(f"{'wrote' if changed else 'unchanged'} {options.file}")  # noqa: T201 - a command line tool
    return 0


def _provision(options: argparse.Namespace) -> int:
    target = Target(
        server=options.server,
        passwords=Passwords(options.passwords, SystemIds()),
        topology=Topology(replicas=options.replicas, locations=options.locations),
        subscribers=_subscribers(options.subscribers),
        tls=ssl.create_default_context(cafile=options.ca) if options.ca else None,
    )
    do = options.command == "apply"
    changes = asyncio.run(provision_all(target, do=do, may_shrink=do and options.may_shrink))
    for change in changes:
        print(change)  # noqa: T201 - a command line tool
    outstanding = any(change.act is not Act.FOREIGN for change in changes)
    return 2 if outstanding and not do else 0


def _subscribers(path: Path | None) -> tuple[Subscriber, ...]:
    return () if path is None else _SUBSCRIBERS.validate_python(json.loads(path.read_text(encoding="utf-8")))


def _locations(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(map(LOCATION.fullmatch, found)) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError("locations are written in small letters, digits and -, with commas between")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.nats", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    config = commands.add_parser("config", help="write the server's configuration, making passwords that are missing")
    config.add_argument("--file", type=Path, required=True)
    config.add_argument("--store", type=Path, required=True)
    config.add_argument("--listen", default="127.0.0.1:4222")
    config.add_argument("--monitor", default="127.0.0.1:8222")
    config.add_argument("--certificate", type=Path)
    config.add_argument("--key", type=Path)
    config.set_defaults(run=_config)
    for name, says in (("plan", "show what would be done"), ("apply", "do it")):
        command = commands.add_parser(name, help=says)
        command.add_argument("--server", default="nats://127.0.0.1:4222")
        command.add_argument("--replicas", type=int, default=1)
        command.add_argument("--ca", type=Path)
        command.set_defaults(run=_provision)
        if name == "apply":
            command.add_argument("--may-shrink", action="store_true", help="even where messages are lost by it")
    for command in commands.choices.values():
        command.add_argument("--passwords", type=Path, required=True, help="folder with one file a user")
        command.add_argument("--subscribers", type=Path, help="JSON list of outside subscribers")
        command.add_argument("--locations", type=_locations, default=(), help="where there are several: east,west")
    return parser


if __name__ == "__main__":
    sys.exit(main())
