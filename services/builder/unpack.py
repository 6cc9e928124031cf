"""Unpacks one image layer into a directory: `python -m services.builder.unpack DIRECTORY LIMIT [USERS] < LAYER`.

A process of its own, because it changes its root to the directory first: no path and no link in a hostile layer can
then lead out of it, whatever this code overlooks. Before that it enters the user namespace USERS, so that it is not
root of this machine, and what it makes belongs to nobody here. Owners that this namespace does not have become its
root. Whiteouts remove what lower layers brought.
"""

import ctypes
import gzip
import io
import os
import shutil
import stat
import sys
import tarfile
import zlib
from typing import IO, cast

import zstandard

from services.builder.errors import LayerRefused

MAX_MEMBERS = 500_000
MAX_RATIO = 200
"""Unpacked bytes to packed ones. Real layers stay below 30."""
RATIO_FROM = 64 * 1024 * 1024
"""Small layers of zeros are harmless."""

_USER_NAMESPACE = 0x10000000

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


class _Counted(io.RawIOBase):
    """A stream that refuses to go on when more comes out of it than a sane layer holds."""

    def __init__(self, source: IO[bytes], packed: int, limit: int) -> None:
        self._source = source
        self._packed = max(packed, 1)
        self._limit = limit
        self._total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._source.read(len(buffer))
        buffer[: len(piece)] = piece
        self._total += len(piece)
        if self._total > self._limit:
            raise LayerRefused(f"the layer unpacks to more than {self._limit} bytes")
        if self._total > RATIO_FROM and self._total / self._packed > MAX_RATIO:
            raise LayerRefused(f"the layer unpacks to more than {MAX_RATIO} times its size")
        return len(piece)


def unpack(layer: IO[bytes], packed: int, limit: int, users: int, groups: int) -> int:
    """Unpack into the current root directory; returns how many members there were. Raises LayerRefused.

    Ids of users and groups from these numbers on are not there.
    """
    stream = io.BufferedReader(_Counted(_decompressed(layer), packed, limit), 256 * 1024)
    count = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            archive.extraction_filter = _as_it_is
            for member in archive:
                count += 1
                if count > MAX_MEMBERS:
                    raise LayerRefused(f"the layer has more than {MAX_MEMBERS} members")
                # tarfile keeps quiet about an owner that cannot be given, and then gives no mode either.
                member.uid, member.gid = _known(member.uid, users), _known(member.gid, groups)
                _place(archive, member)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError, ValueError) as broken:
        raise LayerRefused(f"the layer is damaged: {broken}") from None
    return count


def _decompressed(layer: IO[bytes]) -> IO[bytes]:
    head = layer.read(4)
    layer.seek(0)
    if head[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=layer))
    if head == b"\x28\xb5\x2f\xfd":
        return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(layer, read_across_frames=True))
    return layer


def _place(archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    member.name = os.path.normpath("/" + member.name).lstrip("/")
    folder, name = os.path.split("/" + member.name)
    if name == OPAQUE:
        _clear(folder)
    elif name.startswith(WHITEOUT):
        _remove(os.path.join(folder, name[len(WHITEOUT) :]))  # noqa: PTH118 - paths of a changed root
    elif member.name and not (member.ischr() or member.isblk()):
        _replace(archive, member)


def _replace(archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    path = "/" + member.name
    if not (member.isdir() and _is_directory(path)):
        _remove(path)
    if member.islnk():
        member.linkname = os.path.normpath("/" + member.linkname)
    archive.extract(member, "/", numeric_owner=True)


def _as_it_is(member: tarfile.TarInfo, _: str) -> tarfile.TarInfo:
    """What newer Pythons call "fully_trusted"; Debian 12's has no filters yet, and takes no argument of that name."""
    return member


def _known(owner: int, count: int) -> int:
    return owner if owner < count else 0


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _clear(folder: str) -> None:
    if _is_directory(folder):
        for entry in os.listdir(folder):  # noqa: PTH208
            _remove(os.path.join(folder, entry))  # noqa: PTH118


def _remove(path: str) -> None:
    if _is_directory(path):
        shutil.rmtree(path)
    else:
        try:
            os.unlink(path)  # noqa: PTH108
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            pass


def _become_nobody(namespace: str) -> None:
    """Become root of a user namespace, who is nobody in particular outside of it."""
    with open(namespace, "rb") as opened:  # noqa: PTH123 - a descriptor of another process
        if ctypes.CDLL(None, use_errno=True).setns(opened.fileno(), _USER_NAMESPACE) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter the user namespace")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _ids(table: str) -> int:
    """How many ids there are in this user namespace, from 0 on."""
    with open(table) as lines:  # noqa: PTH123 - the kernel's
        return max((int(count) for first, _, count in map(str.split, lines) if first == "0"), default=0)


def main(arguments: list[str]) -> int:
    """Unpack standard input; the exit code is 0, or 1 with the reason on standard error."""
    directory, limit, *users = arguments
    # What would be imported in mid-work is loaded while the real root is still there.
    "".encode("idna")
    layer = sys.stdin.buffer
    packed = os.fstat(layer.fileno()).st_size
    os.umask(0)
    os.chdir(directory)
    for namespace in users:
        _become_nobody(namespace)
    ids = _ids("/proc/self/uid_map"), _ids("/proc/self/gid_map")
    os.chroot(".")
    try:
        unpack(layer, packed, int(limit), *ids)
    except LayerRefused as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    except OSError as broken:
        sys.stderr.write(f"{broken.strerror}: {broken.filename}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
