"""`entrepot token`: an access token on standard output, for other programs."""

from pathlib import Path

import click

from cli import account, keyfile, suite
from cli.api import access_token


@click.command()
@suite.data_option
@click.option("--key-file", type=click.Path(path_type=Path), default=None, help="Act as this account.")
def token(data: str, key_file: Path | None) -> None:
    """Print an access token."""
    found = suite.of(data)
    if key_file is None:
        click.echo(account.token(found))
    else:
        click.echo(access_token(keyfile.read(key_file), found.address("identity")))
