"""Tar files that hold images: reading members by name, and taking a file apart without leaving the folder."""

import lzma
import shutil
import tarfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from cli.exits import Failed, Missing


@contextmanager
def opened(path: Path) -> Generator[tarfile.TarFile]:
    """The tar file, plain or compressed; raises Missing or Failed."""
    try:
        with tarfile.open(path, "r:*") as archive:
            yield archive
    except FileNotFoundError:
        raise Missing(f"{path} is missing") from None
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise Failed(f"{path} cannot be read as a tar file: {error}") from error


def extract(path: Path, folder: Path) -> None:
    """Take apart what is a file; folders are made as needed, links and devices have no place in a layout."""
    with opened(path) as archive:
        for member in archive:
            if not member.isreg():
                continue
            target = folder / inside(member.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with content(archive, member) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)


@contextmanager
def content(archive: tarfile.TarFile, member: tarfile.TarInfo | str) -> Generator[IO[bytes]]:
    """The bytes of a member; links inside the archive are followed. Raises Missing."""
    try:
        file = archive.extractfile(member)
    except KeyError:
        file = None
    if file is None:
        raise Missing(f"{member} is not a file in the archive")
    with file:
        yield file


def inside(name: str) -> str:
    """A member's name as a relative path; raises Failed when it leads out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise Failed(f"the archive has a member that leads out of it: {name!r}")
    return str(path)
