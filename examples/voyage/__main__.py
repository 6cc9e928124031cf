"""Sails the voyage: `python -m examples.voyage [--data DIR] [--port-base N] [--stay]`.

Starts the suite on that folder unless it runs there already, and stops what it started, unless it shall stay.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from examples.voyage.course import Voyage
from examples.voyage.log_book import LogBook
from examples.voyage.ship import Aground, Lookout, Ship

_READY_SECONDS = 120


def main() -> int:
    """Exit code 0 when the whole voyage went as it should."""
    parser = argparse.ArgumentParser(prog="./task demo --", description="One image through the whole suite.")
    parser.add_argument("--data", type=Path, default=Path(".entrepot"), help="the suite's data folder")
    parser.add_argument("--port-base", type=int, default=5000)
    parser.add_argument("--cache", type=Path, default=Path(".cache/voyage"), help="where fetched wheels are kept")
    parser.add_argument("--stay", action="store_true", help="leave the suite running, until Ctrl-C")
    options = parser.parse_args()
    ship, log = Ship(options.data), LogBook()
    started = None if ship.attempt("status").returncode == 0 else _start(options.data, options.port_base)
    try:
        _wait(ship, started)
        log.line(f"the suite is ready after {log.total():.1f} s")
        return _sail(ship, log, options.cache) or _stay(started, stay=options.stay)
    finally:
        if started is not None:
            started.send_signal(signal.SIGTERM)
            started.wait(60)


def _sail(ship: Ship, log: LogBook, cache: Path) -> int:
    cache.mkdir(parents=True, exist_ok=True)
    lookout = Lookout(ship)
    try:
        Voyage(ship, lookout, log, cache).sail()
    except Aground as aground:
        print(f"\naground: {aground}", file=sys.stderr)
        return 1
    finally:
        lookout.stop()
    print(f"\nThe voyage took {log.total():.1f} s in all.")
    return 0


def _start(data: Path, base: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cli", "up", "--data", str(data), "--port-base", str(base)]
    return subprocess.Popen(command)


def _wait(ship: Ship, started: "subprocess.Popen[bytes] | None") -> None:
    until = time.monotonic() + _READY_SECONDS
    while ship.attempt("status").returncode != 0:
        if started is not None and started.poll() is not None:
            raise SystemExit("the suite did not start")
        if time.monotonic() > until:
            raise SystemExit(f"the suite was not ready after {_READY_SECONDS} s")


def _stay(started: "subprocess.Popen[bytes] | None", *, stay: bool) -> int:
    if started is None or not stay:
        return 0
    print("The suite stays until Ctrl-C.")
    try:
        return started.wait()
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
