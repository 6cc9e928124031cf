"""What a route declares: its permission, the resource it is about, and how it is audited."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from re import Pattern
from typing import NamedTuple, Protocol

from aiohttp import web

from shared.identity.caller import Caller

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Resource = Callable[[web.Request], str]


class Prepared(NamedTuple):
    """A success answer whose every byte is at hand. A tuple, as one is made for every request."""

    head: bytes
    """Header lines, each with its end, but for those that every answer has."""
    body: bytes
    handed_out: Callable[[], None] | None = None
    """Is called when the answer is given."""


class Glance(Protocol):
    """A request that may be answered without a task; everything but a plain success is left to the handler."""

    @property
    def resource(self) -> str:
        """What the route's permission is asked on."""
        ...

    def reaches(self, caller: Caller) -> bool:
        """Whether the caller's token, if it is a limited one, reaches as far as this."""
        ...

    def look(self, told: Callable[[Prepared | None], None]) -> bool:
        """Find the answer: `told` hears it once, here or later; None: the handler must find it.

        False when this way is closed at the moment; then `told` is never called.
        """
        ...


class Audit(Enum):
    """Google's permission types; they decide into which audit log a call goes."""

    ADMIN_READ = "ADMIN_READ"
    ADMIN_WRITE = "ADMIN_WRITE"
    DATA_READ = "DATA_READ"
    DATA_WRITE = "DATA_WRITE"
    NONE = "NONE"
    """Not audited by the middleware: health, public keys, token requests (these are audited by their handler)."""


@dataclass(frozen=True)
class Route:
    """One verb on one path. Nothing is served that is not declared like this."""

    verb: str
    path: str
    """In aiohttp's form, such as `/v1/projects/{project}/locations/{location}/repositories`."""
    handler: Handler
    permission: str
    """Such as `artifactregistry.repositories.get`. Empty: open to everybody, and said why in `open_because`."""
    resource: Resource | None = None
    """The resource that the permission is asked on; None: what the path names, `projects/P/...`."""
    method: str = ""
    """Google's method name for the audit entry, such as `google.iam.admin.v1.GetServiceAccount`."""
    audit: Audit = Audit.ADMIN_READ
    open_because: str = ""
    body: int | None = None
    """Bytes that the body may have; None: what the face's limits say, 0: no limit, for bodies that are streamed."""
    seconds: float | None = None
    """How long a call may take; None: what the face's limits say, 0: no limit, for bodies that are streamed."""
    glance: Callable[[str], Glance | None] | None = None
    """Reads a raw path, without a query, for the lane (`shared.http.lane`); None: every request takes the handler."""
    shape: Pattern[str] | None = None
    """Raw paths that are surely this route's, where each of them comes once or twice: what is between braces in `path`
    are its groups, in letters that nobody writes in two ways. None: every path is looked up until it is known."""
