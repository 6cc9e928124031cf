"""`python -m infra.embedded.rebuilding`: what `entrepot rebuild-state` becomes.

The servers of a suite are started, nothing else; beside them runs the service's own rebuild, as its user at the state
server and in the bucket, and as `operator` on the bus.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from infra.embedded import nats, services
from infra.embedded.children import Leash
from infra.embedded.errors import CannotStart
from infra.embedded.folder import DataFolder
from infra.embedded.launcher import Launcher, to_terminal
from infra.embedded.services import Place
from infra.embedded.signals import Signals, Stopped
from infra.embedded.suite import start_servers

_INTERRUPTED = 130
_STOP_SECONDS = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild; the exit code is the rebuild's own, 1 where it could not begin."""
    parser = argparse.ArgumentParser(prog="entrepot rebuild-state", description=__doc__)
    parser.add_argument("service", choices=["registry"])
    parser.add_argument("--data", type=Path, default=Path(".entrepot"))
    parser.add_argument("--port-base", type=int, default=5000)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    options = parser.parse_args(arguments)
    more = ["--format", options.format, *(["--force"] if options.force else [])]
    try:
        return rebuild(place_of(options.data, options.port_base), options.service, more)
    except CannotStart as error:
        print(f"entrepot: {error}", file=sys.stderr)  # noqa: T201 - for the person at the terminal
        return 1


def place_of(data: Path, port_base: int) -> Place:
    """The suite that was on that folder. Raises CannotStart where none was."""
    kept = data.absolute() / "bucket"
    if not kept.exists():
        raise CannotStart(f"no suite was ever started on {data.absolute()}: there is nothing to rebuild from")
    return Place(DataFolder.at(data), port_base, s3=kept.read_text().strip() == "s3")


def rebuild(place: Place, service: str, arguments: Sequence[str]) -> int:
    """Start the servers, run the service's rebuild, and stop them. Raises CannotStart."""
    signals = Signals()
    lock = place.folder.lock()
    launcher = Launcher(signals, leash := Leash(signals, [lock]), to_terminal)
    try:
        start_servers(launcher, place)
        return _run(launcher, signals, _environment(place, service), [f"services.{service}.rebuilding", *arguments])
    except Stopped:
        return _INTERRUPTED
    finally:
        launcher.stop()
        leash.signals.unblock()


def _environment(place: Place, service: str) -> dict[str, str]:
    operator = {
        "ENTREPOT_BUS_USER": "operator",
        "ENTREPOT_BUS_PASSWORD_FILE": str(nats.passwords(place.folder) / "operator.password"),
    }
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("ENTREPOT_")}
    return inherited | services.environment(place, service) | operator


def _run(launcher: Launcher, signals: Signals, environment: dict[str, str], command: Sequence[str]) -> int:
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", *command],
        env=environment,
        preexec_fn=signals.unblock,  # noqa: PLW1509 - no threads here, and signals are blocked in this process
    )
    try:
        while (code := process.poll()) is None:
            launcher.watch(0.2)
        return code
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end; a rebuild that is killed is begun again, so nothing is lost by that."""
    if process.poll() is None:
        process.terminate()
        until = time.monotonic() + _STOP_SECONDS
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
