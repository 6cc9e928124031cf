"""Logs: one JSON object a line; the message is a constant, so that it can be counted, with data beside it."""

import logging
import re
import sys
import threading
from collections.abc import MutableMapping
from contextvars import ContextVar
from types import TracebackType
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
    root = logging.getLogger()
    root.handlers[:] = [_Library(max(_LEVELS[level], logging.WARNING))]
    root.setLevel(root.handlers[0].level)


def take_over() -> None:
    """In a process of our own: bring to our form also what libraries and the interpreter would print as they like.

    Some libraries hang handlers on their loggers when they are imported, so this comes after all imports.
    """
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.captureWarnings(capture=True)
    _take_over_last_words()


def _take_over_last_words() -> None:
    """What the interpreter itself would print as bare text, when an error reaches it that nobody caught."""
    log = structlog.get_logger("process")

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("error nobody caught", reason=str(error), exc_info=(kind, error, trace))

    def in_a_thread(told: threading.ExceptHookArgs) -> None:
        log.error("error in a thread", reason=str(told.exc_value), exc_info=told.exc_value)

    def nowhere(told: "sys.UnraisableHookArgs") -> None:
        log.error("error nobody could catch", reason=str(told.exc_value), exc_info=told.exc_value)

    sys.excepthook, sys.unraisablehook, threading.excepthook = uncaught, nowhere, in_a_thread


class _Library(logging.Handler):
    """Carries what libraries log over into our form."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, "library", said=record.getMessage(), logger=record.name, exc_info=record.exc_info)


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
