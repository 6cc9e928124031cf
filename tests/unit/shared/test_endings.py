"""Ending tasks, such too as lose their cancellation."""

import asyncio

from shared.endings import called_off


async def test_all_have_ended_whatever_their_end_is() -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError

    tasks = [asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(fails())]
    await asyncio.sleep(0)
    await called_off(tasks)
    assert [task.done() for task in tasks] == [True, True]


async def test_who_loses_the_cancellation_is_told_once_more() -> None:
    async def deaf_once() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await called_off([task], again=0.05)
    assert task.cancelled()


async def test_last_acts_are_waited_for() -> None:
    done: list[str] = []

    async def tidy() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            done.append("tidied")

    task = asyncio.create_task(tidy())
    await asyncio.sleep(0)
    await called_off([task], again=5)
    assert done == ["tidied"]


async def test_nobody_is_waited_for_where_there_is_nobody() -> None:
    await called_off([])
