"""`entrepot copy`: an image from one place to another; the digest, and nothing else, on standard output."""

import platform as machine
import tempfile
from pathlib import Path

import click

from cli import suite
from cli.places import Known
from cli.progress import Progress
from cli.transport import addresses
from cli.transport.addresses import Local, Remote
from cli.transport.copying import copy as copy_image

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
    with tempfile.TemporaryDirectory(prefix="entrepot-") as between, Progress() as progress:
        known = Known(data, Path(between), plain_http=plain_http)
        giving = known.source(origin, source_credentials)
        taking = known.target(goal, target_credentials, "" if mount == getattr(goal, "name", "") else mount)
        digest = copy_image(giving, taking, platform, progress)
    click.echo(digest)
