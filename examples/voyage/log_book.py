"""What the voyage prints: what was done, what was read back, and how long it took."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from shared.clock import rfc3339


class LogBook:
    """Prints as things happen; every line under a heading was read back from a service."""

    def __init__(self) -> None:
        """Time counts from here."""
        self._began = time.monotonic()
        self.began = rfc3339(time.time())
        """What was said before belongs to an earlier voyage."""

    @contextmanager
    def leg(self, heading: str) -> Generator[None]:
        """One leg of the voyage, with its time at its end."""
        began = time.monotonic()
        print(f"\n{heading}", flush=True)
        yield
        print(f"  ({time.monotonic() - began:.1f} s)", flush=True)

    def line(self, words: str) -> None:
        """One thing that was read back."""
        print(f"  {words}", flush=True)

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began
