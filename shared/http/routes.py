"""What a route declares: its permission, the resource it is about, and how it is audited."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Resource = Callable[[web.Request], str]


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
