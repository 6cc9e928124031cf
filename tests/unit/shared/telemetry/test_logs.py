"""Logs: one JSON object a line, and no secret in any of them."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import structlog

from shared.telemetry.logs import log_to

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


@pytest.fixture
def stream() -> Generator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:], root.level = handlers, level


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object_with_a_constant_message_and_data_beside_it(stream: io.StringIO) -> None:
    log_to(stream, "info", "registry")
    structlog.contextvars.bind_contextvars(request="r1")
    log = structlog.get_logger("test")
    log.info("scan finished", packages=7, digest="sha256:ab")
    log.debug("not said")
    (line,) = _lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "scan finished",
        "level": "info",
        "service": "registry",
        "request": "r1",
        "packages": 7,
        "digest": "sha256:ab",
    }


def test_no_secret_leaves_by_a_name_a_value_or_an_error(stream: io.StringIO) -> None:
    log_to(stream, "debug", "registry")
    log = structlog.get_logger("test")
    error = ValueError(f"Authorization: Bearer {JWT}")
    address = "https://s3/x?X-Amz-Signature=12ab&a=b"
    log.error("failed", exc_info=error, token="abc", password="hunter2", address=address, more={"secret": "hunter3"})
    said = stream.getvalue()
    assert "ValueError" in said
    for secret in (JWT, "hunter", "12ab", '"abc"'):
        assert secret not in said


def test_libraries_speak_in_the_same_form(stream: io.StringIO) -> None:
    log_to(stream, "info", "registry")
    logging.getLogger("some.library").warning("lost %s", "connection")
    logging.getLogger("some.library").info("chatter")
    (line,) = _lines(stream)
    assert (line["event"], line["said"], line["logger"]) == ("library", "lost connection", "some.library")


def test_what_is_no_json_does_not_break_a_line(stream: io.StringIO) -> None:
    log_to(stream, "info", "registry")
    structlog.get_logger("test").info("odd", thing={1: object()}, large=2**80, text="\ud800", raw=b"\xff")
    assert len(stream.getvalue().splitlines()) == 1


def test_a_library_that_hangs_a_handler_on_its_logger_speaks_in_our_form_too() -> None:
    program = """
import logging, sys, threading, warnings
from shared.telemetry.logs import log_to, take_over
log_to(sys.stderr, "info", "registry")
loud = logging.getLogger("loud")
loud.addHandler(logging.StreamHandler(sys.stdout))
loud.setLevel(logging.DEBUG)
loud.propagate = False
take_over()
loud.warning("\\x1b[31mred\\x1b[0m")
loud.info("chatter")
warnings.warn("old", RuntimeWarning)
def fail(): raise KeyError("thread")
thread = threading.Thread(target=fail); thread.start(); thread.join()
class Bad:
    def __del__(self): raise ValueError("at the end")
Bad()
raise RuntimeError("out")
"""
    environment = {"PYTHONPATH": str(Path.cwd()), "PATH": os.environ["PATH"]}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=False)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.stdout == b""
    assert [line["event"] for line in lines] == [
        "library",
        "library",
        "error in a thread",
        "error nobody could catch",
        "error nobody caught",
    ]
    assert b"\x1b" not in ended.stderr
    assert all("exception" in line for line in lines[2:])
