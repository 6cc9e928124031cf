"""Secrets in files: written whole or not at all, readable by their owner alone, and never over one that is there."""

import os
import tempfile
from pathlib import Path


def write_once(path: Path, content: bytes) -> bool:
    """Write a file of mode 0600, durable on return; False, and nothing changed, where there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return _linked(Path(name), path)
    finally:
        Path(name).unlink()


def _linked(source: Path, target: Path) -> bool:
    """A link fails where a rename would replace."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True
