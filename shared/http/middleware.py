"""The one middleware: everything that happens around every call of every service, in one place and one order."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import AbstractRoute

from shared.clock import Ids
from shared.http.call import CALL, Call, Counter
from shared.http.errors import ApiError, PayloadTooLarge, Unauthenticated, Unavailable
from shared.http.gate import Authenticate, credentials
from shared.http.health import ALWAYS, READY
from shared.http.limits import Limits, Turns, queue_of
from shared.http.origins import Origins
from shared.http.routes import Audit, Handler, Resource, Route
from shared.http.shortcuts import Shortcuts
from shared.http.translation import ErrorBody, as_api_error
from shared.identity.caller import ANONYMOUS, Caller
from shared.redaction import well_formed
from shared.telemetry.logs import PRESENT
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Context, Traces

Challenge = Callable[[web.Request, ApiError], Mapping[str, str]]
"""Headers of a 401 answer: how the caller may authenticate."""

STRICT: web.AppKey[bool] = web.AppKey("STRICT", bool)
"""In tests: a change without its audit entry is answered as a defect instead of being counted and logged."""

_WAITS: web.RequestKey[bool] = web.RequestKey("WAITS", bool)
"""The client sends its body only when it is told to continue."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_DRAINED = 256 * 1024
"""A refused body up to this size is read and thrown away so that the connection lives on; beyond, it is closed."""

_log = structlog.get_logger("http")


class Unrecorded(AssertionError):
    """A handler changed something and put no audit entry into the step."""


@dataclass(frozen=True)
class Declared:
    """A route as it is served."""

    route: Route
    resource: Resource | None
    name: str
    """The path's template, for metrics and traces."""


@dataclass(frozen=True)
class FaceParts:
    """What a face needs of its process."""

    service: str
    authenticate: Authenticate
    counter: Counter
    ids: Ids
    limits: Limits
    error_body: ErrorBody
    challenge: Challenge
    metrics: Metrics
    traces: Traces
    origins: Origins


