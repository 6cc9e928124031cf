"""The master key's file: read, or made at the first start."""

import os
from collections.abc import Callable
from pathlib import Path

from services.attestor.signing import Master
from shared.settings import SettingsWrong, secret

BYTES = 32


def master_from(path: Path) -> Master:
    """The master keys in a file of mode 0600. Raises SettingsWrong."""
    lines = secret(path).split()
    try:
        keys = [bytes.fromhex(line) for line in lines]
    except ValueError:
        keys = []
    if not keys or any(len(key) != BYTES for key in keys):
        raise SettingsWrong(f"{path} must hold {2 * BYTES} hexadecimal digits a line")
    return Master(keys)


def made_once(path: Path, secrets: Callable[[int], bytes]) -> Master:
    """The master key in the file, which is made where there is none; of replicas that start together one makes it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{secrets(8).hex()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets(BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return master_from(path)
