"""Bodies that are sent again: what came the first time is found by its bytes, however they are cut."""

from collections.abc import AsyncGenerator, AsyncIterator

from hypothesis import given
from hypothesis import strategies as some

from services.registry.resending import behind, not_twice

WORDS = some.text("ab", max_size=12).map(str.encode)


def cut(content: bytes, at: int) -> list[bytes]:
    """Pieces of that size."""
    return [content[start : start + at] for start in range(0, len(content), at)]


async def flow(pieces: list[bytes]) -> AsyncGenerator[bytes]:
    for piece in pieces:
        yield piece


async def whole(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


@given(WORDS, WORDS, some.integers(1, 5), some.integers(1, 5))
async def test_a_body_loses_its_beginning_where_that_came_already_and_else_nothing(
    body: bytes, came: bytes, one: int, other: int
) -> None:
    left = await whole(not_twice(flow(cut(body, one)), lambda: flow(cut(came, other))))
    assert left == (body.removeprefix(came))


@given(WORDS, some.integers(0, 15), some.integers(1, 5))
async def test_what_lies_behind_a_place_is_all_but_the_bytes_before_it(content: bytes, place: int, size: int) -> None:
    assert await whole(behind(place, flow(cut(content, size)))) == content[place:]
