"""`docker-credential-entrepot`: answers container clients with a token that lives an hour, never with the key itself.

The protocol is docker's for credential programs: one word on the command line, the rest on standard input and output.
It knows what `entrepot configure-docker` and `docker login` told it, and looks at no folder it happens to be run in.
"""

import base64
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, cast

from cli import keyfile
from cli.api import access_token
from cli.docker import kept
from cli.exits import Failed
from cli.transport.credentials import Credentials
from shared.identity.key_file import KeyFile

NOT_FOUND = "credentials not found in native keychain"
"""Clients know the missing login by these words."""
USER = "oauth2accesstoken"
_LARGEST = 64 * 1024


def main(arguments: list[str] | None = None) -> None:
    """Do what the one argument says; what goes wrong is said on standard output, as clients expect it."""
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1 or words[0] not in _ACTS:
        _leave(f"usage: docker-credential-entrepot {'|'.join(_ACTS)}")
    try:
        said = _ACTS[words[0]]("" if words[0] in ("list", "version") else sys.stdin.read(_LARGEST + 1))
    except Failed as failed:
        _leave(str(failed))
    if said:
        sys.stdout.write(f"{said}\n")


def get(given: str) -> str:
    """User and password for the registry that is named. Raises Failed where none are known."""
    login = kept.all_kept().get(_host(given))
    if login is None:
        raise Failed(NOT_FOUND)
    if key := _key(login):
        login = Credentials(USER, access_token(key))
    return json.dumps({"ServerURL": given.strip(), "Username": login.user, "Secret": login.password})


def store(given: str) -> str:
    """Keep a login. Raises Failed where it is none, or where a key file is none."""
    try:
        said = cast("dict[str, Any]", json.loads(given))
        host, login = _host(str(said["ServerURL"])), Credentials(str(said["Username"]), str(said["Secret"]))
    except (ValueError, KeyError, TypeError):
        raise Failed("a login is an object of ServerURL, Username and Secret") from None
    _key(login)
    kept.keep(host, login)
    return ""


def erase(given: str) -> str:
    """Forget a login. Raises Failed where there is none."""
    if not kept.forget(_host(given)):
        raise Failed(NOT_FOUND)
    return ""


def listed(_: str) -> str:
    """Registries and the users known for them."""
    return json.dumps({host: login.user for host, login in kept.all_kept().items()})


def _key(login: Credentials) -> KeyFile | None:
    """The key that a login is, in one of three forms; None for any other login. Raises Failed where it is broken."""
    if login.user == kept.KEY_FILE:
        return keyfile.read(Path(login.password))
    if login.user == "_json_key":
        return keyfile.parse(login.password, "the password")
    if login.user != "_json_key_base64":
        return None
    try:
        content = base64.b64decode("".join(login.password.split()), validate=True).decode()
    except ValueError:
        raise Failed("the password is not base64") from None
    return keyfile.parse(content, "the password")


def _host(given: str) -> str:
    """`HOST[:PORT]` of what clients call a server: with or without a scheme and a path."""
    name = given.strip()
    host = (name.partition("://")[2] or name).partition("/")[0]
    if not host or len(name) > _LARGEST or not host.isprintable() or " " in host:
        raise Failed("this is no registry's name")
    return host


def _version(_: str) -> str:
    return f"docker-credential-entrepot {version('entrepot')}"


def _leave(sentence: str) -> NoReturn:
    sys.stdout.write(f"{sentence}\n")
    sys.exit(1)


_ACTS = {"get": get, "store": store, "erase": erase, "list": listed, "version": _version}
