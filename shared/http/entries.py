"""Audit entries in Google's words: a LogEntry with an AuditLog in it, redacted and small enough for the log."""

import re
from dataclasses import dataclass, field
from typing import Any, Final, cast

import orjson

from shared.clock import rfc3339
from shared.http.routes import Audit
from shared.identity.caller import Caller

MAX_PART: Final = 16 * 1024
"""Bytes of JSON that request and response may have each; longer ones are cut to their first fields."""
MAX_TEXT: Final = 2048
REDACTED: Final = "[redacted]"

_SECRET_NAME = re.compile(
    r"password|passwd|secret(?!manager|_?id$|_?env)|(?<!page)token(?!_?uri|_?type)|assertion|private_?key|authorization"
    r"|credential|cookie|signed_?ur[il]|api_?key|payload_?data",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:Bearer|Basic)\s+[\w.~+/=-]{8,}"
    r"|[?&](?:X-Amz-Signature|X-Amz-Credential|X-Goog-Signature|Signature|sig|token|access_token|_state)=[^&\s\"']+",
    re.IGNORECASE,
)

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


@dataclass(frozen=True)
class Origin:
    """Who called, from where, and in which trace."""

    service: str
    caller: Caller
    ip: str
    user_agent: str
    traceparent: str


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


def _payload(service: str, origin: Origin, asked: Asked) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
        "serviceName": service,
        "methodName": asked.method,
        "resourceName": asked.resource[:MAX_TEXT],
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
        "resource": asked.resource[:MAX_TEXT],
        "permission": asked.permission,
        "granted": asked.granted,
        "permissionType": asked.kind.value,
    }


def capped(content: dict[str, Any]) -> dict[str, Any]:
    """The content without secrets and not longer than an entry may hold; what was left out is named."""
    clean = cast("dict[str, Any]", redacted(content))
    if len(orjson.dumps(clean)) <= MAX_PART:
        return clean
    kept: dict[str, Any] = {}
    left: list[str] = []
    room = MAX_PART - 1024
    for name, value in clean.items():
        size = len(orjson.dumps({name: value}))
        if size <= room:
            kept[name] = value
            room -= size
        else:
            left.append(name[:64])
    return kept | {"@truncated": left[:8]}


def redacted(value: Any, depth: int = 0) -> Any:
    """JSON-ready data with everything in it replaced that is, or looks like, a secret."""
    if depth > 32:
        return REDACTED
    match value:
        case dict():
            items = cast("dict[object, Any]", value).items()
            return {str(name): _named(str(name), inner, depth) for name, inner in items}
        case list() | tuple():
            return [redacted(inner, depth + 1) for inner in cast("list[Any]", value)]
        case str():
            return redacted_text(value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…")
        case int() | float() | bool() | None:
            return value
        case _:
            return redacted_text(str(value)[:MAX_TEXT])


def _named(name: str, value: Any, depth: int) -> Any:
    if _SECRET_NAME.search(name) and not isinstance(value, (bool, int)):
        return REDACTED
    return redacted(value, depth + 1)


def redacted_text(text: str) -> str:
    """A text without tokens, private keys and signatures of addresses."""
    return _SECRET_VALUE.sub(REDACTED, text)
