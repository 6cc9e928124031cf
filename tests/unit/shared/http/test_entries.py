"""Audit entries in Google's words."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.http.entries import Asked, Origin, log_entry, service_name
from shared.http.routes import Audit
from shared.identity.caller import ANONYMOUS, Caller
from shared.redaction import REDACTED, capped, redacted, redacted_text

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
CI = Caller("serviceAccount:ci@demo.iam.entrepot", key="k1", expires=1.0)

LONG = st.builds(lambda text, times: text * times, st.text(max_size=8), st.integers(0, 3000))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | LONG,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)


def _entry(asked: Asked, caller: Caller = CI, user_agent: str = "docker/27") -> dict[str, Any]:
    origin = Origin("registry", caller, "10.0.0.9", user_agent, TRACE)
    return log_entry("activity", "demo", origin, asked, now=1_790_000_000.25, insert_id="i1")


def test_an_entry_is_written_as_google_writes_it() -> None:
    asked = Asked(
        method="google.devtools.artifactregistry.v1.ArtifactRegistry.CreateRepository",
        resource="projects/demo/locations/local/repositories/web",
        permission="artifactregistry.repositories.create",
        request={"format": "DOCKER"},
        response={"name": "web"},
        location="local",
    )
    assert _entry(asked) == {
        "logName": "projects/demo/logs/cloudaudit.googleapis.com%2Factivity",
        "resource": {
            "type": "audited_resource",
            "labels": {
                "service": "artifactregistry.googleapis.com",
                "method": "google.devtools.artifactregistry.v1.ArtifactRegistry.CreateRepository",
                "project_id": "demo",
            },
        },
        "timestamp": "2026-09-21T14:13:20.250000Z",
        "severity": "NOTICE",
        "insertId": "i1",
        "trace": "projects/demo/traces/0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "protoPayload": {
            "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
            "serviceName": "artifactregistry.googleapis.com",
            "methodName": "google.devtools.artifactregistry.v1.ArtifactRegistry.CreateRepository",
            "resourceName": "projects/demo/locations/local/repositories/web",
            "resourceLocation": {"currentLocations": ["local"]},
            "status": {},
            "authenticationInfo": {
                "principalEmail": "ci@demo.iam.entrepot",
                "principalSubject": "serviceAccount:ci@demo.iam.entrepot",
                "serviceAccountKeyName": (
                    "//iam.googleapis.com/projects/-/serviceAccounts/ci@demo.iam.entrepot/keys/k1"
                ),
            },
            "authorizationInfo": [
                {
                    "resource": "projects/demo/locations/local/repositories/web",
                    "permission": "artifactregistry.repositories.create",
                    "granted": True,
                    "permissionType": "ADMIN_WRITE",
                }
            ],
            "requestMetadata": {"callerIp": "10.0.0.9", "callerSuppliedUserAgent": "docker/27"},
            "request": {"format": "DOCKER"},
            "response": {"name": "web"},
        },
    }


def test_an_anonymous_caller_has_no_address() -> None:
    entry = _entry(Asked("m", "projects/demo", "things.get", Audit.DATA_READ), ANONYMOUS)
    assert entry["protoPayload"]["authenticationInfo"] == {"principalSubject": "allUsers"}


def test_an_api_is_named_by_its_permissions() -> None:
    assert service_name("identity", "resourcemanager.projects.get") == "cloudresourcemanager.googleapis.com"
    assert service_name("identity", "iam.serviceAccounts.get") == "iam.googleapis.com"
    assert service_name("builder", "secretmanager.versions.access") == "secretmanager.googleapis.com"
    assert service_name("audit_log") == "logging.googleapis.com"


@settings(max_examples=60)
@given(
    st.dictionaries(LONG, JSON, max_size=5),
    LONG,
    LONG,
)
def test_no_entry_is_longer_than_the_log_takes(content: dict[str, Any], resource: str, user_agent: str) -> None:
    asked = Asked("m" * 200, resource, "p" * 100, request=content, response=content, status={"message": "x" * 2048})
    assert len(orjson.dumps(_entry(asked, user_agent=user_agent))) < 60_000


def test_what_does_not_fit_is_named() -> None:
    found = capped({"small": 1, "large": ["x" * 1000] * 40})
    assert found == {"small": 1, "@truncated": ["large"]}


def test_secrets_are_known_by_their_names() -> None:
    content = {
        "name": "n",
        "private_key": "k",
        "privateKeyData": "k",
        "payload": {"data": "aGk="},
        "accessToken": "t",
        "clientSecret": 5,
        "nested": [{"Authorization": "Bearer x"}],
        "pageToken": "next",
        "secretId": "db",
        "tokenUri": "https://here/token",
        "enabled": True,
    }
    assert redacted(content) == {
        **{name: content[name] for name in ("name", "pageToken", "secretId", "tokenUri", "enabled")},
        **dict.fromkeys(("private_key", "privateKeyData", "accessToken", "clientSecret"), REDACTED),
        "payload": REDACTED,
        "nested": [{"Authorization": REDACTED}],
    }


def test_secrets_are_known_by_their_looks() -> None:
    for secret in (
        JWT,
        f"Bearer {JWT}",
        "Basic dXNlcjpwYXNzd29yZA==",
        "https://s3/bucket/x?X-Amz-Signature=abcdef0123",
        "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY/PuoAoGCCqGSM49\n-----END",
    ):
        found = redacted_text(f"before {secret} after")
        assert found.startswith("before ")
        assert not any(piece in found for piece in ("eyJ", "dXNl", "abcdef0123", "MHcC", "BEGIN"))


@given(JSON)
def test_whatever_is_redacted_stays_json(content: Any) -> None:
    orjson.dumps(redacted(content))


def test_bytes_that_are_no_text_do_not_break_an_entry() -> None:
    orjson.dumps(_entry(Asked("m", "projects/demo"), user_agent=b"curl/\xff".decode(errors="surrogateescape")))
