"""The state server: append-only file synced on every write, no eviction, and a user per service with its own keys."""

import hashlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from infra.embedded.folder import DataFolder, secret, write
from shared.state_rights import rights_of

LAUNCHER = "launcher"
"""The account with which the launcher asks whether the server has loaded its data."""


def password(folder: DataFolder, user: str) -> Path:
    """The file that holds a user's password; made on the first call."""
    path = folder.keys / "valkey" / user
    secret(path)
    return path


def write_users(folder: DataFolder, services: Sequence[str]) -> Path:
    """Write the server's list of users, with hashes of their passwords, and no default user."""
    lines = ["user default off nopass sanitize-payload resetchannels -@all"]
    lines += [_user(name, folder, rights_of(name)) for name in services]
    lines += [_user(LAUNCHER, folder, "-@all +ping")]
    path = folder.room("run") / "valkey.acl"
    write(path, "".join(f"{line}\n" for line in lines).encode())
    return path


def run(program: Path, folder: DataFolder, port: int) -> None:
    """Become the server."""
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder.room("valkey")),
        "aclfile": str(folder.room("run") / "valkey.acl"),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
    os.execve(program, [str(program), *arguments], {"PATH": os.defpath})  # noqa: S606 - becomes the server


def answers(folder: DataFolder, port: int) -> bool:
    """Whether the server has loaded its data and takes commands."""
    return takes_commands("127.0.0.1", port, password(folder, LAUNCHER).read_text())


def takes_commands(host: str, port: int, password: str) -> bool:
    """The same of a server anywhere, asked with the launcher's password."""
    try:
        with socket.create_connection((host, port), timeout=2) as line:
            line.sendall(f"AUTH {LAUNCHER} {password}\r\nPING\r\n".encode())
            heard = b""
            while heard.count(b"\r\n") < 2 and (more := line.recv(256)):
                heard += more
    except OSError:
        return False
    return heard == b"+OK\r\n+PONG\r\n"


def _user(name: str, folder: DataFolder, rules: str) -> str:
    digest = hashlib.sha256(password(folder, name).read_text().encode()).hexdigest()
    return f"user {name} on #{digest} sanitize-payload resetchannels {rules}"
