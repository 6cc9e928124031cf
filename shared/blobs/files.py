"""Blocking calls on files and folders that the directory bucket is made of; each runs on one of its threads."""

import fcntl
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from shared.blobs.face import StagingMoved

LEFTOVER_SECONDS = 86_400
"""A temporary file that nobody wrote to for so long was left by a crash."""

_AT_ONCE = 1024
"""Pieces that one call takes: Linux's limit."""


def write_all(descriptor: int, pieces: Sequence[bytes | bytearray]) -> None:
    """Write all of them, one behind the other, without joining them first."""
    for start in range(0, len(pieces), _AT_ONCE):
        some = pieces[start : start + _AT_ONCE]
        written = os.writev(descriptor, some)
        if written < sum(map(len, some)):
            rest = memoryview(b"".join(some))[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]


def write_and_sync(descriptor: int, pieces: Sequence[bytes | bytearray]) -> None:
    """Write all of them; on return the file is durable."""
    write_all(descriptor, pieces)
    os.fsync(descriptor)


def created(temporary: str) -> int:
    """A new file of that name, open for writing."""
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def close_and_remove(descriptor: int, temporary: str) -> None:
    """Close a temporary file and remove it, where it has not become an object."""
    os.close(descriptor)
    with suppress(FileNotFoundError):
        os.unlink(temporary)  # noqa: PTH108 - a path object costs as much as the call


def sync_folder(folder: str | Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def regular(path: Path) -> os.stat_result:
    """What is known of a file. Raises FileNotFoundError, also for a folder."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(2, "not an object", str(path))
    return found


def opened(path: Path) -> tuple[int, int]:
    """A file open for reading, and its size."""
    size = regular(path).st_size
    return os.open(path, os.O_RDONLY), size


def whole(path: Path, limit: int) -> bytes:
    """A small file's content. Raises ValueError when it is larger than `limit`."""
    size = regular(path).st_size
    if size > limit:
        raise ValueError(f"{path.name} is larger than {limit} bytes")
    return path.read_bytes()


def locked(upload: Path) -> int:
    """The upload's file, locked. Raises StagingMoved while somebody else writes to it."""
    descriptor = os.open(upload, os.O_WRONLY | os.O_APPEND)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        size = os.fstat(descriptor).st_size
        os.close(descriptor)
        raise StagingMoved(size) from error
    return descriptor


def opened_at(upload: Path, offset: int) -> int:
    """An upload's file, locked and open for writing at `offset`. Raises StagingMoved where it stands elsewhere."""
    descriptor = locked(upload)
    found = os.fstat(descriptor)
    if found.st_nlink == 1 and found.st_size == offset:
        return descriptor
    os.close(descriptor)
    if found.st_nlink != 1:  # abandoned meanwhile, or an object already since a commit that died half-way
        raise FileNotFoundError(2, "not an upload any more", str(upload))
    raise StagingMoved(found.st_size)


def require_size(descriptor: int, size: int | None) -> None:
    """Raises StagingMoved where a locked upload has another size; None: any will do."""
    found = os.fstat(descriptor).st_size
    if size not in {None, found}:
        raise StagingMoved(found)


def entries(folder: Path) -> list[tuple[str, bool, os.stat_result]]:
    """What a folder holds, folders with a slash behind their name, so that the order is that of whole names."""
    found: list[tuple[str, bool, os.stat_result]] = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                is_folder = entry.is_dir(follow_symlinks=False)
                found.append((f"{entry.name}/" if is_folder else entry.name, is_folder, entry.stat()))
    return sorted(found, key=lambda item: item[0])


def clear_leftovers(folder: Path) -> None:
    """Remove temporary files that a crash left."""
    for name, _, found in entries(folder):
        if found.st_mtime < time.time() - LEFTOVER_SECONDS:
            (folder / name).unlink(missing_ok=True)
