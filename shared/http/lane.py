"""The lane: plain reads are answered where they arrive, without a task, a request object or a router.

It makes every check that the middleware makes, by the same functions, and answers successes only. Whatever is unusual
about a request or does not end well leaves the lane and is answered by the middleware, as if there were no lane.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from aiohttp import hdrs
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11, RawRequestMessage
from multidict import CIMultiDictProxy

from shared.http.errors import Unauthenticated
from shared.http.gate import Verifier, credentials, verified
from shared.http.health import Readiness
from shared.http.limits import Turns, queue_of
from shared.http.middleware import Declared, FaceParts, given_id
from shared.http.origins import Head
from shared.http.routes import Glance, Prepared
from shared.identity.caller import ANONYMOUS, Caller

REMEMBERED: Final = 8192
"""Paths that were read already and are not read again."""

_KNOWN: Final = frozenset(
    b"host user-agent accept accept-encoding accept-language authorization connection cache-control pragma "
    b"x-request-id traceparent tracestate x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port "
    b"x-real-ip docker-distribution-api-version x-meta-source-type x-meta-source-client".split()
)
"""Headers that are heeded here as the middleware does, or that nobody heeds. With any other the lane is left."""


_log = structlog.get_logger("http")


class Place(Protocol):
    """Where an answer goes: the connection on which a request came."""

    @property
    def remote(self) -> str | None:
        """The other end."""
        ...

    def answer(self, content: bytes) -> None:
        """Send the whole answer."""
        ...

    def leave_lane(self) -> None:
        """Let the middleware answer."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What the bytes of a request's head mean; nothing in it depends on when they come, or on what is so then."""

    declared: Declared
    glance: Glance
    headers: CIMultiDictProxy[str]
    token: str
    """The bearer's; empty where none was shown."""

    @property
    def repeats(self) -> bool:
        """Whether the same head may well come again: one with an id of its own does not."""
        return not ("X-Request-Id" in self.headers or "traceparent" in self.headers)


class Lane:
    """Answers requests of the routes that have a glance."""

    def __init__(self, parts: FaceParts, verifier: Verifier, turns: Turns, routes: Sequence[Declared]) -> None:
        """`turns` are the middleware's own."""
        self._parts = parts
        self._verifier = verifier
        self._turns = turns
        self._routes = [declared for declared in routes if declared.route.glance is not None]
        self._plans: dict[tuple[str, str], tuple[Declared, Glance] | None] = {}

    def read(self, message: RawRequestMessage) -> Asked | None:
        """What a head without a body asks for; None when it is not for the lane."""
        plan = self._plan(message.method, message.path)
        if plan is None or not _is_usual(message):
            return None
        try:
            scheme, token = credentials(Head(message.headers, ""))
        except Unauthenticated:
            return None
        return Asked(*plan, message.headers, token) if scheme == "bearer" or not scheme else None

    def take(self, asked: Asked, place: Place, ready: Readiness) -> bool:
        """Answer, now or soon; False when the middleware has to."""
        if not ready.heard_all():
            return False
        caller = self._caller(asked.token)
        if caller is None or not self._lets_in(caller, asked) or self._is_caught(caller, asked, place):
            return False
        who = caller.member
        if caller.anonymous:
            who = queue_of(caller, self._parts.origins(Head(asked.headers, place.remote)))
        call = _LaneCall(self._parts, self._turns, asked, place, who)
        return call.look() if self._turns.take_now(who) else self._turns.take_later(who, call.turn_came)

    def _plan(self, verb: str, path: str) -> tuple[Declared, Glance] | None:
        try:
            return self._plans[verb, path]
        except KeyError:
            if len(self._plans) >= REMEMBERED:
                self._plans.clear()
            found = self._plans[verb, path] = self._planned(verb, path)
            return found

    def _planned(self, verb: str, path: str) -> tuple[Declared, Glance] | None:
        for declared in self._routes:
            glance = declared.route.glance(path) if declared.route.glance and declared.route.verb == verb else None
            if glance is not None:
                return declared, glance
        return None

    def _caller(self, token: str) -> Caller | None:
        """Who calls; None for a token that the middleware will refuse."""
        if not token:
            return ANONYMOUS
        try:
            return verified(self._verifier, token)
        except Unauthenticated:
            return None

    def _lets_in(self, caller: Caller, asked: Asked) -> bool:
        """Whether the call may be made, and leaves no entry in the audit log."""
        route, glance, counter = asked.declared.route, asked.glance, self._parts.counter
        return (
            counter.ruling(caller, route.permission, glance.resource).allowed
            and glance.reaches(caller)
            and not counter.records(route, glance.resource, caller)
        )

    def _is_caught(self, caller: Caller, asked: Asked, place: Place) -> bool:
        """Whether a perimeter is against it, if only to try: that is noted by the middleware."""
        route, resource, counter = asked.declared.route, asked.glance.resource, self._parts.counter
        if not counter.directory.fenced(resource):
            return False
        ip = self._parts.origins(Head(asked.headers, place.remote))
        return bool(counter.caught(caller, ip, route.method, route.permission, resource))


