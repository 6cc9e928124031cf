"""Logins that `docker login` and its like handed over, by registry, in one file that its owner alone may read."""

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from cli import account
from cli.exits import Failed
from cli.transport.credentials import Credentials
from shared import secret_files

KEY_FILE = "_json_key_file"
"""The user of a login whose password is the path of a key file, which stays where it is."""


def all_kept() -> dict[str, Credentials]:
    """Each registry's user and password. Raises Failed where the file is not ours."""
    try:
        found = json.loads(_file().read_bytes())
        entries = cast("dict[str, dict[str, str]]", found)
        return {host: Credentials(entry["user"], entry["password"]) for host, entry in entries.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failed(f"{_file()} cannot be read ({type(error).__name__})") from error


def keep(host: str, login: Credentials) -> None:
    """Remember a login, in place of an older one."""
    with _alone():
        _write({**all_kept(), host: login})


def forget(host: str) -> bool:
    """Forget a login; False where there is none."""
    with _alone():
        known = all_kept()
        if known.pop(host, None) is None:
            return False
        _write(known)
        return True


def _write(known: dict[str, Credentials]) -> None:
    entries = {host: {"user": login.user, "password": login.password} for host, login in sorted(known.items())}
    secret_files.replace(_file(), json.dumps(entries, indent=2).encode())


@contextmanager
def _alone() -> Generator[None]:
    """Two clients may log in at once, and neither login may be lost."""
    lock = _file().with_suffix(".lock")
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR, 0o600), "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _file() -> Path:
    return account.folder() / "registries.json"
