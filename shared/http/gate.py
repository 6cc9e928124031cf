"""What the face asks of others to let a call in: who calls, and whether they may."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from aiohttp import hdrs, web

from shared.http.errors import Unauthenticated
from shared.http.origins import Arrived
from shared.identity.caller import ANONYMOUS, Caller
from shared.identity.perimeters import Called, Caught

MAX_TOKEN = 8 * 1024

Authenticate = Callable[[web.Request], Awaitable[Caller]]
"""Finds out who calls; raises Unauthenticated for credentials that do not hold, returns ANONYMOUS for none."""


class Verifier(Protocol):
    """Checks access tokens."""

    def verify(self, token: str) -> Caller:
        """Whose token it is. Raises Unauthenticated, or a ValueError with the reason."""
        ...


class Ruling(Protocol):
    """A decision with its reason."""

    @property
    def allowed(self) -> bool:
        """Whether the caller may."""
        ...

    @property
    def reason(self) -> str:
        """`granted`, `no grant`, or one of the two that are not the caller's lack of a role, below."""
        ...


STALE = "stale"
OUT_OF_SCOPE = "outside the token's scope"


class Authoriser(Protocol):
    """Decides from what this replica knows of roles and policies."""

    def decide(self, caller: Caller, permission: str, resource: str) -> Ruling:
        """Whether the caller has the permission on the resource or on what it lies in."""
        ...

    def caught(self, caller: Caller, resource: str, call: Called) -> Sequence[Caught]:
        """The perimeters that do not let in a call which the policies allow; those that are only tried come first."""
        ...

    def fenced(self, resource: str) -> bool:
        """Whether there is a perimeter around the resource, if only to try."""
        ...

    def audits(self, service: str, log_type: str, resource: str, member: str) -> bool:
        """Whether the audit configs of the resource want an entry for this type of call by this member."""
        ...


def bearer(verifier: Verifier) -> Authenticate:
    """Authentication by `Authorization: Bearer`, which is how every face but the token endpoint is called."""

    async def authenticate(request: web.Request) -> Caller:
        scheme, token = credentials(request)
        if not scheme:
            return ANONYMOUS
        if scheme != "bearer":
            raise Unauthenticated("Only bearer tokens are accepted here.")
        return verified(verifier, token)

    return authenticate


def credentials(request: Arrived) -> tuple[str, str]:
    """Scheme (in lower case) and credentials of the Authorization header; empty where there is none."""
    given = request.headers.getall(hdrs.AUTHORIZATION, [])
    if not given:
        return "", ""
    if len(given) > 1:
        raise Unauthenticated("More than one Authorization header.")
    scheme, _, rest = given[0].strip().partition(" ")
    return scheme.lower(), rest.strip()


def verified(verifier: Verifier, token: str) -> Caller:
    """The caller behind a token; every way in which it can fail is one answer, without the token in it."""
    if not token or len(token) > MAX_TOKEN:
        raise Unauthenticated("The access token is not of the right form.")
    try:
        return verifier.verify(token)
    except ValueError as error:
        raise Unauthenticated("The access token is invalid, expired or revoked.") from error
