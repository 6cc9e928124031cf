"""The bus: a real server with the configuration that infra/nats writes, and its streams as that brings them about."""

import http.client
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from infra.embedded.errors import CannotStart
from infra.embedded.folder import DataFolder
from infra.embedded.ports import NATS, NATS_MONITOR

if TYPE_CHECKING:
    from infra.nats.topology import Subscriber


def configuration(folder: DataFolder) -> Path:
    """The server's configuration file."""
    return folder.room("run") / "nats.conf"


def passwords(folder: DataFolder) -> Path:
    """The folder with one password file a user."""
    return folder.keys / "nats"


def address(base: int) -> str:
    """Where the services reach it."""
    return f"nats://127.0.0.1:{base + NATS}"


def configure(folder: DataFolder, base: int) -> None:
    """Write the configuration, and the passwords that are missing."""
    # Imported here, while the state server starts: it takes most of a second.
    from infra.nats.passwords import Passwords  # noqa: PLC0415
    from infra.nats.server import Listening, write_configuration  # noqa: PLC0415
    from shared.clock import SystemIds  # noqa: PLC0415

    listening = Listening(
        store=folder.room("nats"), listen=f"127.0.0.1:{base + NATS}", monitor=f"127.0.0.1:{base + NATS_MONITOR}"
    )
    keys = Passwords(passwords(folder), SystemIds())
    write_configuration(configuration(folder), listening, keys, subscribers(folder))


def provision(folder: DataFolder, base: int) -> int:
    """Bring streams and durables to what they are to be; the exit code of a process."""
    from infra.nats.__main__ import main  # noqa: PLC0415 - as above

    return main(["apply", "--server", address(base), *_whom(folder)])


def subscribers(folder: DataFolder) -> "tuple[Subscriber, ...]":
    """Who outside may hear what, as `subscribers.json` in the data folder lists it. Raises CannotStart."""
    from infra.nats.topology import Subscriber  # noqa: PLC0415 - as above

    try:
        listed = json.loads(_listed(folder).read_bytes())
        return tuple(Subscriber.model_validate(one) for one in listed)
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError) as error:
        raise CannotStart(f"{_listed(folder)} cannot be used: {error}") from error


def run(program: Path, folder: DataFolder) -> None:
    """Become the server."""
    arguments = [str(program), "--config", str(configuration(folder))]
    os.execve(program, arguments, {"PATH": os.defpath, "HOME": str(folder.room("nats"))})  # noqa: S606 - becomes it


def answers(base: int) -> bool:
    """Whether the server and its streams are there."""
    line = http.client.HTTPConnection("127.0.0.1", base + NATS_MONITOR, timeout=2)
    try:
        line.request("GET", "/healthz")
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


def _listed(folder: DataFolder) -> Path:
    return folder.root / "subscribers.json"


def _whom(folder: DataFolder) -> list[str]:
    """Passwords, and the outside subscribers where somebody has listed some in the data folder."""
    outside = ["--subscribers", str(_listed(folder))] if _listed(folder).exists() else []
    return ["--passwords", str(passwords(folder)), *outside]
