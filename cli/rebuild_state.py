"""`entrepot rebuild-state`: brings back what the state server has lost, from the bucket and from what was said."""

import os
import sys

import click

from cli import suite


@click.command(short_help="Bring back what the state server has lost.")
@click.argument("service", type=click.Choice(["registry"]))
@click.option("--port-base", default=5000, show_default=True, help="As for `entrepot up`.")
@click.option("--force", is_flag=True, help="Write over what the state holds.")
@suite.format_option
@suite.data_option
def rebuild_state(service: str, port_base: int, form: str, data: str, *, force: bool) -> None:
    """Bring back a service's state of a suite on this machine, which must not be running.

    It starts the servers, without the services, and stops them when it is done. Exit code 1 when something that was
    announced cannot be found any more, or the rebuild was refused; the report tells.
    """
    arguments = ["--data", data, "--port-base", str(port_base), "--format", form, *(["--force"] if force else [])]
    command = [sys.executable, "-m", "infra.embedded.rebuilding", service, *arguments]
    os.execv(sys.executable, command)  # noqa: S606 - by design, as `entrepot up`
