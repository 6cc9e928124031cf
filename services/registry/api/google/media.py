"""Media uploads as Google's clients send them: the bytes alone, or behind a description in one multipart body.

Clients write line ends as they like and put their boundaries into quotes of either kind; both is taken.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.http.errors import InvalidArgument

LONGEST_LINE = 8 * 1024
LONGEST_DESCRIPTION = 64 * 1024
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,72})"|([^";\s]{1,72}))', re.IGNORECASE | re.ASCII)
_ENCODING = re.compile(rb"content-transfer-encoding:\s*([^\s;]*)", re.IGNORECASE)
_PLAIN = (b"binary", b"8bit", b"7bit")


@dataclass
class Multipart:
    """A multipart/related body of two parts: a description, and behind it bytes as they come."""

    pieces: AsyncIterator[bytes]
    boundary: bytes
    buffer: bytes = b""
    delimiter: bytes = b""

    @classmethod
    def of(cls, content_type: str, pieces: AsyncIterator[bytes]) -> "Multipart":
        """A body of this Content-Type; raises InvalidArgument."""
        found = _BOUNDARY.search(content_type)
        if not content_type.lower().startswith("multipart/related") or found is None:
            raise InvalidArgument("uploadType=multipart needs a body of the type multipart/related with a boundary.")
        return cls(pieces, (found[1] or found[2]).encode("ascii", "replace"))

    async def description(self) -> bytes:
        """The first part. Raises InvalidArgument."""
        await self._open()
        await self._headers()
        while (end := self.buffer.find(self.delimiter)) < 0:
            if len(self.buffer) > LONGEST_DESCRIPTION or not await self._more():
                raise InvalidArgument("The first part of the body is too long, or the only one.")
        found, self.buffer = self.buffer[:end], self.buffer[end + len(self.delimiter) :]
        if (await self._line()).strip():
            raise InvalidArgument("The body has one part: a description and the file are two.")
        return found

    async def media(self) -> AsyncIterator[bytes]:
        """The second part; behind its last byte an error, where the body does not end as it should."""
        await self._headers()
        while (end := self.buffer.find(self.delimiter)) < 0:
            sure = len(self.buffer) - len(self.delimiter)
            if sure > 0:
                yield self.buffer[:sure]
                self.buffer = self.buffer[sure:]
            if not await self._more():
                raise InvalidArgument("The body broke off in the middle of the file.")
        if end:
            yield self.buffer[:end]
        self.buffer = self.buffer[end + len(self.delimiter) :]
        await self._end()

    async def _open(self) -> None:
        """The first delimiter tells how lines end, and whether quotes around the boundary are a part of it."""
        plain = self.boundary[1:-1] if self.boundary[:1] == self.boundary[-1:] == b"'" else self.boundary
        while True:
            line = await self._line()
            for boundary in (self.boundary, plain):
                if line.rstrip() == b"--" + boundary:
                    self.delimiter = (b"\r\n--" if line.endswith(b"\r\n") else b"\n--") + boundary
                    return
            if line.strip():
                raise InvalidArgument("The body does not begin with its boundary.")

    async def _headers(self) -> None:
        while line := (await self._line()).strip():
            encoding = _ENCODING.match(line)
            if encoding and encoding[1].lower() not in _PLAIN:
                raise InvalidArgument("A part's Content-Transfer-Encoding must be binary.")

    async def _end(self) -> None:
        while len(self.buffer) < 2 and await self._more():
            pass
        if not self.buffer.startswith(b"--"):
            raise InvalidArgument("The body has more than two parts, or broke off.")
        while await self._more():
            if len(self.buffer) > LONGEST_LINE:
                raise InvalidArgument("The body goes on behind its end.")

    async def _line(self) -> bytes:
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > LONGEST_LINE or not await self._more():
                raise InvalidArgument("The body is not a multipart one.")
        line, self.buffer = self.buffer[: end + 1], self.buffer[end + 1 :]
        return line

    async def _more(self) -> bool:
        async for piece in self.pieces:
            self.buffer += piece
            return True
        return False
