"""Errors as OCI distribution writes them, and the challenge that tells clients where to fetch which token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from services.registry import errors
from services.registry.names import ImageName
from shared.digest import Digest
from shared.http.errors import (
    Aborted,
    ApiError,
    FailedPrecondition,
    InsufficientScope,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from shared.http.middleware import Challenge
from shared.http.translation import MethodNotAllowed, as_api_error, google_error, json_answer, retry_headers

VERSION: Final = {"Docker-Distribution-Api-Version": "registry/2.0"}

_SPOKEN: Final[dict[type[ApiError], tuple[str, int]]] = {
    errors.NameInvalid: ("NAME_INVALID", 400),
    errors.NameUnknown: ("NAME_UNKNOWN", 404),
    errors.TagInvalid: ("TAG_INVALID", 400),
    errors.DigestInvalid: ("DIGEST_INVALID", 400),
    errors.SizeInvalid: ("SIZE_INVALID", 400),
    errors.PageInvalid: ("PAGINATION_NUMBER_INVALID", 400),
    errors.ManifestUnknown: ("MANIFEST_UNKNOWN", 404),
    errors.ManifestInvalid: ("MANIFEST_INVALID", 400),
    errors.ReferencesUnknown: ("MANIFEST_BLOB_UNKNOWN", 404),
    errors.BlobUnknown: ("BLOB_UNKNOWN", 404),
    errors.UploadUnknown: ("BLOB_UPLOAD_UNKNOWN", 404),
    errors.UploadInvalid: ("BLOB_UPLOAD_INVALID", 400),
    errors.ChunkOutOfOrder: ("BLOB_UPLOAD_INVALID", 416),
    errors.StillHeld: ("DENIED", 403),
    errors.QuotaExceeded: ("DENIED", 403),
    errors.TagOverwriteRefused: ("DENIED", 409),
    errors.TagDeletionRefused: ("DENIED", 403),
    Unauthenticated: ("UNAUTHORIZED", 401),
    PermissionDenied: ("DENIED", 403),
    FailedPrecondition: ("DENIED", 403),
    NotFound: ("NAME_UNKNOWN", 404),
    MethodNotAllowed: ("UNSUPPORTED", 405),
    Unimplemented: ("UNSUPPORTED", 405),
    PayloadTooLarge: ("SIZE_INVALID", 413),
    ResourceExhausted: ("TOOMANYREQUESTS", 429),
    Aborted: ("UNAVAILABLE", 503),
    Unavailable: ("UNAVAILABLE", 503),
    InvalidArgument: ("UNSUPPORTED", 400),
}


def is_oci(request: web.Request) -> bool:
    """Whether the request speaks OCI distribution."""
    return request.path == "/v2" or request.path.startswith("/v2/")


def spoken_error(request: web.Request, error: Exception) -> web.Response:
    """The answer in the form of whichever protocol the request speaks."""
    if not is_oci(request):
        return google_error(request, error)
    found = as_api_error(error)
    code, status = _code_and_status(found)
    missing: Sequence[Digest] = found.missing if isinstance(found, errors.ReferencesUnknown) else ()
    told: list[dict[str, object]] = [{"code": code, "message": str(found), "detail": {}}]
    if missing:
        told = [{"code": code, "message": "not held by the repository", "detail": {"digest": gone}} for gone in missing]
    return json_answer({"errors": told}, status, {**VERSION, **retry_headers(found)})


def _code_and_status(error: ApiError) -> tuple[str, int]:
    for kind in type(error).__mro__:
        if kind in _SPOKEN:
            return _SPOKEN[kind]
    return "UNKNOWN", error.http


@dataclass(frozen=True)
class Realm:
    """Where tokens are to be had."""

    address: str
    """Empty: the port beside the one the request came to."""
    service: str

    def of(self, request: web.Request) -> str:
        """The token endpoint's address as this client can reach it."""
        if self.address:
            return self.address
        return str(request.url.origin().with_port((request.url.port or 5000) + 1).with_path("/token"))


def challenge(realm: Realm) -> Challenge:
    """What a 401 says: fetch a token of this scope there."""

    def headers(request: web.Request, error: ApiError) -> Mapping[str, str]:
        parts = [f'realm="{realm.of(request)}"', f'service="{realm.service}"']
        scope = _scope(request)
        if scope:
            parts.append(f'scope="{scope}"')
        if isinstance(error, InsufficientScope):
            parts.append('error="insufficient_scope"')
        elif hdrs.AUTHORIZATION in request.headers:
            parts.append('error="invalid_token"')
        return {hdrs.WWW_AUTHENTICATE: f"Bearer {','.join(parts)}"}

    return headers


def _scope(request: web.Request) -> str:
    if request.path == "/v2/_catalog":
        return "registry:catalog:*"
    name = request.match_info.get("name", "")
    if not name:
        return ""
    actions = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(request.method, "pull,push")
    if request.method == "HEAD" and "digest" in request.match_info:
        # Who asks for a blob's head is about to push it; some clients keep the first token that they get.
        actions = "pull,push"
    scope = f"repository:{name}:{actions}"
    source = request.query.get("from", "")
    return f"{scope} repository:{source}:pull" if source and _is_name(source) else scope


def _is_name(text: str) -> bool:
    try:
        ImageName.parse(text)
    except errors.NameInvalid:
        return False
    return True
