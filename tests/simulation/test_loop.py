# ruff: noqa: S311, ASYNC110 - a seeded generator is the point, and time is virtual
"""Pins the private parts of asyncio that the loop leans on: when Python changes them, this fails first."""

import asyncio
import random

import pytest

from tests.simulation.loop import Breach, Process, SeededLoop, current_process, in_the_world, running_loop


def loop_of(seed: int = 1, steps: int = 10_000) -> SeededLoop:
    return SeededLoop(random.Random(seed), steps)


def test_what_the_loop_overrides_and_touches_is_still_there() -> None:
    plain = asyncio.BaseEventLoop()
    for name in ("_run_once", "_stopping"):
        assert hasattr(plain, name), name
    handle = asyncio.TimerHandle(0.0, print, (1,), plain, in_the_world())
    assert len(handle._context) == 0  # type: ignore[attr-defined]
    assert (handle._callback, handle._args, handle._cancelled) == (print, (1,), False)  # type: ignore[attr-defined]
    plain.close()


def test_hours_pass_in_no_time_and_in_order() -> None:
    seen: list[float] = []

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append(running_loop().time())

    async def main() -> None:
        await asyncio.gather(*map(wait, (7200.0, 1.0, 60.0)))

    loop_of().run(main())
    assert seen == [1.0, 60.0, 7200.0]


def test_the_seed_alone_decides_the_order() -> None:
    def order(seed: int) -> tuple[list[int], int]:
        seen: list[int] = []

        async def note(number: int) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append(number)

        async def main() -> None:
            await asyncio.gather(*map(note, range(8)))

        loop = loop_of(seed)
        loop.run(main())
        return seen, loop.trace

    assert order(1) == order(1)
    assert len({tuple(order(seed)[0]) for seed in range(20)}) > 15


def test_a_killed_process_is_frozen_where_it_stands_and_no_finally_runs() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.gather(asyncio.sleep(1), asyncio.sleep(5))
        finally:
            ended.append("finally")

    async def main() -> None:
        process = Process("victim")
        process.spawn(work())
        await asyncio.sleep(0.5)
        process.dead = True
        await asyncio.sleep(100)
        assert ended == []

    loop_of().run(main())


def test_what_a_process_starts_belongs_to_it_and_dies_with_it() -> None:
    seen: list[str] = []

    async def child() -> None:
        process = current_process()
        assert process is not None
        seen.append(process.name)
        await asyncio.sleep(1)
        seen.append("too late")

    async def parent() -> None:
        await asyncio.create_task(child())

    async def main() -> None:
        process = Process("family")
        process.spawn(parent())
        await asyncio.sleep(0.5)
        assert current_process() is None
        process.dead = True
        await asyncio.sleep(2)

    loop_of().run(main())
    assert seen == ["family"]


def test_a_paused_process_stands_still_and_then_goes_on() -> None:
    at: list[float] = []

    async def tick() -> None:
        for _ in range(4):
            await asyncio.sleep(1)
            at.append(running_loop().time())

    async def main() -> None:
        process = Process("sleeper")
        process.spawn(tick())
        await asyncio.sleep(1.5)
        process.paused_until = 6.0
        await asyncio.sleep(20)

    loop_of().run(main())
    assert at == [1.0, 6.0, 7.0, 8.0]


def test_an_invariant_stops_the_run_although_a_service_would_swallow_it() -> None:
    async def swallow() -> None:
        while True:
            try:
                await asyncio.sleep(1)
                running_loop().fail(Breach("broken"))
            except Exception:  # noqa: BLE001, S110 - as a careless service does
                pass

    async def main() -> None:
        await asyncio.gather(swallow())

    with pytest.raises(Breach, match="broken"):
        loop_of().run(main())


def test_a_seed_that_never_rests_is_stopped() -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Breach, match="no rest"):
        loop_of(steps=500).run(spin())


def test_waiting_for_what_never_comes_is_noticed() -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Breach, match="nothing"):
        loop_of().run(wait())


def test_threads_have_no_place_here() -> None:
    async def compute() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RuntimeError, match="cpu"):
        loop_of().run(compute())