class _LaneCall:
    """One request on its way through the lane, and its turn."""

    __slots__ = ("_asked", "_began", "_parts", "_place", "_turns", "_who")

    def __init__(self, parts: FaceParts, turns: Turns, asked: Asked, place: Place, who: str) -> None:
        self._parts = parts
        self._turns = turns
        self._asked = asked
        self._place = place
        self._who = who
        self._began = parts.counter.clock.monotonic()

    def turn_came(self, came: bool) -> None:  # noqa: FBT001 - what the queue tells
        """The wait is over."""
        if not came or not self.look():
            self._place.leave_lane()

    def look(self) -> bool:
        """Look for the answer, with a turn held; it is given back when this ends, or at once for False."""
        self._parts.metrics.call_began()
        try:
            if self._asked.glance.look(self._found):
                return True
        except Exception as error:  # noqa: BLE001 - the middleware will meet it again, and knows how to answer
            _log.error("lane failed", method=self._asked.declared.route.method, exc_info=error)
        self._leave()
        return False

    def _leave(self) -> None:
        self._parts.metrics.call_left()
        self._turns.pass_on(self._who)

    def _found(self, prepared: Prepared | None) -> None:
        if prepared is None:
            self._leave()
            self._place.leave_lane()
            return
        if prepared.handed_out is not None:
            prepared.handed_out()
        self._place.answer(self._answer(prepared))
        self._turns.pass_on(self._who)
        self._count()

    def _answer(self, prepared: Prepared) -> bytes:
        body = prepared.body
        name = given_id(self._asked.headers) or self._parts.ids.new()
        last = (
            f"X-Request-Id: {name}\r\nContent-Length: {len(body)}\r\n"
            f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
        )
        parts = (b"HTTP/1.1 200 OK\r\n", prepared.head, last.encode())
        return b"".join(parts if self._asked.declared.route.verb == hdrs.METH_HEAD else (*parts, body))

    def _count(self) -> None:
        declared, parts = self._asked.declared, self._parts
        seconds = parts.counter.clock.monotonic() - self._began
        parts.metrics.call_ended(declared.route.verb, declared.name, 200, seconds)
        if parts.traces.kept:
            name = f"{declared.route.verb} {declared.name}"
            attributes = {"http.request.method": declared.route.verb, "http.response.status_code": 200}
            parts.traces.past(name, self._asked.headers.get("traceparent", ""), attributes, seconds)


def _is_usual(message: RawRequestMessage) -> bool:
    """Whether nothing about a request but its path, its caller and its ids can bear on the answer."""
    if message.should_close or message.upgrade or message.chunked or message.version != HttpVersion11:
        return False
    names = [name.lower() for name, _ in message.raw_headers]
    return _KNOWN.issuperset(names) and names.count(b"host") == 1
