"""Secrets in files: written whole or not at all, durable on return, readable by their owner alone."""

import os
import tempfile
from pathlib import Path


def write_once(path: Path, content: bytes) -> bool:
    """Write a file of mode 0600, durable on return; False, and nothing changed, where there is one already."""
    written = _beside(path, content)
    try:
        os.link(written, path)  # a link fails where a rename would replace
    except FileExistsError:
        return False
    finally:
        written.unlink()
    _sync(path.parent)
    return True


def replace(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 over whatever is there; a reader sees the old content or the new."""
    _beside(path, content).replace(path)
    _sync(path.parent)


def _beside(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