class Middleware:
    """Everything around a handler, in the order in which it is told below."""

    def __init__(self, parts: FaceParts) -> None:
        self._parts = parts
        self.turns = Turns(parts.limits, parts.metrics.turn_ended)
        self._streams = Turns(parts.limits.for_streams(), parts.metrics.turn_ended)
        parts.metrics.calls_wait(lambda: self.turns.waiting() + self._streams.waiting())
        self._declared: dict[AbstractRoute, Declared] = {}
        unknown = Route("*", "", _nothing, "", open_because="nothing is served there", audit=Audit.NONE)
        self._unknown = Declared(unknown, None, "none")

    def declare(self, app: web.Application, route: Route, resource: Resource | None, shortcuts: Shortcuts) -> Declared:
        """Serve a route."""
        added = app.router.add_route(route.verb, route.path, route.handler, expect_handler=_expect_later)
        declared = Declared(route, resource, added.resource.canonical if added.resource else route.path)
        self._declared[added] = declared
        if route.shape is not None:
            shortcuts.add(route.verb, route.shape, added)
        return declared

    async def around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer one call."""
        found = request.match_info.route
        declared = self._declared.get(found)
        if declared is None and getattr(found, "status", None) is None:
            return await handler(request)  # health: open, uncounted, and answered also when nothing else works
        return await self._measured(request, handler, declared or self._unknown)

    async def _measured(self, request: web.Request, handler: Handler, declared: Declared) -> web.StreamResponse:
        parts = self._parts
        clock = parts.counter.clock
        began = clock.monotonic()
        parts.metrics.call_began()
        status = 499  # what is counted when the call is cancelled
        name = f"{request.method} {declared.name}"
        try:
            with parts.traces.span(
                name, request.headers.get("traceparent", ""), {"http.request.method": request.method}
            ) as place:
                call = self._call(request, declared, place)
                response = await self._answered(request, handler, call, declared.resource)
                status = response.status
                parts.traces.note_status(status)
                return response
        finally:
            seconds = clock.monotonic() - began
            parts.metrics.call_ended(request.method, declared.name, status, seconds)
            if status >= 400:
                _log.debug("call refused", verb=request.method, route=declared.name, status=status)

    def _call(self, request: web.Request, declared: Declared, place: Context) -> Call:
        fresh = self._parts.ids.new()
        call = Call(
            id=fresh,
            request_id=given_id(request.headers) or fresh,
            caller=ANONYMOUS,
            traceparent=str(place),
            ip=self._parts.origins(request),
            user_agent=request.headers.get(hdrs.USER_AGENT, ""),
            route=declared.route,
            resource="",
            counter=self._parts.counter,
        )
        request[CALL] = call
        PRESENT.set((call.request_id, place.trace))
        return call

    async def _answered(
        self, request: web.Request, handler: Handler, call: Call, resource: Resource | None
    ) -> web.StreamResponse:
        try:
            if resource is not None:
                call.resource = well_formed(resource(request))
            response = await self._served(request, handler, call)
        except Exception as error:
            if request.writer.output_size:
                _log.error("answer broke off", method=call.route.method, exc_info=error)
                raise ConnectionError("the answer has begun: nothing but its end can be sent") from error
            response = self._refused(request, call, error)
        if not response.prepared:
            response.headers["X-Request-Id"] = call.request_id
        return response

    async def _served(self, request: web.Request, handler: Handler, call: Call) -> web.StreamResponse:
        if not request.app.get(READY, ALWAYS).heard_all():
            raise Unavailable("This replica has just started and does not know enough yet.", retry_after=1)
        _refuse_a_large_body(request, call.route, self._parts.limits)
        call.caller = await self._authenticated(request, call.route)
        if call.route.permission:
            await call.require(call.route.permission, call.resource)
        await _say_continue(request)
        turns = self._streams if call.route.seconds == 0 else self.turns
        who = queue_of(call.caller, call.ip)
        if not turns.take_now(who):
            await turns.take(who)
        seconds = self._parts.limits.seconds if call.route.seconds is None else call.route.seconds
        try:
            response = await (_in_time(seconds, request, handler) if seconds else handler(request))
        finally:
            turns.pass_on(who)
        self._account(request, call, response)
        return response

    async def _authenticated(self, request: web.Request, route: Route) -> Caller:
        """Who calls. An open route may take other credentials than tokens: it looks at them itself."""
        if not route.permission and credentials(request)[0] != "bearer":
            return ANONYMOUS
        return await self._parts.authenticate(request)

    def _account(self, request: web.Request, call: Call, response: web.StreamResponse) -> None:
        """Note a read; complain about a change that nobody put on record."""
        if response.status >= 400:
            return
        call.note_read()
        if call.route.audit in (Audit.ADMIN_WRITE, Audit.DATA_WRITE) and not call.audited:
            self._parts.metrics.unaudited.labels(self._parts.service, call.route.path).inc()
            _log.error("change without audit entry", method=call.route.method)
            if request.app.get(STRICT, False):
                raise Unrecorded(f"{call.route.verb} {call.route.path} changed something without an audit entry")

    def _refused(self, request: web.Request, call: Call, error: Exception) -> web.Response:
        if isinstance(error, web.HTTPException) and error.status < 400:
            return web.Response(status=error.status, headers=error.headers)
        found = as_api_error(error)
        response = self._parts.error_body(request, error)
        if response.status >= 500 and found.rpc == "INTERNAL":
            _log.error("call failed", method=call.route.method, route=call.route.path, exc_info=error)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
        if request.method == hdrs.METH_CONNECT:
            response.force_close()  # what follows is meant for somebody else
        if response.status == 401:
            challenge_for = found if isinstance(found, Unauthenticated) else Unauthenticated("")
            response.headers.update(self._parts.challenge(request, challenge_for))
        _close_after_a_refused_body(request, response)
        return response


async def _in_time(seconds: float, request: web.Request, handler: Handler) -> web.StreamResponse:
    async with asyncio.timeout(seconds):
        return await handler(request)


def _refuse_a_large_body(request: web.Request, route: Route, limits: Limits) -> None:
    limit = limits.body if route.body is None else route.body
    if limit and (request.content_length or 0) > limit:
        raise PayloadTooLarge(f"The body has {request.content_length} bytes; at most {limit} are taken.")


def _close_after_a_refused_body(request: web.Request, response: web.Response) -> None:
    """A client that still sends, or that waits for leave to send, cannot go on with this connection."""
    waits = request.get(_WAITS, False)
    unread = request.can_read_body and not request.content.is_eof()
    if waits or (unread and (request.content_length is None or request.content_length > _DRAINED)):
        response.force_close()


async def _expect_later(request: web.Request) -> None:
    """`Expect: 100-continue` is answered once the caller is let in, so that refused bodies are never sent."""
    if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
        raise web.HTTPExpectationFailed
    request[_WAITS] = True


async def _say_continue(request: web.Request) -> None:
    if request.get(_WAITS, False):
        request[_WAITS] = False
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def given_id(headers: Mapping[str, str]) -> str:
    """What the caller calls its request, where that is a sane name."""
    given = headers.get("X-Request-Id", "")
    return given if given and _REQUEST_ID.fullmatch(given) else ""


async def _nothing(request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound(reason=request.method)
