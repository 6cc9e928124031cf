"""What all tests share: how services that run within them log, what they tell, and a gcloud that is loaded once."""

import gc
import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import pytest
import structlog

from tests.support.gcloud import GcloudProgram

gc.disable()  # until all tests are found: what is made meanwhile stays, and looking for garbage was a third of the time


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


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says what a test saw: it is shown at the end of the run, also where all went well."""
    return partial(record_property, _TOLD)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that mostly wait and files that compute take turns; what takes all processors for long comes last, alone.

    Within a file nothing is moved.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    last = [path for path in files if path == _LAST]
    waiting = [path for path in files if path.relative_to(_HERE).parts[0] in _WAITING]
    waiting.sort(key=lambda path: _WAITING.index(path.relative_to(_HERE).parts[0]))
    computing = [path for path in files if path not in {*waiting, *last}]
    items[:] = [item for path in (*_spread(computing, waiting), *last) for item in files[path]]


def _spread(computing: list[Path], waiting: list[Path]) -> list[Path]:
    """Both in one list, each in its order, at even distances; nothing that waits for long is begun near the end."""
    placed = [(number / len(computing), path) for number, path in enumerate(computing)]
    placed += [(0.9 * number / len(waiting), path) for number, path in enumerate(waiting)]
    return [path for _, path in sorted(placed, key=lambda pair: pair[0])]


def pytest_collection_finish() -> None:
    """From here on there is garbage again; a test makes a lot of it, and looking often took a fifth of the time."""
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests told, in whichever process they ran."""
    told = [
        (report.nodeid, text)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, text in getattr(report, "user_properties", ())
        if name == _TOLD and report.when == "call"
    ]
    if told:
        terminalreporter.section("what tests saw")
    for test, text in told:
        terminalreporter.write_line(f"{test}: {text}")


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


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.default_int_handler(number, frame)


# asyncio's runner takes the place of Python's own handler, and in doing so describes the test's task at length, only to
# throw that away: 5 ms for each test. A handler of somebody else it leaves alone.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupt)

_HERE = Path(__file__).parent
_WAITING = ("end_to_end", "chaos", "integration")
_LAST = _HERE / "simulation" / "test_promise.py"
_TOLD = "told"
_log_plainly()
_USUAL = structlog.get_config()["wrapper_class"]
