"""The bucket in a directory of this machine, shared by the services that run on it.

An object appears whole and durable or not at all: it is written beside, synced, and then linked to its name. Blocking
calls run on threads of the bucket's own, so that neither the event loop nor the computations of others wait for a disk.
"""

import errno
import itertools
import os
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from shared.blobs import files
from shared.blobs.face import PIECE, BlobExists, BlobMissing, BucketFull, BucketUnavailable, RangeInvalid, Stat
from shared.blobs.gathered import Gathered
from shared.blobs.names import checked, checked_upload
from shared.threads import Threads

T = TypeVar("T")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

GATHERED = 4 * PIECE
"""Bytes written by one call: hopping to a thread costs more than writing a small piece."""


class DirectoryBlobs:
    """The blobs face over three folders: `objects`, `uploads` and `temporary`."""

    presigns = False
    least_chunk = 0

    def __init__(self, root: Path, *, threads: int = 16) -> None:
        """Makes the folders where they are missing, for this account alone, and clears what a crash left long ago."""
        self._objects, self._uploads, self._temporary = root / "objects", root / "uploads", root / "temporary"
        for folder in (self._objects, self._uploads, self._temporary):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._threads = Threads(threads, "bucket")
        self._durable_folders: set[str] = {str(self._objects)}
        self._fresh = (f"{self._temporary}/{secrets.token_hex(8)}-{number}" for number in itertools.count())
        files.sync_folder(root)
        files.clear_leftovers(self._temporary)

    async def put(self, name: str, body: AsyncIterable[bytes] | bytes, *, if_absent: bool = False) -> int:
        """Store an object; its temporary file goes when the body raises."""
        target, temporary = f"{self._objects}/{checked(name)}", next(self._fresh)
        if isinstance(body, bytes):
            content = body
            return await self._in_thread(lambda: self._put_whole(temporary, target, content, if_absent=if_absent))
        pieces, head = aiter(body), Gathered()
        async for piece in pieces:
            if head.add(piece) >= GATHERED:
                return await self._put_long(target, head, pieces, if_absent=if_absent)
        whole = b"".join(head.pieces)
        return await self._in_thread(lambda: self._put_whole(temporary, target, whole, if_absent=if_absent))

    async def _put_long(self, target: str, head: Gathered, rest: AsyncIterator[bytes], *, if_absent: bool) -> int:
        temporary = next(self._fresh)
        descriptor = await self._in_thread(
            lambda: files.created(temporary),
            lambda made: files.close_and_remove(made, temporary),
        )
        try:
            size = await self._write(descriptor, rest, head)
            await self._in_thread(lambda: self._publish(temporary, target, if_absent=if_absent))
        finally:
            await self._in_thread(lambda: files.close_and_remove(descriptor, temporary))
        return size

    async def read(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Stream an object or a range of it."""
        descriptor, size = await self._in_thread(lambda: files.opened(self._objects / checked(name)), _close)
        try:
            if start > 0 and start >= size:
                raise RangeInvalid(name)
            async for piece in self._pieces(descriptor, start, size if end is None else min(end, size)):
                yield piece
        finally:
            os.close(descriptor)

    async def content(self, name: str, limit: int = 8 * 1024 * 1024) -> bytes:
        """A small object whole."""
        return await self._in_thread(lambda: files.whole(self._objects / checked(name), limit))

    async def stat(self, name: str) -> Stat:
        """Size and time of an object."""
        found = await self._in_thread(lambda: files.regular(self._objects / checked(name)))
        return Stat(name, found.st_size, found.st_mtime)

    async def delete(self, name: str) -> None:
        """Remove an object."""
        path = self._objects / checked(name)
        await self._in_thread(lambda: path.unlink(missing_ok=True))

    async def delete_all(self, names: Sequence[str]) -> None:
        """Remove several objects."""
        paths = [self._objects / checked(name) for name in names]
        await self._in_thread(lambda: [path.unlink(missing_ok=True) for path in paths])

    async def names(self, prefix: str, after: str = "") -> AsyncIterator[Stat]:
        """Objects by prefix, a folder at a time."""
        folder = prefix.rpartition("/")[0]
        start = self._objects / checked(folder) if folder else self._objects
        async for found in self._walk(start, f"{folder}/" if folder else "", prefix, after):
            yield found

    async def presigned(self, name: str, seconds: int) -> str | None:
        """There is no such address."""
        del name, seconds

    def path(self, name: str) -> Path | None:
        """The file behind an object."""
        return self._objects / checked(name)

    async def stage(self, upload: str) -> None:
        """Begin a staged upload; one that is there already stays as it is. Durable with its first bytes."""
        path = self._uploads / checked_upload(upload)
        await self._in_thread(lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)))

    async def append(self, upload: str, offset: int, body: AsyncIterable[bytes]) -> int:
        """Add bytes at `offset`; a lock on the file keeps two replicas from writing at once."""
        path = self._uploads / checked_upload(upload)
        descriptor = await self._in_thread(lambda: self._opened_at(path, offset), os.close)
        try:
            return offset + await self._write(descriptor, body)
        except BucketFull:
            # Clients begin anew, and what each of their attempts left would lie here for a day, in everybody's way.
            await self._in_thread(lambda: os.ftruncate(descriptor, offset))
            raise
        finally:
            os.close(descriptor)

    async def staged(self, upload: str) -> int:
        """How many bytes an upload holds."""
        path = self._uploads / checked_upload(upload)
        return (await self._in_thread(lambda: files.regular(path))).st_size

    async def staged_bytes(self, upload: str) -> AsyncIterator[bytes]:
        """The bytes that an upload holds."""
        path = self._uploads / checked_upload(upload)
        descriptor, size = await self._in_thread(lambda: files.opened(path), _close)
        try:
            async for piece in self._pieces(descriptor, 0, size):
                yield piece
        finally:
            os.close(descriptor)

    async def commit(self, upload: str, name: str, size: int | None = None) -> None:
        """Make the staged bytes an object."""
        path, target = self._uploads / checked_upload(upload), self._objects / checked(name)
        await self._in_thread(lambda: self._commit(path, target, size))

    async def abandon(self, upload: str) -> None:
        """Forget an upload."""
        path = self._uploads / checked_upload(upload)
        await self._in_thread(lambda: path.unlink(missing_ok=True))

    async def uploads(self) -> AsyncIterator[Stat]:
        """Staged uploads by id."""
        for name, _, found in await self._in_thread(lambda: files.entries(self._uploads)):
            yield Stat(name, found.st_size, found.st_mtime)

    async def close(self) -> None:
        """End the threads."""
        self._threads.close()

    async def _in_thread(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Run `work` on a thread; `undo` gives back what it returned when nobody waits for it any more."""
        try:
            return await self._threads.run(work, undo)
        except FileNotFoundError as error:
            raise BlobMissing(Path(str(error.filename)).name) from error
        except FileExistsError as error:
            raise BlobExists(Path(str(error.filename2 or error.filename)).name) from error
        except (NotADirectoryError, IsADirectoryError) as error:
            raise ValueError("one object's name is a folder of another's") from error
        except OSError as error:
            raise (BucketFull if error.errno in _NO_ROOM else BucketUnavailable)(error.strerror) from error

    async def _write(self, descriptor: int, body: AsyncIterable[bytes], head: Gathered | None = None) -> int:
        """Write all of `body`, behind `head`, and sync it; what came before an error is kept."""
        gathered = head or Gathered()
        size = gathered.size
        try:
            async for piece in body:
                size += len(piece)
                if gathered.add(piece) >= GATHERED:
                    full, gathered = gathered.pieces, Gathered()
                    await self._in_thread(lambda full=full: files.write_all(descriptor, full))
        finally:
            rest = gathered.pieces
            await self._in_thread(lambda: files.write_and_sync(descriptor, rest))
        return size

    async def _pieces(self, descriptor: int, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            size, offset = min(PIECE, end - start), start
            piece = await self._in_thread(lambda size=size, offset=offset: os.pread(descriptor, size, offset))
            if not piece:
                raise BucketUnavailable("an object is shorter than it was")
            yield piece
            start += len(piece)

    async def _walk(self, folder: Path, base: str, prefix: str, after: str) -> AsyncIterator[Stat]:
        for name, is_folder, found in await self._in_thread(lambda: files.entries(folder)):
            whole = base + name
            if is_folder:
                inside = whole.startswith(prefix) or prefix.startswith(whole)
                if inside and (after < whole or after.startswith(whole)):
                    async for deeper in self._walk(folder / name, whole, prefix, after):
                        yield deeper
            elif whole.startswith(prefix) and whole > after:
                yield Stat(whole, found.st_size, found.st_mtime)

    def _opened_at(self, upload: Path, offset: int) -> int:
        descriptor = files.opened_at(upload, offset)
        if not offset:
            files.sync_folder(self._uploads)
        return descriptor

    def _put_whole(self, temporary: str, target: str, content: bytes, *, if_absent: bool) -> int:
        descriptor = files.created(temporary)
        try:
            files.write_and_sync(descriptor, [content])
            self._publish(temporary, target, if_absent=if_absent)
        except BaseException:
            files.close_and_remove(descriptor, temporary)
            raise
        os.close(descriptor)
        if if_absent:
            os.unlink(temporary)  # noqa: PTH108 - a path object costs as much as the call
        return len(content)

    def _publish(self, temporary: str, target: str, *, if_absent: bool) -> None:
        folder = target.rpartition("/")[0]
        self._make_durable(folder)
        if if_absent:
            os.link(temporary, target)
        else:
            os.replace(temporary, target)  # noqa: PTH105 - as above
        files.sync_folder(folder)

    def _commit(self, upload: Path, target: Path, size: int | None) -> None:
        try:
            descriptor = files.locked(upload)
        except FileNotFoundError:
            files.regular(target)
            return
        try:
            files.require_size(descriptor, size)
            self._make_durable(str(target.parent))
            with suppress(FileExistsError):
                os.link(upload, target)
            files.sync_folder(target.parent)
            upload.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def _make_durable(self, folder: str) -> None:
        """Make a folder and those above it, and sync their entries once, also where another process just made them."""
        if folder in self._durable_folders:
            return
        above = folder.rpartition("/")[0]
        self._make_durable(above)
        with suppress(FileExistsError):
            Path(folder).mkdir(mode=0o700)
        files.sync_folder(above)
        self._durable_folders.add(folder)


def _close(opened: tuple[int, int]) -> None:
    os.close(opened[0])
