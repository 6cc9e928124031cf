"""Errors in google.rpc's words: what went wrong, and how an answer says so."""

from typing import Any, ClassVar


class ApiError(Exception):
    """A refusal with a google.rpc code; the message is for the caller and holds no secret."""

    rpc: ClassVar[str] = "UNKNOWN"
    code: ClassVar[int] = 2
    """The number of the google.rpc code."""
    http: ClassVar[int] = 500

    def __init__(self, message: str, *details: dict[str, Any], retry_after: int | None = None) -> None:
        """`details` are google.rpc detail messages with `@type`; `retry_after` is in seconds."""
        super().__init__(message)
        self.details = details
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The JSON body that Google's clients read."""
        error: dict[str, Any] = {"code": self.http, "message": str(self), "status": self.rpc}
        if self.details:
            error["details"] = list(self.details)
        return {"error": error}


class InvalidArgument(ApiError):
    """The request itself is wrong, whatever the state of things."""

    rpc, code, http = "INVALID_ARGUMENT", 3, 400


class FailedPrecondition(ApiError):
    """The thing is not in a state in which this can be done."""

    rpc, code, http = "FAILED_PRECONDITION", 9, 400


class Unauthenticated(ApiError):
    """The credentials are missing, wrong or expired."""

    rpc, code, http = "UNAUTHENTICATED", 16, 401


class InsufficientScope(Unauthenticated):
    """The token is good, but limited to less than this needs: fetch a wider one."""


class PermissionDenied(ApiError):
    """The caller is known and may not."""

    rpc, code, http = "PERMISSION_DENIED", 7, 403


class NotFound(ApiError):
    """There is no such thing, or the caller may not know that there is."""

    rpc, code, http = "NOT_FOUND", 5, 404


class AlreadyExists(ApiError):
    """There is such a thing already."""

    rpc, code, http = "ALREADY_EXISTS", 6, 409


class Aborted(ApiError):
    """Somebody else was faster, or the etag is not the present one: read again and decide anew."""

    rpc, code, http = "ABORTED", 10, 409


class PayloadTooLarge(ApiError):
    """The body is over the limit."""

    rpc, code, http = "INVALID_ARGUMENT", 3, 413


class ResourceExhausted(ApiError):
    """A quota or a rate limit is used up."""

    rpc, code, http = "RESOURCE_EXHAUSTED", 8, 429


class Unimplemented(ApiError):
    """A method or field of Google's that this service does not have."""

    rpc, code, http = "UNIMPLEMENTED", 12, 501


class Unavailable(ApiError):
    """State, bus or bucket is away for the moment; nothing is known to have changed. Retry."""

    rpc, code, http = "UNAVAILABLE", 14, 503


class DeadlineExceeded(ApiError):
    """The call took longer than it may; whether it took effect is unknown."""

    rpc, code, http = "DEADLINE_EXCEEDED", 4, 504


class Internal(ApiError):
    """A defect of ours; what it was stands in the log under the request's id, never in the answer."""

    rpc, code, http = "INTERNAL", 13, 500
