"""`entrepot down`: asks the launcher to stop, and waits until it has."""

import fcntl
import os
import signal
import time
from pathlib import Path

import click

from cli import suite
from cli.exits import Failed
from cli.output import say

_PATIENCE = 60.0


@click.command()
@suite.data_option
def down(data: str) -> None:
    """Stop the suite that runs on a data folder."""
    running = suite.read(Path(data))
    lock = Path(data).absolute() / "run" / "lock"
    if not _is_held(lock):
        say("no suite runs on this data folder")
        return
    os.kill(running.pid, signal.SIGTERM)
    until = time.monotonic() + _PATIENCE
    while _is_held(lock):
        if time.monotonic() > until:
            raise Failed(f"process {running.pid} has not stopped within {_PATIENCE:.0f} s")
        time.sleep(0.05)
    say("stopped")


def _is_held(lock: Path) -> bool:
    """The launcher holds the lock for as long as it lives, so a stale process number is never killed."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
