"""Cuts a stream of bytes into lines of bounded length."""

MAX_LINE = 16 * 1024


class Lines:
    """Keeps the unfinished end of a stream between its pieces."""

    def __init__(self) -> None:
        """Empty at first."""
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that `piece` finishes, without their ends; one that is too long is cut."""
        parts = (self._rest + piece).split(b"\n")
        self._rest = parts.pop()
        while len(self._rest) > MAX_LINE:
            parts.append(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        return [cut.rstrip(b"\r") for part in parts for cut in _cut(part)]

    def end(self) -> list[bytes]:
        """What is left when the stream has ended."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _cut(part: bytes) -> list[bytes]:
    return [part[start : start + MAX_LINE] for start in range(0, len(part), MAX_LINE)] or [b""]
