"""Facts that several handlers fold into the same records at the same time."""

import asyncio
from typing import Any

import pytest

from shared.state import Fold, Index, Moved, Question, Step, learn
from shared.state.memory import MemoryState, MemoryStore


class Raced:
    """A state in which somebody else writes between every read and the step that follows it."""

    def __init__(self, state: MemoryState, times: int) -> None:
        self._state = state
        self.times = times

    async def look(self, questions: list[Question]) -> list[Any]:
        return await self._state.look(questions)

    async def apply(self, step: Step) -> object:
        if self.times:
            self.times -= 1
            raise Moved
        return await self._state.apply(step)


def state() -> MemoryState:
    return MemoryState("cleanup", lambda: 0.0, MemoryStore())


def counted(raw: str | None) -> str:
    return str(int(raw or "0") + 1)


async def test_what_is_learned_at_the_same_time_is_all_kept() -> None:
    known = state()
    await asyncio.gather(*(learn(known, "00", f"fact {number}", [Fold("{00}:k", "f", counted)]) for number in range(9)))
    assert await known.field("{00}:k", "f") == "9"


async def test_a_fact_that_changes_nothing_writes_nothing_and_what_stands_beside_it_neither() -> None:
    known = state()
    beside = (Index("{00}:names", "f"),)
    await learn(known, "00", "nothing", [Fold("{00}:k", "f", lambda _: None, beside)])
    assert await known.members("{00}:names") == []
    await learn(known, "00", "something", [Fold("{00}:k", "f", counted, beside), Fold("{00}:k", "g", lambda _: None)])
    assert await known.members("{00}:names") == ["f"]
    assert await known.record("{00}:k") == {"f": "1"}


async def test_who_is_always_too_late_gives_up_as_moved() -> None:
    await learn(Raced(state(), 15), "00", "late", [Fold("{00}:k", "f", counted)])  # pyright: ignore[reportArgumentType]
    with pytest.raises(Moved):
        await learn(Raced(state(), 16), "00", "late", [Fold("{00}:k", "f", counted)])  # pyright: ignore[reportArgumentType]
