"""The bus of a suite on this machine, as its user `operator`: reading along, and looking after dead letters."""

from pathlib import Path

from cli import suite
from cli.exits import Failed
from shared.bus.connection import Address
from shared.settings import SettingsWrong, secret


def operator(found: suite.Suite) -> Address:
    """Address and password. Raises Failed where the suite is somewhere else."""
    if not found.bus:
        raise Failed("this needs a suite on this machine: name its data folder with --data")
    try:
        password = secret(Path(found.bus["password_file"]))
    except SettingsWrong as error:
        raise Failed(str(error)) from error
    return Address((found.bus["address"],), found.bus["user"], password)
