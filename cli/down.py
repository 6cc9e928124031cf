"""`entrepot down`: asks the launcher to stop, and waits until it has."""

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
    folder = suite.read(Path(data)).data or Path(data)
    process = suite.holder(folder)
    if not process:
        say("no suite runs on this data folder")
        return
    if process < 0:
        raise Failed("a suite is just being started on this data folder: try again")
    os.kill(process, signal.SIGTERM)
    until = time.monotonic() + _PATIENCE
    while suite.holder(folder) == process:
        if time.monotonic() > until:
            raise Failed(f"process {process} has not stopped within {_PATIENCE:.0f} s")
        time.sleep(0.05)
    say("stopped")
