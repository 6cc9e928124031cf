"""`entrepot copy`: an image from one place to another; the digest, and nothing else, on standard output."""

import platform as machine
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

import click

from cli import account, suite
from cli.exits import Failed
from cli.keyfile import KeyFile
from cli.transport import addresses, credentials
from cli.transport.addresses import Local, Remote
from cli.transport.content import Source, Target
from cli.transport.copying import copy as copy_image
from cli.transport.docker_archive import DockerArchive, DockerArchiveTarget
from cli.transport.door import Door
from cli.transport.layout import ArchivedLayout, Layout
from cli.transport.registry import RegistryImage

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7"}


@click.command()
@click.argument("source")
@click.argument("target")
@suite.data_option
@click.option("--platform", default="", help="Only this one, such as linux/arm64; otherwise all.")
@click.option("--source-credentials", envvar="ENTREPOT_SOURCE_CREDENTIALS", default="", help="USER:PASSWORD")
@click.option("--target-credentials", envvar="ENTREPOT_TARGET_CREDENTIALS", default="", help="USER:PASSWORD")
@click.option("--plain-http/--tls", default=None, help="Otherwise plain HTTP on loopback, and TLS elsewhere.")
def copy(  # noqa: PLR0913, PLR0917 - click hands over each option by its name
    source: str,
    target: str,
    data: str,
    platform: str,
    source_credentials: str,
    target_credentials: str,
    plain_http: bool | None,  # noqa: FBT001 - click hands it over so
) -> None:
    """Copy an image between a registry, an OCI layout and archives; prints its digest.

    \b
    Places:
      docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:…   a registry
      oci:FOLDER:TAG          an OCI layout
      oci-archive:FILE:TAG    an OCI layout in a tar file
      docker-archive:FILE:NAME:TAG   what docker save writes
    """  # noqa: D301 - click wants the character itself, not a backslash
    origin, goal = addresses.parse(source), addresses.parse(target)
    mount = origin.name if isinstance(origin, Remote) and isinstance(goal, Remote) and origin.host == goal.host else ""
    if isinstance(goal, Local) and goal.kind == "docker-archive":
        platform = platform or f"linux/{_MACHINES.get(machine.machine(), machine.machine())}"
    with tempfile.TemporaryDirectory(prefix="entrepot-") as between, _Progress() as progress:
        known = Known(data, Path(between), plain_http=plain_http)
        giving = known.source(origin, source_credentials)
        taking = known.target(goal, target_credentials, "" if mount == getattr(goal, "name", "") else mount)
        digest = copy_image(giving, taking, platform, progress)
    click.echo(digest)


class Known:
    """What is known about registries: the suite's own by its account, others by what container clients keep."""

    def __init__(self, data: str, between: Path, *, plain_http: bool | None) -> None:
        self._data = data
        self._between = between
        self._plain_http = plain_http

    def source(self, place: Remote | Local, given: str) -> Source:
        """A place to copy from."""
        if isinstance(place, Remote):
            return RegistryImage(self._door(place, given), place)
        path = Path(place.path)
        if place.kind == "oci":
            return Layout(path, place.reference)
        if place.kind == "oci-archive":
            return ArchivedLayout(path, place.reference, self._between_at("source"), reading=True)
        return DockerArchive(path, place.reference)

    def target(self, place: Remote | Local, given: str, mount_from: str) -> Target:
        """A place to copy to."""
        if isinstance(place, Remote):
            return RegistryImage(self._door(place, given), place, mount_from)
        path = Path(place.path)
        if place.kind == "oci":
            return Layout(path, place.reference)
        if place.kind == "oci-archive":
            return ArchivedLayout(path, place.reference, self._between_at("target"), reading=False)
        return DockerArchiveTarget(path, place.reference, self._between_at("target"))

    def _between_at(self, name: str) -> Path:
        folder = self._between / name
        folder.mkdir()
        return folder

    def _door(self, image: Remote, given: str) -> Door:
        found = credentials.given(given) if given else self._of_suite(image.host) or credentials.kept(image.host)
        return Door(image.host, found, plain_http=self._plain_http)

    def _of_suite(self, host: str) -> credentials.Credentials | None:
        try:
            found = suite.of(self._data)
            if host != found.registry_host:
                return None
            return credentials.Credentials("_json_key", KeyFile.read(account.key_path(found)).content)
        except Failed:
            return None


class _Progress:
    """Bytes so far, on standard error and only on a terminal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._shown = 0.0
        self._wanted = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._wanted and self._shown:
            click.echo("\r\033[K", nl=False, err=True)

    def __call__(self, size: int) -> None:
        with self._lock:
            self._bytes += size
            if self._wanted and time.monotonic() - self._shown > 0.1:
                self._shown = time.monotonic()
                click.echo(f"\r{self._bytes / 1e6:.1f} MB", nl=False, err=True)
