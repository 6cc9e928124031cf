"""`entrepot up`: this process becomes the launcher, so that Ctrl-C and signals reach it and nothing else."""

import os
import sys

import click

from cli import suite


@click.command()
@suite.data_option
@click.option(
    "--port-base", default=5000, show_default=True, help="The registry's port; the others are counted from it."
)
@click.option(
    "--blobs",
    type=click.Choice(["directory", "s3"]),
    default="directory",
    show_default=True,
    help="Where the bytes lie: in the data folder, or in an S3 server that is started too.",
)
def up(data: str, port_base: int, blobs: str) -> None:
    """Start the whole suite on this machine, until Ctrl-C."""
    arguments = ["--data", data, "--port-base", str(port_base), "--blobs", blobs]
    os.execv(sys.executable, [sys.executable, "-m", "infra.embedded", *arguments])  # noqa: S606 - by design
