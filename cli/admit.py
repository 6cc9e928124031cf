"""`entrepot admit`: asks the attestor what it would say to Kubernetes."""

import json
import uuid
from pathlib import Path
from typing import Any, cast

import click

from cli import account, suite
from cli.exits import Denied, Failed
from cli.output import say, show_json


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@suite.data_option
@suite.project_option
@suite.format_option
@click.option("--dry-run/--for-real", default=True, show_default=True, help="Leave no trace of the question, or do.")
def admit(file: Path, data: str, project: str, form: str, *, dry_run: bool) -> None:
    """Ask whether the workload in FILE (JSON: an object of Kubernetes, or an AdmissionReview) would be let in.

    Exit code 0 when it would, 3 when not; the reasons stand on standard error.
    """
    review = as_review(_read(file), dry_run=dry_run)
    answer = account.api(suite.of(data), "attestor").post("admit", review, project=project)
    response = cast("dict[str, Any]", answer.get("response", {}))
    if form == "json":
        show_json(answer)
    else:
        click.echo("allowed" if response.get("allowed") else "denied")
    for warning in response.get("warnings", []):
        say(str(warning))
    if not response.get("allowed"):
        raise Denied(str(response.get("status", {}).get("message", "denied")))


def as_review(found: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    """The document itself when it is a review, otherwise a review of its creation."""
    if found.get("kind") == "AdmissionReview":
        return found
    group, _, version = str(found.get("apiVersion", "v1")).rpartition("/")
    kind = str(found.get("kind", ""))
    if not kind:
        raise Failed("the file is neither an object of Kubernetes nor an AdmissionReview")
    named = {"group": group, "version": version}
    request = {
        "uid": str(uuid.uuid4()),
        "kind": {**named, "kind": kind},
        "resource": {**named, "resource": f"{kind.lower()}s"},
        "namespace": found.get("metadata", {}).get("namespace", "default"),
        "operation": "CREATE",
        "object": found,
        "dryRun": dry_run,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def _read(file: Path) -> dict[str, Any]:
    with click.open_file(str(file), "rb") as stream:
        content = stream.read()
    try:
        found = json.loads(content)
    except ValueError as error:
        raise Failed(f"{file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise Failed(f"{file} is not a JSON object")
    return cast("dict[str, Any]", found)
