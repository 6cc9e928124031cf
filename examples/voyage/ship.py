"""The commands of the voyage, run as a user runs them, and the events that are heard meanwhile."""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DENIED = 3
"""Exit code of a command when a policy says no."""


class Aground(Exception):
    """Something on the voyage did not happen; the message says what."""


class Ship:
    """A suite and the command line that speaks to it."""

    def __init__(self, data: Path) -> None:
        """`data` is the suite's data folder."""
        self.data = data

    def run(self, *arguments: str, expect: int = 0) -> str:
        """Run an `entrepot` command; its standard output. Raises Aground when it ends otherwise than expected."""
        done = self.attempt(*arguments)
        if done.returncode != expect:
            said = done.stderr.strip() or done.stdout.strip()
            raise Aground(f"entrepot {' '.join(arguments)} ended with {done.returncode}: {said}")
        return done.stdout if expect == 0 else done.stderr

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run an `entrepot` command, whatever its end."""
        command = [sys.executable, "-m", "cli", *arguments, "--data", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)

    def ask(self, *arguments: str) -> Any:
        """Run a command that prints JSON."""
        return json.loads(self.run(*arguments, "--format", "json"))

    def registry(self) -> str:
        """What stands before the first slash of an image's name."""
        services = self.ask("status")["services"]
        return str(services["registry"]["address"]).partition("://")[2]


class Lookout:
    """Hears every event from now on, as `entrepot events tail` prints them."""

    def __init__(self, ship: Ship) -> None:
        """Begins to listen."""
        command = [sys.executable, "-u", "-m", "cli", "events", "tail", "--format", "json", "--from-start"]
        self._process = subprocess.Popen([*command, "--data", str(ship.data)], stdout=subprocess.PIPE, text=True)
        self._heard: list[dict[str, Any]] = []
        self._news: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        for line in self._process.stdout:
            self._news.put(json.loads(line))
        self._news.put(None)

    def until(
        self, topic: str, fits: Callable[[dict[str, Any]], bool], seconds: float = 60, since: str = ""
    ) -> dict[str, Any]:
        """The first event of a topic whose data fits, heard before or still to come. Raises Aground."""
        end = time.monotonic() + seconds
        position = 0
        while True:
            for event in self._heard[position:]:
                if event["type"] == topic and event["time"] >= since and fits(event["data"]):
                    return event
            position = len(self._heard)
            try:
                news = self._news.get(timeout=max(end - time.monotonic(), 0.01))
            except queue.Empty:
                raise Aground(f"no {topic} was heard in {seconds:.0f} s") from None
            if news is None:
                raise Aground("entrepot events tail ended by itself")
            self._heard.append(news)

    def heard(self, topic: str, since: str) -> list[dict[str, Any]]:
        """The data of all events of a topic that were heard so far."""
        return [event["data"] for event in self._heard if event["type"] == topic and event["time"] >= since]

    def stop(self) -> None:
        """Stop listening."""
        self._process.terminate()
        self._process.wait(10)
