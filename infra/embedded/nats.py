"""The bus: a real server with the configuration that infra/nats writes, and its streams as that brings them about."""

import http.client
import os
from pathlib import Path

from infra.embedded.errors import CannotStart
from infra.embedded.folder import DataFolder
from infra.embedded.ports import NATS, NATS_MONITOR


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
    from infra.nats.__main__ import main  # noqa: PLC0415 - slow to import; the state server starts meanwhile

    listen, monitor = f"127.0.0.1:{base + NATS}", f"127.0.0.1:{base + NATS_MONITOR}"
    arguments = ["config", "--file", str(configuration(folder)), "--store", str(folder.room("nats"))]
    arguments += ["--listen", listen, "--monitor", monitor, *_whom(folder)]
    if main(arguments) != 0:
        raise CannotStart("the bus could not be configured")


def provision(folder: DataFolder, base: int) -> int:
    """Bring streams and durables to what they are to be; the exit code of a process."""
    from infra.nats.__main__ import main  # noqa: PLC0415 - as above

    return main(["apply", "--server", address(base), *_whom(folder)])


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


def _whom(folder: DataFolder) -> list[str]:
    """Passwords, and the outside subscribers where somebody has listed some in the data folder."""
    listed = folder.root / "subscribers.json"
    outside = ["--subscribers", str(listed)] if listed.exists() else []
    return ["--passwords", str(passwords(folder)), *outside]
