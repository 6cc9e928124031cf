"""`entrepot audit`: who did what."""

from typing import Any

import click

from cli import account, suite
from cli.output import show

_COLUMNS = ["timestamp", "who", "protoPayload.methodName", "protoPayload.resourceName", "outcome"]


@click.group()
def audit() -> None:
    """Who did what, where and when."""


@audit.command()
@suite.data_option
@suite.project_option
@suite.format_option
@click.option("--filter", "condition", default="", help='Google\'s filter, such as protoPayload.serviceName="…".')
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--oldest-first", is_flag=True)
def read(data: str, project: str, form: str, condition: str, limit: int, *, oldest_first: bool) -> None:  # noqa: PLR0913
    """Entries of a project, the newest first."""
    question = {
        "resourceNames": [f"projects/{project}"],
        "filter": condition,
        "orderBy": "timestamp asc" if oldest_first else "timestamp desc",
        "pageSize": min(limit, 1000),
    }
    api = account.api(suite.of(data), "audit_log")
    entries: list[dict[str, Any]] = []
    while len(entries) < limit:
        page = api.post("v2/entries:list", question)
        entries += page.get("entries", [])
        if not page.get("nextPageToken"):
            break
        question["pageToken"] = page["nextPageToken"]
    show([{**entry, **_short(entry)} if form == "table" else entry for entry in entries[:limit]], _COLUMNS, form)


def _short(entry: dict[str, Any]) -> dict[str, str]:
    payload = entry.get("protoPayload", {})
    status = payload.get("status", {})
    return {
        "who": str(payload.get("authenticationInfo", {}).get("principalEmail", "") or "anybody"),
        "outcome": str(status.get("message", "")) if status.get("code") else "ok",
    }
