"""The one folder in which everything lies that the suite keeps; only its owner can read it."""

import fcntl
import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.embedded.errors import CannotStart

_ROOMS = ("nats", "valkey", "blobs", "s3", "services", "keys", "run", "logs")
_LONGEST_LOG = 50 * 2**20
_TRIES = 10


@dataclass(frozen=True)
class DataFolder:
    """Rooms: the servers' own folders, `keys` for secrets, `run` for what describes the running suite, `logs`."""

    root: Path

    @classmethod
    def at(cls, path: Path) -> "DataFolder":
        """Make the folder and its rooms where they are missing, with mode 0700. Raises CannotStart."""
        folder = cls(path.absolute())
        try:
            for room in (folder.root, *(folder.root / name for name in _ROOMS)):
                room.mkdir(mode=0o700, parents=True, exist_ok=True)
                room.chmod(0o700)
        except OSError as error:
            raise CannotStart(f"the data folder {folder.root} cannot be made: {error.strerror}") from error
        return folder

    def room(self, name: str) -> Path:
        """The folder of that name inside."""
        return self.root / name

    @property
    def keys(self) -> Path:
        """Where secrets lie."""
        return self.root / "keys"

    @property
    def description(self) -> Path:
        """The file that says where the running suite answers."""
        return self.root / "run" / "suite.json"

    def lock(self) -> int:
        """Take the folder for this process until it ends, however it ends. Raises CannotStart if another has it."""
        handle = os.open(self.root / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take(handle)
        except BlockingIOError:
            owner = os.read(handle, 32).decode().strip() or "unknown"
            os.close(handle)
            raise CannotStart(_taken(self.root, owner)) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return handle

    def keep_bytes_in(self, bucket: str) -> None:
        """Hold on to the bucket that the folder began with: in another one the images would be without their bytes.

        Raises CannotStart when another one is asked for.
        """
        path = self.root / "bucket"
        if not path.exists():
            write(path, bucket.encode())
        if (kept := path.read_text().strip()) != bucket:
            raise CannotStart(
                f"{self.root} keeps its images' bytes in {kept}: start it with `--blobs {kept}`, "
                "or start another suite with --data"
            )

    def log(self, name: str) -> Path:
        """Where a child's output goes; a log that has grown long is kept once under another name."""
        path = self.root / "logs" / f"{name}.log"
        if path.exists() and path.stat().st_size > _LONGEST_LOG:
            path.replace(path.with_suffix(".log.1"))
        return path

    def describe(self, description: dict[str, Any]) -> None:
        """Write what `entrepot status` and the other commands read."""
        write(self.description, json.dumps(description, indent=2).encode() + b"\n")


def refuse_a_foreign_folder(path: Path) -> None:
    """Raises CannotStart for a folder with something else in it: that would be closed to all but its owner."""
    if path.is_dir() and not (path / _ROOMS[0]).is_dir() and any(path.iterdir()):
        raise CannotStart(f"{path.absolute()} is not empty, and no data folder of a suite: name another with --data")


def secret(path: Path, size: int = 32) -> str:
    """The secret in that file as hexadecimal text; made on the first call, with mode 0600."""
    if not path.exists():
        write(path, secrets.token_hex(size).encode())
    return path.read_text().strip()


def write(path: Path, content: bytes) -> None:
    """Put a file there in one piece, with mode 0600: a reader sees the old content or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _take(handle: int) -> None:
    """Take the lock; `entrepot status` may hold it for a moment, only to see whether it is taken."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.03)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _taken(root: Path, owner: str) -> str:
    return (
        f"a suite is running on {root} already (process {owner}): "
        f"stop it with `entrepot down --data {root}`, or start this one elsewhere with --data and --port-base"
    )
