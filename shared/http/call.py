"""One call as its handler sees it: who asks, from where, why, and what the audit log will say about it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aiohttp import web

from shared.clock import Clock
from shared.events import Cause, caused_id
from shared.events.audit import AuditAccess, AuditActivity, AuditDenied
from shared.http.entries import Asked, Origin, log_entry, service_name, violation
from shared.http.errors import InsufficientScope, PermissionDenied, Unauthenticated, Unavailable
from shared.http.gate import OUT_OF_SCOPE, STALE, Authoriser, Ruling
from shared.http.routes import Audit, Route
from shared.identity.caller import Caller
from shared.identity.perimeters import Called, Caught
from shared.journal import Journal
from shared.names import PROJECT
from shared.redaction import MAX_TEXT


@dataclass(frozen=True)
class Counter:
    """What calls of one face share: whom to ask and where to note."""

    service: str
    directory: Authoriser
    journal: Journal | None
    clock: Clock

    def ruling(self, caller: Caller, permission: str, resource: str) -> Ruling:
        """Whether a call may do something. The only place where that is decided, for the lane as for the handlers."""
        return self.directory.decide(caller, permission, resource)

    def caught(self, caller: Caller, ip: str, route_method: str, permission: str, resource: str) -> Sequence[Caught]:
        """The perimeters that would not let in a call which the policies allow, those that are only tried first."""
        if not self.directory.fenced(resource):
            return ()
        called = Called(ip, service_name(self.service, permission), permission, route_method)
        return self.directory.caught(caller, resource, called)

    def records(self, route: Route, resource: str, caller: Caller) -> bool:
        """Whether a read by this caller is to be noted in the audit log."""
        if self.journal is None or route.audit not in _READS:
            return False
        api = service_name(self.service, route.permission)
        return self.directory.audits(api, route.audit.value, resource, caller.member)


@dataclass
class Call:
    """One request's context."""

    id: str
    """Ours alone, 32 hexadecimal digits: steps and events are named by it, so a caller must not choose it."""
    request_id: str
    """What logs and the answer say: the caller's X-Request-Id where it sent a sane one, else `id`."""
    caller: Caller
    traceparent: str
    ip: str
    user_agent: str
    route: Route
    resource: str
    """What the route's permission was asked on."""
    counter: Counter
    audited: bool = False
    """Whether an entry about this call is made already, or none is due."""
    _entries: int = field(default=0, init=False)

    @property
    def cause(self) -> Cause:
        """This call as the cause of what is done about it."""
        return Cause(id=self.id, actor=self.caller.member, traceparent=self.traceparent)

    def activity(  # noqa: PLR0913 - an audit entry has these parts
        self,
        *,
        project: str,
        method: str = "",
        resource: str = "",
        permission: str = "",
        request: dict[str, Any] | None = None,
        response: dict[str, Any] | None = None,
        location: str = "",
    ) -> AuditActivity:
        """The entry about this change; it goes into the step that makes the change. Marks the call as audited."""
        asked = Asked(
            method=method or self.route.method,
            resource=resource or self.resource,
            permission=permission or self.route.permission,
            kind=self.route.audit if self.route.audit in _WRITES else Audit.ADMIN_WRITE,
            request=request,
            response=response,
            location=location,
        )
        self.audited = True
        entry = self._entry("activity", project, asked)
        return AuditActivity(project=project, location=location, producer=self.counter.service, entry=entry)

    def changed_nothing(self) -> None:
        """Said by a handler of a mutating route that may have found nothing to change, so that no entry is missed.

        Where it did change something, its entry is on record and stays so.
        """
        self.audited = True

    async def may(self, permission: str, resource: str) -> bool:
        """Whether the caller has one more permission, and is let in where that is used."""
        if not self.counter.ruling(self.caller, permission, resource).allowed:
            return False
        return not self.fenced_off(permission, resource)

    def fenced_off(self, permission: str, resource: str) -> bool:
        """Whether a perimeter keeps this call out, whatever the policies say."""
        return any(not caught.dry_run for caught in self._caught(permission, resource))

    async def require(self, permission: str, resource: str) -> None:
        """Demand one more permission; raises PermissionDenied, noted, or Unauthenticated for anonymous callers."""
        ruling = self.counter.ruling(self.caller, permission, resource)
        if ruling.allowed:
            self._stop_at_fences(permission, resource)
            return
        if ruling.reason == STALE:
            raise Unavailable("What is known here of policies is too old to allow changes.", retry_after=10)
        if ruling.reason == OUT_OF_SCOPE:
            raise InsufficientScope(
                f"The access token does not cover '{permission}' on '{resource}': "
                "the account lacks it, or the token was asked for less."
            )
        if self.caller.anonymous:
            raise Unauthenticated("This needs an access token.")
        message = f"Permission '{permission}' denied on resource '{resource}' (or it may not exist)."
        error = PermissionDenied(message, _error_info(permission, resource))
        self._note_denial(permission, resource, error)
        raise error

    def refuse(self, error: PermissionDenied) -> NoReturn:
        """Refuse the call for a reason that is no matter of roles: noted like every denial, with the error's words."""
        self._note_denial(self.route.permission, self.resource, error)
        raise error

    def _caught(self, permission: str, resource: str) -> Sequence[Caught]:
        return self.counter.caught(self.caller, self.ip, self.route.method, permission, resource)

    def _stop_at_fences(self, permission: str, resource: str) -> None:
        """Note what a perimeter would not let in; raise PermissionDenied where it is enforced."""
        for caught in self._caught(permission, resource):
            error = _prohibited(self.id, service_name(self.counter.service, permission))
            self._note_denial(permission, resource, error, violation(caught, self.id))
            if caught.dry_run:
                continue
            if self.caller.anonymous:
                raise Unauthenticated("This needs an access token.")
            raise error

    def note_read(self) -> None:
        """Note a read where the audit config of the resource wants to know of it."""
        counter, route = self.counter, self.route
        if counter.journal is None or self.audited or not counter.records(route, self.resource, self.caller):
            return
        asked = Asked(method=route.method, resource=self.resource, permission=route.permission, kind=route.audit)
        project = project_of(self.resource)
        entry = self._entry("data_access", project, asked)
        counter.journal.note([AuditAccess(project=project, producer=counter.service, entry=entry)], self.cause)

    def _note_denial(
        self, permission: str, resource: str, error: PermissionDenied, metadata: dict[str, Any] | None = None
    ) -> None:
        if self.counter.journal is None:
            return
        asked = Asked(
            method=self.route.method,
            resource=resource,
            permission=permission,
            kind=self.route.audit if self.route.audit is not Audit.NONE else Audit.ADMIN_READ,
            granted=False,
            status={"code": error.code, "message": str(error)[:MAX_TEXT]},
            metadata=metadata,
        )
        project = project_of(resource)
        event = AuditDenied(project=project, producer=self.counter.service, entry=self._entry("policy", project, asked))
        self.counter.journal.note([event], self.cause)

    def _entry(self, log: str, project: str, asked: Asked) -> dict[str, Any]:
        self._entries += 1
        origin = Origin(self.counter.service, self.caller, self.ip, self.user_agent, self.traceparent)
        insert_id = caused_id(self.id, log, self._entries)
        return log_entry(log, project, origin, asked, now=self.counter.clock.now(), insert_id=insert_id)


CALL: web.RequestKey[Call] = web.RequestKey("CALL", Call)
_WRITES = (Audit.ADMIN_WRITE, Audit.DATA_WRITE)
_READS = (Audit.ADMIN_READ, Audit.DATA_READ)


def call_of(request: web.Request) -> Call:
    """The context that the middleware made for this request."""
    return request[CALL]


def project_of(resource: str) -> str:
    """The project that a resource lies in; empty where it lies in none, or the path names one that cannot be."""
    kind, _, rest = resource.partition("/")
    project = rest.partition("/")[0]
    return project if kind == "projects" and PROJECT.fullmatch(project) else ""


def _prohibited(unique_id: str, api: str) -> PermissionDenied:
    """As Google tells it: which perimeter it was is for the audit log alone."""
    told = f"Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: {unique_id}"
    failure: dict[str, Any] = {
        "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
        "violations": [{"type": "VPC_SERVICE_CONTROLS", "description": unique_id}],
    }
    info: dict[str, Any] = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SECURITY_POLICY_VIOLATED",
        "domain": "googleapis.com",
        "metadata": {"uid": unique_id, "service": api},
    }
    return PermissionDenied(told, failure, info)


def _error_info(permission: str, resource: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {"permission": permission, "resource": resource},
    }
