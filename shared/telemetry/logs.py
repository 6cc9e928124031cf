"""Logs: one JSON object a line; the message is a constant, so that it can be counted, with data beside it."""

import logging
import re
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, TextIO

import orjson
import structlog

from shared.redaction import redacted, redacted_text

PRESENT: ContextVar[tuple[str, str]] = ContextVar("PRESENT")
"""Request id and trace of the call that is being answered; log lines name them. One variable, for it is set often."""

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_NAMES = re.compile(r"^(authorization|token|password|secret|assertion|private_key|cookie)$", re.IGNORECASE)


def log_to(stream: TextIO, level: str, service: str) -> None:
    """Send the logs of this process, also those of libraries, to `stream`."""
    shared = [
        structlog.contextvars.merge_contextvars,
        _name_the_call,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _of(service),
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_json)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _take_over_libraries(max(_LEVELS[level], logging.WARNING))


class _Library(logging.Handler):
    """Carries what libraries log over into our form."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, "library", said=record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _take_over_libraries(level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Library()]
    root.setLevel(level)


def _name_the_call(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request, trace = PRESENT.get(("", ""))
    if request:
        event.update(request=request, trace=trace)
    return event


def _of(service: str) -> structlog.typing.Processor:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    return add


def _redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """No token leaves by a log, not even inside a library's error."""
    for name, value in event.items():
        if _NAMES.match(name):
            event[name] = "[redacted]"
        else:
            event[name] = redacted_text(value) if isinstance(value, str) else redacted(value)
    return event


def _json(event: Any, **_: Any) -> str:
    return orjson.dumps(event).decode()
