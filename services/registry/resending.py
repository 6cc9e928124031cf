"""Requests that are sent again because their answer was lost: what of a body came the first time is not taken twice."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

Came = Callable[[], AsyncGenerator[bytes]]
"""Reads what is staged behind the place where a body belongs, each time from the beginning."""


async def not_twice(pieces: AsyncIterator[bytes], came: Came) -> AsyncIterator[bytes]:
    """A body without its beginning, where that is exactly what came already; else all of it.

    Of the body no more than a piece is held: what was alike up to where it was not is read from what came.
    """
    alike, left = 0, b""
    async with aclosing(came()) as staged:
        async for known in staged:
            at = 0
            while at < len(known):
                left = left or await anext(pieces, b"")
                size = min(len(known) - at, len(left))
                if not size or known[at : at + size] != left[:size]:
                    async for piece in _first(alike, came()):
                        yield piece
                    break
                alike, at, left = alike + size, at + size, left[size:]
            else:
                continue
            break
    if left:
        yield left
    async for piece in pieces:
        yield piece


async def behind(offset: int, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """All but the first bytes."""
    async for piece in pieces:
        if offset < len(piece):
            yield piece[offset:]
        offset = max(0, offset - len(piece))


async def _first(size: int, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(pieces) as flow:
        async for piece in flow:
            if size <= 0:
                return
            yield piece[:size]
            size -= len(piece)
