"""Pieces of a body that wait to be written together, as they came: copying them costs more than writing them."""

from dataclasses import dataclass, field

_SMALL = 16 * 1024
"""Pieces below this are joined after all, or a body of tiny ones would be a list longer than its bytes."""


@dataclass
class Gathered:
    """Pieces in order."""

    pieces: list[bytes | bytearray] = field(default_factory=list[bytes | bytearray])
    size: int = 0

    def add(self, piece: bytes) -> int:
        """One more; the size of all of them."""
        last = self.pieces[-1] if self.pieces else None
        if len(piece) >= _SMALL:
            self.pieces.append(piece)
        elif isinstance(last, bytearray):
            last += piece
        else:
            self.pieces.append(bytearray(piece))
        self.size += len(piece)
        return self.size
