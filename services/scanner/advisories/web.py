"""The addresses of feeds as the world has them: plain HTTP, read as it comes."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import hdrs

from services.scanner.advisories.fetching import Answer, FetchFailed

PIECE = 256 * 1024
MOST_REDIRECTIONS = 5
_TIMES = aiohttp.ClientTimeout(total=None, connect=15, sock_read=60)
"""How long a whole visit takes is bounded by whoever makes it."""


class HttpWeb:
    """One session a visit: visits are rare, and nothing is to be remembered between them."""

    @asynccontextmanager
    async def get(self, address: str, headers: Mapping[str, str]) -> AsyncGenerator[Answer]:
        """Ask an address. Raises FetchFailed, also from the body."""
        asked = {hdrs.USER_AGENT: "entrepot-scanner", hdrs.ACCEPT_ENCODING: "identity", **headers}
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMES, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True) as session,
                session.get(address, headers=asked, max_redirects=MOST_REDIRECTIONS) as response,
            ):
                hops = [*(hop.url for hop in response.history), response.url]
                if hops[0].scheme == "https" and any(hop.scheme != "https" for hop in hops):
                    raise FetchFailed("it leads from https to an address that is not")
                told = {name.lower(): value for name, value in response.headers.items()}
                yield Answer(response.status, told, response.content.iter_chunked(PIECE))
        except (aiohttp.ClientError, OSError) as error:
            raise FetchFailed(f"it cannot be read: {type(error).__name__}") from error
