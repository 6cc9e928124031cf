"""Entries as the audit log gets them."""

from typing import Any

from services.audit_log.entries import Pending, Source


def entry(number: int, *, minute: int | None = None, project: str = "demo", log: str = "activity") -> Pending:
    """One entry; the number is in its id, its minute and its source."""
    content: dict[str, Any] = {
        "logName": f"projects/{project}/logs/cloudaudit.googleapis.com%2F{log}",
        "insertId": f"id-{project}-{log}-{number}",
        "timestamp": f"2026-01-01T00:{number if minute is None else minute:02d}:00.000000Z",
        "severity": "NOTICE",
        "protoPayload": {"methodName": f"m{number % 3}"},
    }
    return Pending(Source("registry", "audit.activity", project, number + 1, f"e{number}"), content)
