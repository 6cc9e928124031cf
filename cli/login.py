"""`entrepot login` and `logout`: which account the commands act as."""

from pathlib import Path

import click

from cli import account, keyfile, suite
from cli.api import access_token
from cli.output import say


@click.command()
@suite.data_option
@click.option("--key-file", type=click.Path(path_type=Path), required=True, help="The account's key file.")
def login(data: str, key_file: Path) -> None:
    """Act as the account of a key file from now on; the file stays where it is."""
    address = suite.of(data).address("identity")
    key = keyfile.read(key_file)
    access_token(key, address)
    account.remember(address, key_file)
    say(f"acting as {key.email} at {address}")


@click.command()
@suite.data_option
def logout(data: str) -> None:
    """Forget the key file."""
    account.remember(suite.of(data).address("identity"), None)
