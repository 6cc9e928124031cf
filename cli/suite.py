"""Where the services answer: told by the data folder of a suite on this machine, or by one address in front of them."""

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from cli.exits import Failed

C = TypeVar("C", bound=Any)

SERVICES = ("registry", "identity", "builder", "scanner", "attestor", "cleanup", "audit_log")
DEFAULT_DATA = "./.entrepot"


@dataclass(frozen=True)
class Suite:
    """The services' addresses, and the files that a suite on this machine has."""

    addresses: dict[str, str]
    data: Path | None = None
    admin_key: Path | None = None
    pid: int = 0
    location: str = "local"
    bus: dict[str, str] | None = None
    run: str = ""
    """Tells this run of the suite from all others; each of its services says it."""
    workers: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Of services with several processes behind one address: where each is met alone."""

    def address(self, service: str) -> str:
        """The address of one service, such as `http://127.0.0.1:5000`."""
        named = os.environ.get(f"ENTREPOT_{service.upper()}_ADDRESS", "") or self.addresses.get(service, "")
        if not named:
            raise Failed(f"the address of {service} is not known")
        return named.rstrip("/")

    @property
    def registry_host(self) -> str:
        """What stands before the first slash of an image's name."""
        return self.address("registry").partition("://")[2]


def of(data: str) -> Suite:
    """The suite in front of ENTREPOT_ADDRESS, or the one on that data folder. Raises Failed when there is none."""
    gateway = os.environ.get("ENTREPOT_ADDRESS", "")
    if gateway:
        return Suite(dict.fromkeys(SERVICES, gateway))
    return read(Path(data))


def read(folder: Path) -> Suite:
    """What the launcher wrote about the suite on that folder."""
    path = folder.absolute() / "run" / "suite.json"
    try:
        found = cast("dict[str, Any]", json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise Failed(f"no suite was ever started on {folder.absolute()}: start one with `entrepot up`") from None
    except (OSError, ValueError) as error:
        raise Failed(f"{path} cannot be read: {error}") from error
    return Suite(
        addresses=found["services"],
        data=folder.absolute(),
        admin_key=Path(found["admin_key"]),
        pid=int(found["pid"]),
        location=found.get("location", "local"),
        bus=found.get("bus"),
        run=str(found.get("run", "")),
        workers=found.get("workers", {}),
    )


def holder(folder: Path) -> int:
    """The process that runs a suite on that folder; 0 when none does.

    The launcher holds the lock for as long as it lives, however it ends: a stale process number never counts.
    """
    try:
        with (folder.absolute() / "run" / "lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                # Taken a moment ago, it holds no number yet.
                return int(lock.read().strip() or -1)
    except FileNotFoundError:
        pass
    return 0


def pullable(uri: str, found: Suite) -> str:
    """An image's address here: APIs name it as gcloud reads names, by a host that need not exist."""
    return f"{found.registry_host}/{uri.removeprefix('https://').partition('/')[2]}"


def data_option(command: C) -> C:
    """`--data DIR`, which every command that speaks to a suite has."""
    return click.option(
        "--data", default=DEFAULT_DATA, envvar="ENTREPOT_DATA", show_default=True, help="The suite's data folder."
    )(command)


def project_option(command: C) -> C:
    """`--project P`."""
    return click.option("--project", default="demo", envvar="ENTREPOT_PROJECT", show_default=True, help="The project.")(
        command
    )


def format_option(command: C) -> C:
    """`--format table|json`."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How to print.",
    )(command)
