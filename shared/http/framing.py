"""How a body's end is known: by its announced length, or by the chunks that it comes in."""

import re
from typing import Final, Protocol

LONGEST_LINE: Final = 8 * 1024
"""Bytes of a chunk's line, or of all trailers, that are waited for."""

_FIRST: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[^\r\n]*)?\r\n")
_NEXT: Final = re.compile(rb"\r\n([0-9A-Fa-f]{1,15})(?:;[^\r\n]*)?\r\n")
_TRAILERS: Final = re.compile(rb"(?:[^\s:]+:[^\r\n]*\r\n)*\r\n")


class WronglyFramed(ValueError):
    """What came is no body in chunks."""


class Framing(Protocol):
    """Takes what arrives and gives back the content in it."""

    @property
    def most(self) -> int:
        """How many bytes may be read next; more could not be put to use."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the body is complete."""
        ...

    rest: bytes
    """What came behind the end."""

    def take(self, data: bytes) -> bytes:
        """The content of these bytes, which came next. Raises WronglyFramed."""
        ...


class Counted:
    """A body of known length."""

    def __init__(self, size: int) -> None:
        """`size` in bytes."""
        self.most = size
        self.rest = b""

    @property
    def ended(self) -> bool:
        """Whether all of it came."""
        return not self.most

    def take(self, data: bytes) -> bytes:
        """The bytes themselves."""
        content = data if len(data) <= self.most else data[: self.most]
        self.rest = data[len(content) :]
        self.most -= len(content)
        return content


class Chunked:
    """A body in chunks, each with a line that tells its size; extensions and trailers are passed over."""

    def __init__(self, most: int = 1 << 62) -> None:
        """`most` bytes are wanted at a time."""
        self.most = most
        self.ended = False
        self.rest = b""
        self._left = 0
        """Bytes of the chunk under way that are still to come."""
        self._line = _FIRST
        """What must come behind them."""

    def take(self, data: bytes) -> bytes:
        """The content of these bytes."""
        data, self.rest = self.rest + data if self.rest else data, b""
        whole, parts, at = memoryview(data), list[memoryview](), 0
        while True:
            parts.append(whole[at : at + self._left])
            at += len(parts[-1])
            self._left -= len(parts[-1])
            if self._left or self.ended or at == len(data):
                break
            found = self._line.match(data, at)
            if found is None:
                break
            at = found.end()
            self._passed(found)
        self.rest = data[at:]
        if not self.ended:
            self._refuse_what_cannot_become_a_line()
        return b"".join(parts)

    def _passed(self, line: re.Match[bytes]) -> None:
        if self._line is _TRAILERS:
            self.ended = True
            return
        self._left = int(line[1], 16)
        self._line = _NEXT if self._left else _TRAILERS

    def _refuse_what_cannot_become_a_line(self) -> None:
        """A line that has its end and was not understood, or that has none for too long."""
        if self._line is _TRAILERS:
            whole = self.rest.startswith(b"\r\n") or b"\r\n\r\n" in self.rest
        else:
            whole = self.rest.find(b"\r\n", 2 if self._line is _NEXT else 0) >= 0
        if whole or len(self.rest) > LONGEST_LINE:
            raise WronglyFramed("a body in chunks has a line that is none")
