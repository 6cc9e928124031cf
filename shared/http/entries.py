"""Audit entries in Google's words: a LogEntry with an AuditLog in it, redacted and small enough for the log."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from shared.clock import rfc3339
from shared.http.routes import Audit
from shared.identity.caller import Caller
from shared.identity.perimeters import Caught
from shared.redaction import capped, redacted_text

MAX_NAME: Final = 1024
"""Characters of a resource's name: a path that somebody made up may be longer."""

_SERVICES: Final = {
    "iam": "iam.googleapis.com",
    "resourcemanager": "cloudresourcemanager.googleapis.com",
}
_FACES: Final = {
    "identity": "iam.googleapis.com",
    "registry": "artifactregistry.googleapis.com",
    "builder": "cloudbuild.googleapis.com",
    "scanner": "containeranalysis.googleapis.com",
    "attestor": "binaryauthorization.googleapis.com",
    "cleanup": "artifactregistry.googleapis.com",
    "audit_log": "logging.googleapis.com",
}


@dataclass(frozen=True)
class Asked:
    """What one call asked for and was answered, as far as the audit log wants to know."""

    method: str
    resource: str
    permission: str = ""
    kind: Audit = Audit.ADMIN_WRITE
    granted: bool = True
    request: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    location: str = ""
    status: dict[str, Any] = field(default_factory=dict[str, Any])
    metadata: dict[str, Any] | None = None
    """What the API adds about the matter, with `@type`."""


@dataclass(frozen=True)
class Origin:
    """Who called, from where, and in which trace."""

    service: str
    caller: Caller
    ip: str
    user_agent: str
    traceparent: str


@lru_cache(maxsize=1024)
def service_name(service: str, permission: str = "") -> str:
    """Google's name of the API that a permission belongs to, as filters and audit configs write it."""
    prefix = permission.partition(".")[0]
    if not prefix:
        return _FACES.get(service, f"{service}.entrepot")
    return _SERVICES.get(prefix, f"{prefix}.googleapis.com")


def log_entry(  # noqa: PLR0913 - an entry has these parts
    log: str, project: str, origin: Origin, asked: Asked, *, now: float, insert_id: str
) -> dict[str, Any]:
    """One LogEntry; `log` is `activity`, `data_access`, `system_event` or `policy`."""
    service = service_name(origin.service, asked.permission)
    labels = {"service": service, "method": asked.method, "project_id": project}
    entry: dict[str, Any] = {
        "logName": f"projects/{project or '_'}/logs/cloudaudit.googleapis.com%2F{log}",
        "resource": {"type": "audited_resource", "labels": labels},
        "timestamp": rfc3339(now),
        "severity": "NOTICE" if asked.granted and log == "activity" else "INFO" if asked.granted else "ERROR",
        "insertId": insert_id,
        "protoPayload": _payload(service, origin, asked),
    }
    _, trace, span, *_ = (*origin.traceparent.split("-"), "", "", "")
    if trace:
        entry |= {"trace": f"projects/{project or '_'}/traces/{trace}", "spanId": span}
    return entry


def violation(caught: Caught, unique_id: str) -> dict[str, Any]:
    """What an entry says about a perimeter that does not let a call in."""
    found: dict[str, Any] = {
        "@type": "type.googleapis.com/google.cloud.audit.VpcServiceControlAuditMetadata",
        "vpcServiceControlsUniqueId": unique_id,
        "violationReason": "NO_MATCHING_ACCESS_LEVEL",
        "resourceNames": [caught.project],
        "securityPolicyInfo": {"servicePerimeterName": caught.perimeter, "organizationId": caught.organization},
        "ingressViolations": [{"targetResource": caught.project, "servicePerimeter": caught.perimeter}],
    }
    return found | ({"dryRun": True} if caught.dry_run else {})


def _payload(service: str, origin: Origin, asked: Asked) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
        "serviceName": service,
        "methodName": asked.method,
        "resourceName": asked.resource[:MAX_NAME],
        "status": asked.status,
        "authenticationInfo": _authentication(origin.caller),
        "authorizationInfo": [_authorization(asked)] if asked.permission else [],
        "requestMetadata": {
            "callerIp": origin.ip,
            "callerSuppliedUserAgent": redacted_text(origin.user_agent[:512]),
        },
    }
    if asked.location:
        payload["resourceLocation"] = {"currentLocations": [asked.location]}
    if asked.metadata is not None:
        payload["metadata"] = asked.metadata
    if asked.request is not None:
        payload["request"] = capped(asked.request)
    if asked.response is not None:
        payload["response"] = capped(asked.response)
    return payload


def _authentication(caller: Caller) -> dict[str, Any]:
    if caller.anonymous:
        return {"principalSubject": caller.member}
    found: dict[str, Any] = {"principalEmail": caller.email, "principalSubject": caller.member}
    if caller.key:
        found["serviceAccountKeyName"] = (
            f"//iam.googleapis.com/projects/-/serviceAccounts/{caller.email}/keys/{caller.key}"
        )
    return found


def _authorization(asked: Asked) -> dict[str, Any]:
    return {
        "resource": asked.resource[:MAX_NAME],
        "permission": asked.permission,
        "granted": asked.granted,
        "permissionType": asked.kind.value,
    }
