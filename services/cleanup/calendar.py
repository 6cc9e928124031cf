"""What time it is, for ages: by a clock that is set forward nothing becomes older at once."""

from shared.clock import Clock


class Calendar:
    """The earlier of two times: what the clock says, and what it said at the start with what has passed since."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now() - clock.monotonic()

    def now(self) -> float:
        """Seconds since 1970; late where the clock was set forward since the start, which deletes nothing too early."""
        return min(self._clock.now(), self._began + self._clock.monotonic())
