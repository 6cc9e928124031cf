"""The queue in which a caller's calls wait."""

import asyncio

import pytest

from shared.http.errors import Unavailable
from shared.http.limits import Limits, Turns


async def _hold(turns: Turns, who: str, until: asyncio.Event, order: list[int], number: int) -> None:
    async with turns.turn(who):
        order.append(number)
        await until.wait()


async def _started() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_calls_beyond_the_limit_wait_in_the_order_they_came() -> None:
    turns, done, order = Turns(Limits(at_once=2)), asyncio.Event(), list[int]()
    calls = [asyncio.create_task(_hold(turns, "ada", done, order, number)) for number in range(5)]
    await _started()
    assert (order, turns.waiting()) == ([0, 1], 3)
    done.set()
    await asyncio.gather(*calls)
    assert (order, turns.waiting()) == ([0, 1, 2, 3, 4], 0)


async def test_one_caller_does_not_hold_up_another() -> None:
    turns, done, order = Turns(Limits(at_once=1)), asyncio.Event(), list[int]()
    calls = [
        asyncio.create_task(_hold(turns, who, done, order, number)) for number, who in enumerate(["ada", "ada", "eve"])
    ]
    await _started()
    assert order == [0, 2]
    done.set()
    await asyncio.gather(*calls)


async def test_too_many_waiting_calls_are_refused_as_retryable() -> None:
    turns, done = Turns(Limits(at_once=1, waiting=1)), asyncio.Event()
    calls = [asyncio.create_task(_hold(turns, "ada", done, [], number)) for number in range(2)]
    await _started()
    with pytest.raises(Unavailable) as refused:
        async with turns.turn("ada"):
            raise AssertionError
    assert refused.value.retry_after == 2
    done.set()
    await asyncio.gather(*calls)


async def test_a_call_that_waits_too_long_is_refused_and_leaves_its_place() -> None:
    turns, done = Turns(Limits(at_once=1, wait_seconds=0.01)), asyncio.Event()
    first = asyncio.create_task(_hold(turns, "ada", done, [], 0))
    await _started()
    with pytest.raises(Unavailable, match="took too long"):
        async with turns.turn("ada"):
            raise AssertionError
    done.set()
    await first
    async with turns.turn("ada"):
        assert turns.waiting() == 0


async def test_a_cancelled_call_passes_its_turn_on() -> None:
    turns, done, order = Turns(Limits(at_once=1)), asyncio.Event(), list[int]()
    calls = [asyncio.create_task(_hold(turns, "ada", done, order, number)) for number in range(3)]
    await _started()
    calls[1].cancel()
    await _started()
    done.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert order == [0, 2]


async def test_a_call_cancelled_as_it_gets_its_turn_loses_none() -> None:
    turns, done, order = Turns(Limits(at_once=1)), asyncio.Event(), list[int]()
    first = asyncio.create_task(_hold(turns, "ada", done, order, 0))
    await _started()
    second = asyncio.create_task(_hold(turns, "ada", done, order, 1))
    await _started()
    done.set()
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    async with asyncio.timeout(1), turns.turn("ada"):
        pass
