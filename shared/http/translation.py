"""Every error as an answer: what services raise becomes a google.rpc error, and that becomes a body."""

from collections.abc import Callable

import orjson
from aiohttp import hdrs, web
from pydantic import ValidationError

from shared.blobs import BucketFull, BucketUnavailable
from shared.bus import BusUnavailable, StreamFull
from shared.events import EventTooLarge
from shared.http.errors import (
    Aborted,
    ApiError,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from shared.journal import JournalFull, JournalUnavailable
from shared.state.face import LaneFull, Moved, StateUnavailable

ErrorBody = Callable[[web.Request, Exception], web.Response]
"""Turns whatever a handler raised into the answer, in the protocol's own form."""

RETRY_SECONDS = 2

_AWAY: dict[type[Exception], str] = {
    StateUnavailable: "The state store does not answer at the moment.",
    LaneFull: "Too many announcements wait for the bus.",
    BusUnavailable: "The bus does not answer at the moment.",
    StreamFull: "The bus has no room at the moment.",
    BucketUnavailable: "The bucket does not answer at the moment.",
    BucketFull: "The bucket has no room at the moment.",
    JournalFull: "Too many audit entries wait for the bus.",
    JournalUnavailable: "The journal cannot be written at the moment.",
}


class MethodNotAllowed(ApiError):
    """The path is known, the verb is not."""

    rpc, code, http = "UNIMPLEMENTED", 12, 405


class UnsupportedMediaType(ApiError):
    """The body is of a type or encoding that is not read here."""

    rpc, code, http = "INVALID_ARGUMENT", 3, 415


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthenticated,
    404: NotFound,
    405: MethodNotAllowed,
    413: PayloadTooLarge,
    415: UnsupportedMediaType,
    429: ResourceExhausted,
    501: Unimplemented,
    503: Unavailable,
}


def as_api_error(error: Exception) -> ApiError:
    """What the caller may know of `error`; a defect of ours is Internal, without its text."""
    if isinstance(error, ApiError):
        return error
    match error:
        case Moved():
            return Aborted("Somebody else changed this at the same time: read again and retry.", retry_after=1)
        case ValidationError():
            return invalid(error)
        case web.HTTPException():
            return _from_aiohttp(error)
        case _:
            return _by_kind(error)


def _by_kind(error: Exception) -> ApiError:
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("The call took too long.")
    if isinstance(error, EventTooLarge):
        return InvalidArgument("The request is too large to be announced.")
    sentence = _AWAY.get(type(error))
    return Unavailable(sentence, retry_after=RETRY_SECONDS) if sentence else Internal("Internal error.")


def invalid(error: ValidationError) -> InvalidArgument:
    """What does not fit, field by field, and never the values: they may be secrets."""
    violations = [
        {"field": ".".join(map(str, found["loc"])), "description": found["msg"][:300]}
        for found in error.errors(include_url=False, include_context=False, include_input=False)[:20]
    ]
    where = "; ".join(f"{found['field'] or 'body'}: {found['description']}" for found in violations[:3])
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}
    return InvalidArgument(f"Invalid value: {where}", detail)


def google_error(request: web.Request, error: Exception) -> web.Response:
    """The answer that Google's clients read."""
    del request
    found = as_api_error(error)
    return json_answer(found.body(), found.http, retry_headers(found))


def retry_headers(error: ApiError) -> dict[str, str]:
    """Retry-After, where the error knows when."""
    return {} if error.retry_after is None else {hdrs.RETRY_AFTER: str(error.retry_after)}


def json_answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=orjson.dumps(body), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


def _from_aiohttp(error: web.HTTPException) -> ApiError:
    kind = _BY_STATUS.get(error.status) or (InvalidArgument if error.status < 500 else Internal)
    sentences: dict[int, str] = {
        404: "There is nothing at this address.",
        405: "This address does not take that verb.",
        413: "The body is too large.",
    }
    return kind(sentences.get(error.status, error.reason))
