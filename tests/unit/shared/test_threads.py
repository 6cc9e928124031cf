"""Calls that block, on threads."""

import asyncio
import threading
import time

import pytest

from shared.threads import Threads


@pytest.fixture
def threads() -> Threads:
    return Threads(3, "test")


async def test_what_was_returned_or_raised_on_a_thread_comes_back(threads: Threads) -> None:
    assert await threads.run(lambda: threading.current_thread().name) == "test-1"

    def fail() -> None:
        raise FileNotFoundError(2, "gone", "x")

    with pytest.raises(FileNotFoundError, match="gone"):
        await threads.run(fail)
    threads.close()


async def test_calls_run_beside_each_other_on_so_many_threads_and_no_more(threads: Threads) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return threading.current_thread().name

    names = await asyncio.gather(*(threads.run(work) for _ in range(20)))
    assert most == 3
    assert set(names) == {"test-1", "test-2", "test-3"}
    threads.close()


async def test_who_calls_one_after_the_other_needs_one_thread(threads: Threads) -> None:
    assert {await threads.run(lambda: threading.current_thread().name) for _ in range(20)} == {"test-1"}
    threads.close()


async def test_who_is_cancelled_waits_for_the_work_and_gives_back_what_it_returned(threads: Threads) -> None:
    go, given_back = threading.Event(), []

    def work() -> str:
        go.wait(5)
        return "opened"

    calling = asyncio.create_task(threads.run(work, given_back.append))
    for _ in range(3):
        await asyncio.sleep(0.005)
        calling.cancel()
    assert not calling.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert given_back == ["opened"]
    assert await threads.run(lambda: 1) == 1
    threads.close()


async def test_closed_threads_end(threads: Threads) -> None:
    await threads.run(lambda: None)
    threads.close()
    for _ in range(200):
        if not any(each.name.startswith("test-") for each in threading.enumerate()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a thread did not end")
