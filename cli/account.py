"""As whom a command acts: a given token, a key file, the one of `entrepot login`, or the suite's administrator."""

import json
import os
from pathlib import Path
from typing import cast

from cli import keyfile
from cli.api import Api, access_token
from cli.exits import NotAllowed
from cli.suite import Suite
from shared import secret_files


def key_path(suite: Suite) -> Path:
    """The key file that counts. Raises NotAllowed when there is none."""
    named = os.environ.get("ENTREPOT_KEY_FILE", "") or remembered().get(suite.address("identity"), "")
    if named:
        return Path(named)
    if suite.admin_key:
        return suite.admin_key
    raise NotAllowed("no account: name a key file in ENTREPOT_KEY_FILE, or with `entrepot login`")


def token(suite: Suite) -> str:
    """A fresh access token, or the one in ENTREPOT_TOKEN."""
    given = os.environ.get("ENTREPOT_TOKEN", "")
    return given or access_token(keyfile.read(key_path(suite)), suite.address("identity"))


def api(suite: Suite, service: str) -> Api:
    """A service's face as the account sees it."""
    return Api(suite.address(service), token(suite))


def remembered() -> dict[str, str]:
    """Key files of `entrepot login`, by the address of the identity service."""
    try:
        return cast("dict[str, str]", json.loads(_memory().read_bytes()))
    except (OSError, ValueError):
        return {}


def remember(address: str, path: Path | None) -> None:
    """Use that key file at that address from now on; None forgets it. Only the path is kept, never the key."""
    known = remembered()
    known.pop(address, None)
    if path is not None:
        known[address] = str(path.absolute())
    secret_files.replace(_memory(), json.dumps(known, indent=2).encode())


def folder() -> Path:
    """Where the commands keep what they were told, among the user's own settings."""
    base = os.environ.get("XDG_CONFIG_HOME", "") or str(Path.home() / ".config")
    return Path(base) / "entrepot"


def _memory() -> Path:
    return folder() / "logins.json"
