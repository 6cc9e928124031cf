"""The queue in which a caller's calls wait."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from shared.http.errors import ResourceExhausted
from shared.http.limits import Limits, Turns, queue_of
from shared.identity.caller import ANONYMOUS, Caller
from tests.support import virtual


@asynccontextmanager
async def held(turns: Turns, who: str) -> AsyncGenerator[None]:
    """A turn, waited for and given back."""
    await turns.take(who)
    try:
        yield
    finally:
        turns.pass_on(who)


async def _hold(turns: Turns, who: str, until: asyncio.Event, order: list[int], number: int) -> None:
    async with held(turns, who):
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
    with pytest.raises(ResourceExhausted) as refused:
        async with held(turns, "ada"):
            raise AssertionError
    assert refused.value.retry_after == 5
    done.set()
    await asyncio.gather(*calls)


async def test_a_call_that_waits_too_long_is_refused_and_leaves_its_place() -> None:
    turns, done = Turns(Limits(at_once=1, wait_seconds=0.01)), asyncio.Event()
    first = asyncio.create_task(_hold(turns, "ada", done, [], 0))
    await _started()
    with pytest.raises(ResourceExhausted, match="took too long"):
        async with held(turns, "ada"):
            raise AssertionError
    done.set()
    await first
    async with held(turns, "ada"):
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
    async with asyncio.timeout(1), held(turns, "ada"):
        pass


@dataclass
class Load:
    """Callers that call as they like, and when each of their calls began."""

    turns: Turns
    began: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    refused: dict[str, int] = field(default_factory=dict[str, int])

    async def call(self, who: str, seconds: float = 0.0) -> None:
        try:
            async with held(self.turns, who):
                self.began.setdefault(who, []).append(asyncio.get_running_loop().time())
                await asyncio.sleep(seconds)
        except ResourceExhausted:
            self.refused[who] = self.refused.get(who, 0) + 1

    async def flood(self, who: str, calls: int, seconds: float = 0.0) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(self.call(who, seconds))


def test_whoever_was_quiet_is_not_slowed_and_whoever_is_not_waits_and_is_served_evenly() -> None:
    load = Load(Turns(Limits(per_second=10, burst_seconds=2, wait_seconds=30)))
    virtual.run(load.flood("ada", 121))
    began = load.began["ada"]
    assert not load.refused
    assert [round(time, 3) for time in began[:21]] == [0.0] * 21
    assert [round(time, 3) for time in began[21:]] == [round(number / 10, 3) for number in range(1, 101)]


def test_a_noisy_caller_delays_nobody_else() -> None:
    load = Load(Turns(Limits(at_once=2, waiting=1000, per_second=5, anonymous_per_second=5, burst_seconds=1)))

    async def quiet(who: str) -> None:
        for _ in range(50):
            await load.call(who, 0.001)
            await asyncio.sleep(0.5)

    async def everybody() -> None:
        noisy = asyncio.create_task(load.flood("allUsers 10.0.0.1", 1000, 60))
        await asyncio.gather(quiet("ada"), quiet("allUsers 10.0.0.2"))
        noisy.cancel()
        await asyncio.gather(noisy, return_exceptions=True)

    virtual.run(everybody())
    for who in ("ada", "allUsers 10.0.0.2"):
        assert not load.refused.get(who)
        began = load.began[who]
        assert max(later - sooner for sooner, later in pairwise(began)) < 0.502


def test_only_what_waited_too_long_or_does_not_fit_is_refused_and_all_that_is_counted() -> None:
    outcomes: list[str] = []
    load = Load(Turns(Limits(per_second=1, burst_seconds=1, waiting=40, wait_seconds=30), outcomes.append))
    virtual.run(load.flood("ada", 100))
    assert len(load.began["ada"]) == 31
    assert load.refused["ada"] == 69
    assert {each: outcomes.count(each) for each in set(outcomes)} == {"came": 29, "late": 11, "full": 58}


def test_calls_without_a_task_wait_in_the_same_line_and_leave_it_when_they_give_up() -> None:
    async def run() -> None:
        turns, told = Turns(Limits(at_once=1, waiting=2, wait_seconds=5, per_second=1, burst_seconds=1)), list[str]()
        assert turns.take_now("ada")
        for name in ("first", "second"):
            assert turns.take_later("ada", lambda came, name=name: told.append(f"{name} {came}"))
        assert not turns.take_later("ada", lambda came: told.append(f"third {came}"))
        turns.pass_on("ada")
        await asyncio.sleep(0.1)
        assert (told, turns.waiting()) == (["first True"], 1)
        await asyncio.sleep(6)
        assert (told, turns.waiting()) == (["first True", "second False"], 0)
        turns.pass_on("ada")
        await asyncio.sleep(3)
        assert turns.take_now("ada")

    virtual.run(run())


def test_callers_that_are_quiet_again_are_forgotten() -> None:
    async def run(rate: float) -> None:
        turns = Turns(Limits(per_second=rate, burst_seconds=1))
        for second in range(10):
            for number in range(1000):
                async with held(turns, f"{second} {number}"):
                    pass
            await asyncio.sleep(1)
        assert turns.lines() < 5200

    for rate in (0, 10):
        virtual.run(run(rate))


def test_without_a_limit_per_second_nobody_asks_for_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        turns = Turns(Limits())
        monkeypatch.setattr(asyncio, "get_running_loop", None)
        assert turns.take_now("ada")
        turns.pass_on("ada")
        assert turns.lines() == 1
        monkeypatch.undo()

    virtual.run(run())


def test_an_address_is_a_caller_of_its_own_and_so_is_a_network_of_ipv6() -> None:
    assert queue_of(Caller("user:ada@example.org"), "10.0.0.1") == "user:ada@example.org"
    assert queue_of(ANONYMOUS, "10.0.0.1") != queue_of(ANONYMOUS, "10.0.0.2")
    assert queue_of(ANONYMOUS, "2001:db8::1") == queue_of(ANONYMOUS, "2001:db8::ffff")
    assert queue_of(ANONYMOUS, "2001:db8::1") != queue_of(ANONYMOUS, "2001:db8:0:1::1")
    assert queue_of(ANONYMOUS, "fe80::1%eth0") == queue_of(ANONYMOUS, "fe80::2%eth0")
    assert queue_of(ANONYMOUS, "no: address") == "allUsers no: address"
