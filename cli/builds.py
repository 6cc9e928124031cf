"""`entrepot builds`: runs a `cloudbuild.yaml` and shows what its steps say."""

import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any, cast

import click
import urllib3

from cli import account, suite
from cli.api import Api, pool
from cli.exits import Failed, Missing, NotAllowed
from cli.output import show, show_json

_PATIENCE = 5
"""So often in a row may the answer with a log break off."""
_ENDED = {"SUCCESS", "FAILURE", "INTERNAL_ERROR", "TIMEOUT", "CANCELLED", "EXPIRED"}


@click.group()
def builds() -> None:
    """Builds of steps in containers."""


@builds.command(short_help="Run a build on the sources in FOLDER.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="The build's steps; otherwise cloudbuild.yaml in FOLDER.",
)
@click.option("--substitutions", default="", help="_NAME=VALUE,…")
@click.option("--async", "detached", is_flag=True, help="Do not wait for the end.")
@suite.data_option
@suite.project_option
def submit(  # noqa: PLR0913, PLR0917 - click hands over each option by its name
    folder: Path | None,
    config: Path | None,
    substitutions: str,
    detached: bool,  # noqa: FBT001 - the same
    data: str,
    project: str,
) -> None:
    """Run a build on the sources in FOLDER; prints the digests of its images, or its id when not waiting."""
    build = read_config(config or _config_in(folder or Path()))
    api = account.api(suite.of(data), "builder")
    if folder is not None:
        build["source"] = _upload(api, project, folder)
    if substitutions:
        build["substitutions"] = {**build.get("substitutions", {}), **_pairs(substitutions)}
    operation = api.post(f"v1/projects/{project}/builds", build)
    build_id = str(operation["metadata"]["build"]["id"])
    if detached:
        click.echo(build_id)
        return
    ended = follow(api, project, build_id)
    if ended["status"] != "SUCCESS":
        raise Failed(f"build {build_id}: {ended['status']} {ended.get('statusDetail', '')}".strip())
    for image in ended.get("results", {}).get("images", []):
        click.echo(f"{image.get('name', '').partition('@')[0]}@{image.get('digest', '')}")


@builds.command("list")
@suite.data_option
@suite.project_option
@suite.format_option
@click.option("--limit", default=50, show_default=True)
def list_builds(data: str, project: str, form: str, limit: int) -> None:
    """Builds of a project, the newest first."""
    rows = account.api(suite.of(data), "builder").pages(f"v1/projects/{project}/builds", "builds", limit)
    show(list(rows), ["id", "status", "createTime", "finishTime"], form)


@builds.command()
@click.argument("build")
@suite.data_option
@suite.project_option
def describe(build: str, data: str, project: str) -> None:
    """Everything about a build, as JSON."""
    show_json(account.api(suite.of(data), "builder").get(f"v1/projects/{project}/builds/{build}"))


@builds.command()
@click.argument("build")
@suite.data_option
@suite.project_option
def log(build: str, data: str, project: str) -> None:
    """What a build's steps said."""
    api = account.api(suite.of(data), "builder")
    click.echo(_log(api, project, build, 0), nl=False)


@builds.command()
@click.argument("build")
@suite.data_option
@suite.project_option
def cancel(build: str, data: str, project: str) -> None:
    """Stop a build."""
    account.api(suite.of(data), "builder").post(f"v1/projects/{project}/builds/{build}:cancel")


def _config_in(folder: Path) -> Path:
    path = folder / "cloudbuild.yaml"
    if not path.exists():
        raise Failed(
            f"{path} is missing: write the steps there, or name a file with --config; a Dockerfile takes "
            "the step {name: docker, args: [build, -t, IMAGE, .]} and images: [IMAGE]"
        )
    return path


def read_config(path: Path) -> dict[str, Any]:
    """A build in YAML or JSON; raises Failed."""
    try:
        content = path.read_text()
        if path.suffix == ".json":
            found = json.loads(content)
        else:
            import yaml  # noqa: PLC0415 - slow to import, and JSON needs none

            found = yaml.safe_load(content)
    except FileNotFoundError:
        raise Failed(f"{path} is missing") from None
    except Exception as error:
        raise Failed(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise Failed(f"{path} describes no build")
    return cast("dict[str, Any]", found)


def _upload(api: Api, project: str, folder: Path) -> dict[str, Any]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in sorted(folder.rglob("*")):
            if ".git" not in path.relative_to(folder).parts:
                archive.add(path, str(path.relative_to(folder)), recursive=False)
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/gzip"}
    try:
        answer = pool.request(
            "POST", f"{api.address}/v1/projects/{project}/sources", body=packed.getvalue(), headers=headers
        )
    except urllib3.exceptions.HTTPError as error:
        raise Failed(f"{api.address} does not answer: {error}") from error
    if answer.status in (401, 403):
        raise NotAllowed("the account may not upload sources")
    if answer.status != 200:
        raise Failed(f"the source was not taken ({answer.status}): {answer.data[:300].decode(errors='replace')}")
    return cast("dict[str, Any]", answer.json())


def follow(api: Api, project: str, build: str) -> dict[str, Any]:
    """Print what is new in the log until the build has ended; raises Failed where that always breaks off."""
    shown = broken = 0
    while True:
        now = api.get(f"v1/projects/{project}/builds/{build}")
        try:
            more = _log(api, project, build, shown)
        except urllib3.exceptions.HTTPError as error:
            broken += 1
            if broken == _PATIENCE:
                raise Failed(f"the log of {build} breaks off: {error}") from error
        else:
            broken = 0
            click.echo(more, nl=False, err=True)
            shown += len(more)
            if now["status"] in _ENDED:
                return now
        time.sleep(0.5)


def _log(api: Api, project: str, build: str, shown: int) -> str:
    """What of the log was not shown yet; raises urllib3's HTTPError where the answer breaks off."""
    headers = {"Authorization": f"Bearer {api.token}"}
    answer = pool.request("GET", f"{api.address}/v1/projects/{project}/builds/{build}:log", headers=headers)
    if answer.status == 404:
        raise Missing(f"there is no build {build} in {project}, or no log of it")
    if answer.status != 200:
        raise Failed(f"the log of {build} cannot be read ({answer.status})")
    return answer.data.decode(errors="replace")[shown:]


def _pairs(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(name and equals for name, equals, _ in pairs):
        raise Failed("substitutions are written _NAME=VALUE,…")
    return {name: value for name, _, value in pairs}
