"""User and password for a registry, as container clients keep them, or as the suite's account."""

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cli.exits import Failed


@dataclass(frozen=True)
class Credentials:
    """What Basic authentication says; `<token>` as the user means that the password is a refresh token."""

    user: str
    password: str

    @property
    def basic(self) -> str:
        """The header's value."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


Lookup = Callable[[str], Credentials | None]


def given(text: str) -> Credentials:
    """`USER:PASSWORD` as it stands on a command line or in a variable."""
    user, colon, password = text.partition(":")
    if not colon:
        raise Failed("credentials are written USER:PASSWORD")
    return Credentials(user, password)


def kept(host: str) -> Credentials | None:
    """What docker, podman or skopeo have been told about this registry."""
    for path in _files():
        try:
            config = cast("dict[str, Any]", json.loads(path.read_bytes()))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise Failed(f"{path} cannot be read: {error}") from error
        if found := _in(config, host):
            return found
    return None


def _files() -> Iterator[Path]:
    if named := os.environ.get("REGISTRY_AUTH_FILE", ""):
        yield Path(named)
    yield Path(os.environ.get("DOCKER_CONFIG", "") or Path.home() / ".docker") / "config.json"
    if runtime := os.environ.get("XDG_RUNTIME_DIR", ""):
        yield Path(runtime) / "containers" / "auth.json"


def _in(config: dict[str, Any], host: str) -> Credentials | None:
    helper = _part(config, "credHelpers").get(host) or config.get("credsStore")
    if helper and (found := _ask(str(helper), host)):
        return found
    entry = _part(_part(config, "auths"), host)
    if entry.get("identitytoken"):
        return Credentials("<token>", str(entry["identitytoken"]))
    if not entry.get("auth"):
        return None
    try:
        return given(base64.b64decode(str(entry["auth"]), validate=True).decode())
    except ValueError as error:
        raise Failed(f"the kept credentials for {host} cannot be read") from error


def _part(config: dict[str, Any], name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", config.get(name) or {})


def _ask(helper: str, host: str) -> Credentials | None:
    """Ask a credential program; its `not found` is an answer too."""
    if not helper.replace("-", "").replace("_", "").isalnum():
        raise Failed(f"{helper!r} is no name of a credential program")
    try:
        answer = subprocess.run(  # noqa: S603 - named by the user's own configuration
            [f"docker-credential-{helper}", "get"], input=host.encode(), capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"docker-credential-{helper} does not run: {error}") from error
    if answer.returncode != 0:
        return None
    found = cast("dict[str, str]", json.loads(answer.stdout))
    return Credentials(found.get("Username", ""), found.get("Secret", ""))
