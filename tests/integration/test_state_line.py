"""The one connection on which most questions go: together, in order, and given up when the server says nothing."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from shared.state.line import PASSED, Line, LineDown, is_plain
from shared.state.server import ValkeySettings
from tests.support.ports import free_port
from tests.support.servers import Server, running, scratch, valkey, valkey_server

__all__ = ["valkey"]


@asynccontextmanager
async def opened(port: int, **more: str | float) -> AsyncGenerator[Line]:
    """A line that was asked once already, so that it is open."""
    line = Line(ValkeySettings(url=f"redis://127.0.0.1:{port}", **more))  # type: ignore[arg-type]
    try:
        await until_open(line)
        yield line
    finally:
        await line.close()


async def until_open(line: Line) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            assert await line.ask("PING") == b"PONG"
        except LineDown:
            assert time.monotonic() < until, "the line was never opened"
            await asyncio.sleep(0.02)
        else:
            return


async def test_what_is_asked_in_one_turn_is_answered_each_with_its_own(valkey: Server) -> None:
    async with opened(valkey.port) as line:
        await asyncio.gather(*(line.ask("SET", f"k{number}", number) for number in range(500)))
        found = await asyncio.gather(*(line.ask("GET", f"k{number}") for number in range(500)))
        assert found == [str(number).encode() for number in range(500)]


async def looked(line: Line, *keys: str) -> list[object]:
    """What looks at these keys find, all of one turn."""
    heard: list[asyncio.Future[object]] = [asyncio.get_running_loop().create_future() for _ in keys]
    for key, found in zip(keys, heard, strict=True):
        assert line.look(key, found.set_result)
    return await asyncio.wait_for(asyncio.gather(*heard), 5)


async def test_looks_of_one_turn_are_one_question_each_told_its_own_value(valkey: Server) -> None:
    async with opened(valkey.port) as line:
        await asyncio.gather(*(line.ask("SET", f"k{number}", number) for number in range(0, 100, 2)))
        for _ in range(3):
            before = await line.ask("INFO", "commandstats")
            found = await looked(line, *(f"k{number}" for number in range(100)))
            assert found == [None if number % 2 else str(number).encode() for number in range(100)]
            assert calls(await line.ask("INFO", "commandstats")) - calls(before) <= 2  # the first may go ahead alone


def calls(commands: bytes) -> int:
    """How often MGET was called."""
    found = re.search(rb"cmdstat_mget:calls=(\d+)", commands)
    return int(found[1]) if found else 0


async def test_a_look_sees_what_was_written_before_it_began_whatever_is_under_way(valkey: Server) -> None:
    async with opened(valkey.port) as line, opened(valkey.port) as other:
        for number in range(300):
            earlier = asyncio.ensure_future(looked(line, "moving", "moving"))
            await asyncio.sleep(0)
            await other.ask("SET", "moving", number)
            assert await looked(line, "moving") == [str(number).encode()]
            await earlier


async def test_a_look_is_passed_by_where_a_value_is_that_must_not_be(valkey: Server) -> None:
    async with opened(valkey.port) as line:
        await line.ask("MSET", "k", "v", "sign", "1")
        await line.ask("HSET", "record", "name", "n")
        told: list[object] = []
        for _ in range(2):  # the first look of a turn leaves at once, the others together
            assert line.look("k", told.append, "sign")
            assert line.look("k", told.append, "none")
            assert line.look_into("record", "name", told.append, "sign")
            assert line.look_into("record", "name", told.append, "none")
            assert line.look("k", told.append)
            await line.ask("PING")
            await line.ask("PING")
        assert [told.count(each) for each in (PASSED, b"v", b"n")] == [4, 4, 2]
        assert len(told) == 10


async def test_looks_and_questions_keep_their_order(valkey: Server) -> None:
    async with opened(valkey.port) as line:
        await line.ask("HSET", "record", "name", "ada")
        names: list[object] = []
        assert line.look_into("record", "name", names.append)
        asked = asyncio.ensure_future(line.ask("SET", "k", "v"))
        await asyncio.sleep(0)
        assert await looked(line, "k", "none") == [b"v", None]
        assert await asked == b"OK"
        assert names == [b"ada"]


async def test_whoever_looks_is_told_once_when_the_server_dies_and_refused_afterwards(valkey: Server) -> None:
    async with opened(valkey.port) as line:
        valkey.pause()
        told: list[object] = []
        for number in range(10):
            assert line.look(f"k{number}", told.append)
            await asyncio.sleep(0)
        valkey.kill()
        await asyncio.sleep(0.2)
        assert [type(each) for each in told] == [LineDown] * 10
        assert not line.look("k", told.append)
        assert not line.look_into("k", "f", told.append)
        assert len(told) == 10


async def test_who_gives_up_waiting_takes_no_answer_from_another(valkey: Server) -> None:
    async with opened(valkey.port) as line:
        await line.ask("SET", "here", "yes")
        impatient = [asyncio.create_task(line.ask("GET", "nowhere")) for _ in range(20)]
        patient = [asyncio.create_task(line.ask("GET", "here")) for _ in range(20)]
        await asyncio.sleep(0)
        for task in impatient[::2]:
            task.cancel()
        assert await asyncio.gather(*patient) == [b"yes"] * 20
        assert await asyncio.gather(*impatient[1::2]) == [None] * 10


async def test_an_error_is_told_to_who_asked_alone(valkey: Server) -> None:
    async with opened(valkey.port) as line:
        await line.ask("SET", "text", "x")
        wrong, right = await asyncio.gather(
            line.ask("HGET", "text", "field"), line.ask("GET", "text"), return_exceptions=True
        )
        assert isinstance(wrong, LineDown)
        assert right == b"x"


async def test_a_server_that_died_is_told_at_once_and_found_again_when_it_is_back(valkey: Server) -> None:
    async with opened(valkey.port) as line:
        valkey.kill()
        with pytest.raises(LineDown):
            await asyncio.wait_for(line.ask("PING"), 2)
        await asyncio.to_thread(valkey.start)
        await until_open(line)


async def test_a_server_that_stands_still_is_given_up_in_a_part_of_the_deadline(valkey: Server) -> None:
    async with opened(valkey.port, deadline=1.0) as line:
        valkey.pause()
        began = time.monotonic()
        with pytest.raises(LineDown):
            await line.ask("PING")
        assert time.monotonic() - began < 0.9
        valkey.go_on()


async def test_a_password_is_shown_before_anything_is_asked() -> None:
    with scratch() as folder, running(valkey_server(folder, "--requirepass", "secret")) as server:
        async with opened(server.port, password="secret") as line:
            assert await line.ask("GET", "nothing") is None
        stranger = Line(ValkeySettings(url=f"redis://127.0.0.1:{server.port}", password="guess"))
        for _ in range(10):
            with pytest.raises(LineDown):
                await stranger.ask("PING")
            await asyncio.sleep(0.02)
        await stranger.close()


async def test_where_nobody_listens_every_question_is_refused_at_once() -> None:
    line = Line(ValkeySettings(url=f"redis://127.0.0.1:{free_port()}"))
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(LineDown):
            await line.ask("PING")
        await asyncio.sleep(0)
    assert time.monotonic() - began < 1
    await line.close()


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("redis://host:6379", True),
        ("redis://host:6379/0", True),
        ("unix:///run/valkey", True),
        ("rediss://host:6379", False),
        ("redis://host:6379/3", False),
        ("redis://user:word@host:6379", False),
        ("redis://host:6379?db=2", False),
    ],
)
def test_an_address_that_says_more_than_a_place_is_left_to_the_library(url: str, *, plain: bool) -> None:
    assert is_plain(url) is plain
