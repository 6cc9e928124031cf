"""Shortcuts through aiohttp: a path that was routed before is not routed again, an answer at hand leaves in one piece.

What is around a handler is untouched: the one middleware is called all the same. Whatever is unusual takes aiohttp's
own way, which says the same: the suites run over both.
"""

from collections.abc import Awaitable, Callable, Mapping
from re import Pattern
from typing import Any, Final, cast

from aiohttp import hdrs, http_writer, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11
from aiohttp.web_urldispatcher import AbstractRoute, UrlMappingMatchInfo

from shared.http.routes import Handler

REMEMBERED: Final = 4096
"""Paths whose route is remembered; when there are more, all are forgotten."""
LONGEST_PATH: Final = 512
LARGEST_ANSWER: Final = 64 * 1024
"""Bytes of a body that is sent together with its head."""

PRIVATE_ANSWER: Final = (
    "_body",
    "_chunked",
    "_compression",
    "_cookies",
    "_eof_sent",
    "_headers",
    "_keep_alive",
    "_payload_writer",
    "_reason",
    "_status",
)
"""What is used of aiohttp's answers beside what they offer."""

Around = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

_BODILESS: Final = {204, 304}
_BODILESS_VERBS: Final = {hdrs.METH_HEAD, hdrs.METH_CONNECT}
_serialized: Callable[[str, Any], bytes] = cast("Any", http_writer)._serialize_headers  # noqa: SLF001


class Shortcuts:
    """The way from a request to the middleware."""

    def __init__(self, app: web.Application, around: Around) -> None:
        """`around` is the application's only middleware."""
        self._app = app
        self._all_the_way: Handler = cast("Any", app)._handle  # noqa: SLF001 - what aiohttp's own server calls
        self._around = around
        self._routed: dict[tuple[str, str], tuple[AbstractRoute, Mapping[str, str]]] = {}
        self._shapes: dict[str, list[tuple[Pattern[str], AbstractRoute]]] = {}

    def add(self, verb: str, shape: Pattern[str], route: AbstractRoute) -> None:
        """Paths of this shape are surely of that route: they are not worth being remembered, as each comes once."""
        self._shapes.setdefault(verb, []).append((shape, route))

    async def handle(self, request: Any) -> web.StreamResponse:
        """Answer a request."""
        path: str = request._message.path.partition("?")[0]  # noqa: SLF001 - as it came, before anything is made of it
        found = self._routed.get((request.method, path)) or self._shaped(request.method, path)
        if found is None or hdrs.EXPECT in request.headers:
            answer = await self._all_the_way(request)
            self._remember(request, path)
            return answer
        route, match = found
        told = UrlMappingMatchInfo(dict(match), route)
        told.add_app(self._app)
        told.freeze()
        request._match_info = told  # noqa: SLF001 - as aiohttp does
        return await self._around(request, route.handler)

    def _shaped(self, verb: str, path: str) -> tuple[AbstractRoute, Mapping[str, str]] | None:
        for shape, route in self._shapes.get(verb, ()):
            found = shape.fullmatch(path)
            if found is not None:
                return route, found.groupdict()
        return None

    def _remember(self, request: web.Request, path: str) -> None:
        told = request.match_info
        if type(told) is not UrlMappingMatchInfo or len(path) > LONGEST_PATH:
            return  # there is no such route
        if len(self._routed) >= REMEMBERED:
            self._routed.clear()
        self._routed[request.method, path] = told.route, dict(told)


SHORTCUTS: web.AppKey[Shortcuts] = web.AppKey("SHORTCUTS", Shortcuts)


def at_hand(request: web.BaseRequest, answer: Any) -> bytes | None:
    """All bytes of an answer, where nothing about it is unusual; then it counts as sent. None: aiohttp has to send it.

    The head is what aiohttp would write, letter by letter.
    """
    if not (isinstance(answer, web.Response) and _is_usual(request, answer)):
        return None
    sent: Any = answer
    body, headers = sent._body, sent._headers  # noqa: SLF001 - here and below: each property costs a call
    headers[hdrs.CONTENT_LENGTH] = str(len(body)) if body else "0"
    if body and hdrs.CONTENT_TYPE not in headers:
        headers[hdrs.CONTENT_TYPE] = "application/octet-stream"
    if hdrs.DATE not in headers:
        headers[hdrs.DATE] = rfc822_formatted_time()
    if hdrs.SERVER not in headers:
        headers[hdrs.SERVER] = SERVER_SOFTWARE
    head = _serialized(f"HTTP/1.1 {sent._status} {sent._reason}", headers)  # noqa: SLF001
    sent._keep_alive, sent._eof_sent = True, True  # noqa: SLF001 - as when it is sent
    return head + body if body else head


def _is_usual(request: web.BaseRequest, answer: Any) -> bool:
    body = answer._body  # noqa: SLF001 - here and below: what aiohttp asks when it sends an answer
    return (
        request.version == HttpVersion11
        and request.keep_alive
        and request.method not in _BODILESS_VERBS
        and answer._status >= 200  # noqa: SLF001
        and answer._status not in _BODILESS  # noqa: SLF001
        and answer._keep_alive is None  # noqa: SLF001
        and not (answer._eof_sent or answer._payload_writer)  # noqa: SLF001
        and not (answer._compression or answer._chunked or answer._cookies)  # noqa: SLF001
        and (body is None or (isinstance(body, bytes) and len(body) <= LARGEST_ANSWER))
        and hdrs.CONTENT_LENGTH not in answer._headers  # noqa: SLF001
        and hdrs.CONNECTION not in answer._headers  # noqa: SLF001
    )
