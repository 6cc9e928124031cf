"""The bus of a suite on this machine, as its user `operator`: reading along, and looking after dead letters."""

import logging
from pathlib import Path

import structlog

from cli import suite
from cli.exits import Failed
from shared.bus.connection import Address
from shared.settings import SettingsWrong, secret


def operator(found: suite.Suite) -> Address:
    """Address and password. Raises Failed where the suite is somewhere else."""
    if not found.bus:
        raise Failed("this needs a suite on this machine: name its data folder with --data")
    # The command itself says in one sentence what went wrong; standard output is for results.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        password = secret(Path(found.bus["password_file"]))
    except SettingsWrong as error:
        raise Failed(str(error)) from error
    return Address((found.bus["address"],), found.bus["user"], password)
