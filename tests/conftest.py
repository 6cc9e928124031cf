"""What all tests share: how services that run within them log, and a gcloud that is loaded once."""

import logging
import shutil
from collections.abc import Iterator

import pytest
import structlog

from tests.support.gcloud import GcloudProgram


def _log_plainly() -> None:
    """By default structlog paints each traceback, which took longer than most of the tests that provoke one.

    What services say for debugging alone, which is something about every call, nobody reads here either.
    """
    structlog.reset_defaults()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            *structlog.get_config()["processors"][:-1],
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
    )


@pytest.fixture(scope="session")
def gcloud_program() -> Iterator[GcloudProgram]:
    """An unmodified gcloud, whose calls cost this test process its start but once."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed")
    with GcloudProgram() as program:
        yield program


def pytest_runtest_teardown() -> None:
    """A command that was called in this process may have silenced the logs, which later tests look at."""
    if structlog.get_config()["wrapper_class"] is not _USUAL:
        _log_plainly()


_log_plainly()
_USUAL = structlog.get_config()["wrapper_class"]
