"""`entrepot advisories`: brings the scanner what it knows about vulnerabilities, in OSV form."""

import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any, cast

import click
import urllib3

from cli import account, suite
from cli.api import Api, pool, understood
from cli.exits import Failed, Missing
from cli.output import say, show, show_json

_ENDINGS = (".json", ".yaml", ".yml", ".jsonl", ".ndjson")
_READING = urllib3.Timeout(connect=10, read=600)


@click.group()
def advisories() -> None:
    """What the scanner knows about vulnerabilities."""


@advisories.command("import", short_help="Load advisories of a file, folder or URL.")
@click.argument("place")
@suite.data_option
@suite.project_option
@suite.format_option
@click.option("--source", default="", help="Whose advisories these are; those it had before are replaced.")
def import_advisories(place: str, data: str, project: str, form: str, source: str) -> None:
    """Load advisories from PLACE: a file, a folder, an archive (zip, tar) or an http(s) address of one of these."""
    api = account.api(suite.of(data), "scanner")
    with tempfile.TemporaryFile(prefix="entrepot-") as body:
        fill(body, place)
        answer = _send(api, project, source or source_of(place), body)
    if form == "json":
        show_json(answer)
    else:
        show([answer], ["source", "records", "changed", "withdrawn", "unusable"], form)
    for complaint in answer.get("complaints", []):
        say(str(complaint))


@advisories.command("list")
@suite.data_option
@suite.project_option
@suite.format_option
def list_feeds(data: str, project: str, form: str) -> None:
    """Which advisories were loaded, and when."""
    found = account.api(suite.of(data), "scanner").get(f"v1/projects/{project}/advisoryFeeds")
    show(cast("list[dict[str, Any]]", found.get("advisoryFeeds", [])), ["source", "records", "importTime"], form)


def source_of(place: str) -> str:
    """A source's name made from where its advisories lie."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", place.rstrip("/").rpartition("/")[2].partition("?")[0].lower())
    for ending in (".gz", ".zst", ".tar", ".tgz", ".zip", *_ENDINGS):
        stem = stem.removesuffix(ending)
    return stem.strip("._-")[:63] or "imported"


def fill(body: IO[bytes], place: str) -> None:
    """Put what is to be sent into a file; raises Failed or Missing."""
    if place.startswith(("http://", "https://")):
        _download(place, body)
    elif Path(place).is_dir():
        _pack(Path(place), body)
    else:
        try:
            with Path(place).open("rb") as file:
                shutil.copyfileobj(file, body)
        except FileNotFoundError:
            raise Missing(f"{place} is missing") from None
        except OSError as error:
            raise Failed(f"{place} cannot be read: {error.strerror}") from error


def _pack(folder: Path, body: IO[bytes]) -> None:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in _ENDINGS]
    if not paths:
        raise Missing(f"there is no file of advisories ({', '.join(_ENDINGS)}) in {folder}")
    with tarfile.open(fileobj=body, mode="w:gz", compresslevel=3) as archive:
        for path in paths:
            archive.add(path, str(path.relative_to(folder)), recursive=False)


def _download(address: str, body: IO[bytes]) -> None:
    try:
        answer = pool.request("GET", address, preload_content=False, timeout=_READING)
        if answer.status != 200:
            raise Failed(f"{address} answered {answer.status}")
        for piece in answer.stream(1024 * 1024):
            body.write(piece)
        answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise Failed(f"{address} does not answer: {error}") from error


def _send(api: Api, project: str, source: str, body: IO[bytes]) -> dict[str, Any]:
    headers = {
        "Authorization": f"Bearer {api.token}",
        "Content-Type": "application/octet-stream",
        "Content-Length": str(body.seek(0, 2)),
    }
    body.seek(0)
    url = f"{api.address}/v1/projects/{project}/advisories:import?source={source}"
    try:
        answer = pool.request("POST", url, body=body, headers=headers, timeout=_READING, retries=False, redirect=False)
    except urllib3.exceptions.HTTPError as error:
        raise Failed(f"{api.address} does not answer: {error}") from error
    return understood(answer.status, answer.data)
