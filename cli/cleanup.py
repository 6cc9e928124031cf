"""`entrepot cleanup`: what a repository's policies would delete and why, and deleting it."""

import json
from pathlib import Path
from typing import Any, cast

import click

from cli import account, suite
from cli.exits import Failed
from cli.output import say, show, show_json


@click.group()
def cleanup() -> None:
    """What cleanup policies would delete."""


def policies_option(command: suite.C) -> suite.C:
    """`--policies FILE`, in the JSON that gcloud's set-cleanup-policies reads, or by id."""
    return click.option(
        "--policies",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=None,
        help="JSON of policies to try instead of the repository's own.",
    )(command)


@cleanup.command()
@click.argument("repository")
@policies_option
@suite.data_option
@suite.project_option
@suite.format_option
def plan(repository: str, policies: Path | None, data: str, project: str, form: str) -> None:
    """What would go now, and why; nothing is deleted."""
    found = suite.of(data)
    api = account.api(found, "cleanup")
    answer = api.post(f"{_path(found, project, repository)}:planCleanup", _asked(policies))
    if form == "json":
        show_json(answer)
        return
    if doomed := answer.get("delete", []):
        show(doomed, _columns(doomed), form)
    say(
        f"{answer.get('deleteCount', 0)} of {answer.get('versionsSeen', 0)} would go, "
        f"{answer.get('keepCount', 0)} more would, but a KEEP policy holds them; "
        f"at most {answer.get('sizeBytes', 0)} bytes would be freed"
    )


@cleanup.command()
@click.argument("repository")
@policies_option
@click.option(
    "--dry-run/--for-real",
    default=None,
    help="Write the plan down and delete nothing, or delete; otherwise as the repository's own switch says.",
)
@suite.data_option
@suite.project_option
def run(repository: str, policies: Path | None, data: str, project: str, *, dry_run: bool | None) -> None:
    """Clean a repository now; prints the run, as JSON."""
    found = suite.of(data)
    asked = {**_asked(policies), **({} if dry_run is None else {"dryRun": dry_run})}
    answer = account.api(found, "cleanup").post(f"{_path(found, project, repository)}:runCleanup", asked)
    show_json(answer)
    if answer.get("state") == "PLANNED":
        say("this was a dry run: nothing is deleted; --for-real deletes")


@cleanup.command("runs")
@click.argument("repository")
@suite.data_option
@suite.project_option
@suite.format_option
def list_runs(repository: str, data: str, project: str, form: str) -> None:
    """The last runs of a repository, the newest first."""
    found = suite.of(data)
    path = f"{_path(found, project, repository)}/cleanupRuns"
    rows = list(account.api(found, "cleanup").pages(path, "cleanupRuns"))
    show(rows, _columns(rows) or ["id", "state", "started"], form)


def read_policies(path: Path) -> dict[str, Any]:
    """Policies by id; gcloud's list of policies with names, and a single policy's object by id, are both read."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise Failed(f"{path} is not JSON: {error}") from error
    if isinstance(found, dict):
        return cast("dict[str, Any]", found)
    if isinstance(found, list) and all(isinstance(one, dict) and "name" in one for one in cast("list[Any]", found)):
        return {str(one["name"]): as_policy(one) for one in cast("list[dict[str, Any]]", found)}
    raise Failed(f"{path} holds neither policies by id nor a list of policies with names")


def as_policy(listed: dict[str, Any]) -> dict[str, Any]:
    """The API's form of a policy; gcloud's file writes `"action": {"type": "Delete"}` for `"action": "DELETE"`."""
    action = listed.get("action")
    kind = cast("dict[str, Any]", action).get("type", "") if isinstance(action, dict) else action
    rest = {name: value for name, value in listed.items() if name not in {"name", "action"}}
    return {"action": str(kind).upper(), **rest}


def _asked(policies: Path | None) -> dict[str, Any]:
    return {} if policies is None else {"cleanupPolicies": read_policies(policies)}


def _path(found: suite.Suite, project: str, repository: str) -> str:
    return f"v1/projects/{project}/locations/{found.location}/repositories/{repository}"


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    return [name for name, value in (rows[0] if rows else {}).items() if not isinstance(value, dict)]
