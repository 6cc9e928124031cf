"""The outbox: what is said about a change lies in the same atomic step as the change."""

from collections.abc import Sequence

from shared.clock import Clock, rfc3339
from shared.events import Cause, Draft, Event, draft


class Outbox:
    """Prepares the events of one service for its atomic steps."""

    def __init__(self, producer: str, clock: Clock) -> None:
        """`producer` is the service's name as the bus knows it."""
        self.producer = producer
        self._clock = clock

    def drafts(self, events: Sequence[Event], cause: Cause, *, first: int = 0) -> tuple[Draft, ...]:
        """The events as drafts for a Step. A cause that takes several steps numbers on with `first`.

        Raises EventTooLarge, before anything is changed.
        """
        time = rfc3339(self._clock.now())
        return tuple(
            draft(event, producer=self.producer, cause=cause, position=position, time=time)
            for position, event in enumerate(events, first)
        )
