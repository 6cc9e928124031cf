"""Between processes and servers everything takes time, and some of it is lost, before or after its effect."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.simulation.loop import in_the_world

T = TypeVar("T")
Request = Callable[[], Coroutine[Any, Any, T]]
"""What a server does once it is asked."""

PATIENCE = 0.5
"""Seconds after which an answer is taken for lost."""
REFUSAL = 0.3
"""Seconds after which it is plain that a server is away."""


class Lost(Exception):
    """No answer came: whether the request took effect is unknown."""


@dataclass
class Odds:
    """How likely it is that something is lost or late; all 0 when the storm is over."""

    lost_request: float = 0.0
    lost_answer: float = 0.0
    late: float = 0.0
    """How likely a delivery is late, by up to `latest` seconds."""
    latest: float = 3.0
    twice: float = 0.0
    lost_wake: float = 0.0

    def calm(self) -> None:
        """From now on nothing is lost."""
        self.lost_request = self.lost_answer = self.late = self.twice = self.lost_wake = 0.0


class Server:
    """What can be reached, or cannot."""

    def __init__(self) -> None:
        self.away = False


class Network:
    """Carries requests. What was sent happens, even when its sender dies."""

    def __init__(self, world: random.Random, odds: Odds) -> None:
        self._world = world
        self.odds = odds

    def send(self, request: Request[T], server: Server | None = None) -> "asyncio.Future[T]":
        """Let `request` happen and bring its answer, or Lost after a while."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        loop.call_later(self._delay(), self._arrive, request, server, answer, context=in_the_world())
        return answer

    def _arrive(self, request: Request[Any], server: Server | None, answer: "asyncio.Future[Any]") -> None:
        if self._world.random() < self.odds.lost_request:
            self._lose(answer)
        elif server is not None and server.away:
            asyncio.get_running_loop().call_later(REFUSAL, self._answer, answer, Lost())
        else:
            self._happen(request(), answer)

    def _happen(self, request: Coroutine[Any, Any, Any], answer: "asyncio.Future[Any]") -> None:
        """Drive a request without a task of its own, for most are done in one go."""
        try:
            waits_for = request.send(None)
        except StopIteration as done:
            self._answer(answer, done.value)
        except Exception as error:  # noqa: BLE001 - it is the asker's, whatever it is
            self._answer(answer, error)
        else:
            waits_for._asyncio_future_blocking = False
            waits_for.add_done_callback(lambda _: self._happen(request, answer))

    def _answer(self, answer: "asyncio.Future[Any]", result: Any) -> None:
        if self._world.random() < self.odds.lost_answer:
            self._lose(answer)
        else:
            asyncio.get_running_loop().call_later(self._delay(), _give, answer, result)

    def _lose(self, answer: "asyncio.Future[Any]") -> None:
        asyncio.get_running_loop().call_later(PATIENCE, _give, answer, Lost())

    def _delay(self) -> float:
        return 0.0002 + self._world.random() * 0.004

    # What the memory broker asks about each delivery.

    def lag(self) -> float:
        """Seconds by which a delivery is late; different ones put messages out of order."""
        return self._world.random() * self.odds.latest if self._world.random() < self.odds.late else 0.0

    def twice(self) -> bool:
        """Whether an acknowledged message is delivered once more."""
        return self._world.random() < self.odds.twice

    def loses_wake(self) -> bool:
        """Whether a wake is not heard."""
        return self._world.random() < self.odds.lost_wake


def _give(answer: "asyncio.Future[Any]", result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
