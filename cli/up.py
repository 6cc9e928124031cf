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
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    envvar="ENTREPOT_WORKERS",
    show_default=True,
    help="Processes of the registry behind its port: one for each core that it may use.",
)
def up(data: str, port_base: int, blobs: str, workers: int) -> None:
    """Start the whole suite on this machine, until Ctrl-C."""
    arguments = ["--data", data, "--port-base", str(port_base), "--blobs", blobs, "--workers", str(workers)]
    os.execv(sys.executable, [sys.executable, "-m", "infra.embedded", *arguments])  # noqa: S606 - by design
