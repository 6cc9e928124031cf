"""`entrepot scan`: what was found in images."""

from typing import Any

import click

from cli import account, suite
from cli.exits import Denied, Failed, Missing
from cli.output import show

_SEVERITIES = ("MINIMAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")
_COLUMNS = [
    "noteName",
    "vulnerability.effectiveSeverity",
    "vulnerability.cvssScore",
    "package",
    "version",
    "image",
]


@click.group()
def scan() -> None:
    """What the scanner found."""


@scan.command("list")
@click.argument("image", default="")
@suite.data_option
@suite.project_option
@suite.format_option
@click.option("--filter", "condition", default="", help='Google\'s filter; otherwise kind="VULNERABILITY".')
@click.option(
    "--fail-on",
    type=click.Choice(_SEVERITIES, case_sensitive=False),
    default=None,
    help="Leave with exit code 3 when there is something at least this severe.",
)
def list_found(  # noqa: PLR0913, PLR0917 - click hands over each option by its name
    image: str, data: str, project: str, form: str, condition: str, fail_on: str | None
) -> None:
    """Occurrences, of one IMAGE (`HOST/NAME@sha256:…`) or of all."""
    conditions = [f"({condition})" if condition else 'kind="VULNERABILITY"']
    if image and "@" not in image:
        # An empty list would look like a clean image.
        raise Failed(f"{image} names no digest, and findings are kept by digest: HOST/NAME@sha256:…")
    if image:
        conditions.append(_about(image))
    path = f"v1/projects/{project}/occurrences"
    at = suite.of(data)
    api = account.api(at, "scanner")
    found = list(api.pages(path, "occurrences", filter=" AND ".join(conditions)))
    if image and not found:
        analyses = list(api.pages(path, "occurrences", filter=f'kind="DISCOVERY" AND {_about(image)}'))
        require_analysis(image, analyses)
    show([{**one, **_package(one), "image": suite.pullable(one["resourceUri"], at)} for one in found], _COLUMNS, form)
    if fail_on and (bad := [one for one in found if _rank(one) >= _SEVERITIES.index(fail_on.upper())]):
        raise Denied(f"{len(bad)} findings of severity {fail_on.upper()} or worse")


def require_analysis(image: str, analyses: list[dict[str, Any]]) -> None:
    """Raises Missing or Failed for an image in which nothing can have been found."""
    if not analyses:
        raise Missing(f"{image} was not scanned: there is no such image, or its turn has not come")
    analysis = analyses[0].get("discovery", {})
    if analysis.get("analysisStatus") != "FINISHED_SUCCESS":
        reason = analysis.get("analysisStatusError", {}).get("message", "")
        raise Failed(f"{image} could not be scanned: {analysis.get('analysisStatus')} {reason}".rstrip())


def _about(image: str) -> str:
    return f'resourceUrl="{image if "://" in image else f"https://{image}"}"'


def _package(occurrence: dict[str, Any]) -> dict[str, str]:
    issues = occurrence.get("vulnerability", {}).get("packageIssue", [])
    first: dict[str, Any] = issues[0] if issues else {}
    version = first.get("affectedVersion", {}).get("fullName", "")
    return {"package": str(first.get("affectedPackage", "")), "version": str(version)}


def _rank(occurrence: dict[str, Any]) -> int:
    severity = str(occurrence.get("vulnerability", {}).get("effectiveSeverity", ""))
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else -1
