"""`entrepot configure-docker`: container clients fetch short-lived tokens for this suite by themselves from now on."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, cast

import click

from cli import account, keyfile, suite
from cli.docker import kept
from cli.docker.loopback import allow_http, is_loopback
from cli.exits import Failed
from cli.output import say
from cli.transport.credentials import Credentials
from shared import secret_files

PROGRAM = "docker-credential-entrepot"


@click.command("configure-docker")
@click.argument("hosts", nargs=-1, metavar="[HOST[:PORT]]...")
@suite.data_option
@click.option("--key-file", type=click.Path(path_type=Path), default=None, help="Act as this account.")
def configure_docker(hosts: tuple[str, ...], data: str, key_file: Path | None) -> None:
    """Let docker, podman and skopeo ask this program for tokens to the suite's registry, or to those named.

    Writes to the clients' own settings (DOCKER_CONFIG, else ~/.docker): which program to ask for these registries,
    and nothing secret; for registries on loopback also, for podman and skopeo, that plain HTTP will do. The account's
    key file stays where it is.
    """
    found = suite.of(data)
    path = (key_file or account.key_path(found)).absolute()
    key = keyfile.read(path)
    named = hosts or (found.registry_host,)
    configured = _configure(named)
    for host in named:
        kept.keep(host, Credentials(kept.KEY_FILE, str(path)))
        if is_loopback(host):
            allow_http(host)
    say(f"{', '.join(named)}: tokens of {key.email}, by {configured}")
    if not shutil.which(PROGRAM):
        say(f"note: {PROGRAM} must be found: add {Path(sys.executable).parent} to PATH")


def _configure(hosts: tuple[str, ...]) -> Path:
    """Name the program for these registries, and leave all else in the file as it is."""
    path = (Path(os.environ.get("DOCKER_CONFIG", "") or Path.home() / ".docker") / "config.json").resolve()
    try:
        config = cast("dict[str, Any]", json.loads(path.read_bytes())) if path.exists() else {}
        cast("dict[str, str]", config.setdefault("credHelpers", {})).update(dict.fromkeys(hosts, "entrepot"))
        for host in hosts:
            # A password kept there before would stay readable, and some clients would go on using it.
            cast("dict[str, Any]", config.get("auths", {})).pop(host, None)
    except (OSError, ValueError, AttributeError) as error:
        raise Failed(f"{path} cannot be read ({type(error).__name__})") from error
    secret_files.replace(path, json.dumps(config, indent=2).encode())
    return path
