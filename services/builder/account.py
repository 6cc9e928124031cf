"""The build account: the service account whose rights a build's pulls and pushes have.

The worker is an ordinary client here, as a user's own machine would be: it signs an assertion with its key file and
gets a short access token for it (RFC 7523).
"""

import base64
import os
import stat
from pathlib import Path

import aiohttp
import orjson
from yarl import URL

from services.builder.errors import NoRuntime
from shared.clock import Clock
from shared.identity.key_file import GRANT, SECONDS, KeyFile

_SPARE = 300
"""Seconds before its end at which a token is replaced, so that no push begins with one about to expire."""


def read_key(path: Path) -> KeyFile:
    """The account's key; raises NoRuntime, in words, when its file is missing, damaged or open to others."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise NoRuntime(f"the build account's key file is open to others (mode {mode:o}, wanted 600)")
        return KeyFile.parse(path.read_text())
    except (OSError, ValueError) as broken:
        raise NoRuntime(f"the build account's key file cannot be read: {type(broken).__name__}") from None


class BuildAccount:
    """Keeps one access token fresh."""

    def __init__(self, key: KeyFile, clock: Clock, session: aiohttp.ClientSession) -> None:
        """`session` is shared with the registry client."""
        self.email = key.email
        self._key = key
        self._clock = clock
        self._session = session
        self._token = ""
        self._until = 0.0

    @property
    def origin(self) -> URL:
        """The server that its tokens come from."""
        return URL(self._key.token_uri).origin()

    async def token(self) -> str:
        """An access token with at least five minutes to live; raises aiohttp.ClientError."""
        if self._clock.now() < self._until - _SPARE:
            return self._token
        form = {"grant_type": GRANT, "assertion": self._key.assertion(self._clock.now())}
        async with self._session.post(self._key.token_uri, data=form, raise_for_status=True) as answer:
            said = orjson.loads(await answer.read())
        self._token = str(said["access_token"])
        self._until = self._clock.now() + float(said.get("expires_in", SECONDS))
        return self._token


def write_auth_file(path: Path, home: str, token: str) -> None:
    """Write the file that container clients read credentials from, for what lies under `home`; mode 0600."""
    secret = base64.b64encode(f"oauth2accesstoken:{token}".encode()).decode()
    content = orjson.dumps({"auths": {home: {"auth": secret}}})
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
