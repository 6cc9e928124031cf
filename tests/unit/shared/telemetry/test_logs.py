"""Logs: one JSON object a line, and no secret in any of them."""

import io
import json
import logging
from collections.abc import Generator
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
