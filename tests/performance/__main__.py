"""Runs the benchmark: `python -m tests.performance [--quick] [--rounds N] [--only TITLE] [--write]`."""

import argparse
import asyncio
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.ports import NATS, VALKEY
from tests.performance import events, listing, mixed
from tests.performance.peer import docker_registry, nginx
from tests.performance.rows import Row, Target, prepare, prepare_files, rows
from tests.performance.table import Alone, beside_files, line, measured, written
from tests.support import suite as suites
from tests.support.ports import free_base
from tests.support.twins import started as started_twins
from tests.support.twins import twin_of

OURS, PEER, NGINX = "Entrepot", "docker-registry", "nginx"
PAGE = Path("docs/performance.md")
_BEGAN = time.monotonic()


@dataclass(frozen=True)
class Suite:
    """A suite that was started for the benchmark."""

    data: Path
    base: int

    def token(self) -> str:
        """An access token of the administrator's."""
        return _entrepot("token", "--data", str(self.data)).strip()


@contextlib.contextmanager
def suite() -> Generator[Suite]:
    """Start the suite as a user does, on free ports and a folder of its own."""
    base = free_base()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data = Path(folder, "data")
        command = [sys.executable, "-m", "cli", "up", "--data", str(data), "--port-base", str(base)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr)
        try:
            _until_ready(data, process)
            yield Suite(data, base)
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def second_registry(started: Suite) -> Generator[int]:
    """One more replica of the registry, beside the suite's; its port is given."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        twin = twin_of(suites.Suite(started.data, started.base), "registry", Path(folder, "second"))
        with started_twins({"registry": twin}):
            yield twin.port


def _until_ready(data: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(120):
        if process.poll() is not None:
            raise SystemExit("the suite did not start")
        status = subprocess.run(
            [sys.executable, "-m", "cli", "status", "--data", str(data)], capture_output=True, check=False, timeout=30
        )
        if status.returncode == 0:
            return
    raise SystemExit("the suite was not ready in time")


def _entrepot(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "cli", *arguments], capture_output=True, check=True, timeout=60)
    return done.stdout.decode()


async def compare(table: list[Row], peer: Target, ours: Target, files: Target | None, rounds: int) -> None:
    """Alternate between both, row by row; where a server of files can do it, between all three."""
    for target in (peer, ours):
        _say(f"preparing {target.title}")
        await prepare(target)
    for number, row in enumerate(table, 1):
        _say(f"row {number} of {len(table)}: {row.title}")
        for _ in range(rounds):
            for target in (peer, ours, *((files,) if files and row.is_file else ())):
                await row.measure(target, ours if target is files else None)
        _say(f"  {row.median(PEER):.3g} and {row.median(OURS):.3g} {row.unit}")


def _say(text: str) -> None:
    """Tell whoever waits how far it is."""
    seconds = int(time.monotonic() - _BEGAN)
    sys.stderr.write(f"{seconds // 60:2}:{seconds % 60:02} {text}\n")
    sys.stderr.flush()


async def listen(ours: Target, data: Path) -> events.Latency:
    """The event rows, of ours alone: the peer has none."""
    listener = events.Listener(data)
    await listener.start()
    try:
        return await events.measure(ours, listener)
    finally:
        await listener.stop()


def main() -> None:
    """Measure and print; with `--write` into docs/performance.md too."""
    parser = argparse.ArgumentParser(prog="./task bench --")
    parser.add_argument("--quick", action="store_true", help="short rounds, to try the harness out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only rows whose title holds this; prints them and writes nothing")
    parser.add_argument("--write", action="store_true", help="write what was measured into docs/performance.md")
    options = parser.parse_args()
    table = [row for row in rows(quick=options.quick) if options.only in row.title]
    if not table:
        raise SystemExit(f"no row's title holds {options.only!r}")
    with docker_registry() as peer_port, nginx() as files_at, suite() as started, second_registry(started) as second:
        peer = Target(PEER, [peer_port], [], "bench/image", {})
        bearer = {"Authorization": f"Bearer {started.token()}"}
        valkey, beside = started.base + VALKEY, {"Valkey": started.base + VALKEY, "NATS": started.base + NATS}
        ours = Target(OURS, [started.base, second], [valkey], "demo/bench/image", bearer, beside)
        files = None
        if files_at is not None:
            files = Target(NGINX, [files_at[0]], [], "bench/image", {})
            prepare_files(files, files_at[1])
        asyncio.run(compare(table, peer, ours, files, options.rounds))
        if options.only:
            print("\n".join([*(line(row, PEER, OURS) for row in table), beside_files(table, NGINX, OURS)]))
            return
        alone = _measure_alone(ours, started.data, valkey, options.rounds, 10.0 if options.quick else 60.0)
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    parts = measured(table, (PEER, OURS, NGINX), alone, f"{machine}, {options.rounds} rounds")
    print("\n\n".join(parts.values()))
    if options.write:
        PAGE.write_text(written(PAGE.read_text(), parts))


def _measure_alone(ours: Target, data: Path, valkey: int, rounds: int, seconds: float) -> Alone:
    """What the peer has no like of."""
    _say("events")
    latency = asyncio.run(listen(ours, data))
    _say("pages of tags")
    pages = asyncio.run(listing.measure(ours, data, valkey, rounds=rounds, count=1000))
    _say(f"pushes and pulls beside each other for {seconds:.0f} s")
    return Alone(latency, pages, asyncio.run(mixed.measure(ours, seconds)), seconds)


if __name__ == "__main__":
    main()
