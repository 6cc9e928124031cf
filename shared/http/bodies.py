"""Bodies of calls: JSON that is read once, within bounds, and refused with a clear sentence."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast, overload

import orjson
from aiohttp import ClientError, hdrs, web
from aiohttp.http import HttpProcessingError
from pydantic import BaseModel, ValidationError

from shared.http.errors import InvalidArgument, PayloadTooLarge, Unavailable
from shared.http.inflow import inflow_of
from shared.http.translation import UnsupportedMediaType, invalid

DEPTH = 64
STALL_SECONDS = 60.0

M = TypeVar("M", bound=BaseModel)


@overload
async def json_body(request: web.Request, model: type[M], limit: int = ..., *, strict: bool = ...) -> M: ...


@overload
async def json_body(
    request: web.Request, model: None = None, limit: int = ..., *, strict: bool = ...
) -> dict[str, Any]: ...


async def json_body(
    request: web.Request, model: type[BaseModel] | None = None, limit: int = 1024 * 1024, *, strict: bool = False
) -> BaseModel | dict[str, Any]:
    """The body as a JSON object, or as a `model` made of it; an empty body is an empty object.

    `strict` refuses an object that says a name twice: for whatever is signed or hashed later.
    Raises InvalidArgument, PayloadTooLarge.
    """
    content = json_object(await body_of(request, limit), strict=strict)
    return content if model is None else validated(model, content)


async def body_of(request: web.Request, limit: int) -> bytes:
    """A small body whole. Raises PayloadTooLarge as soon as it is longer than `limit`."""
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedMediaType("Bodies are taken without a Content-Encoding only.")
    pieces: list[bytes] = []
    size = 0
    async for piece in streamed(request):
        size += len(piece)
        if size > limit:
            raise PayloadTooLarge(f"The body is longer than {limit} bytes.")
        pieces.append(piece)
    return b"".join(pieces)


async def streamed(request: web.Request, stall: float = STALL_SECONDS) -> AsyncIterator[bytes]:
    """The body in pieces as they come. Raises Unavailable when the sender falls silent or goes away."""
    try:
        content = inflow_of(request) or request.content
        while not content.at_eof():
            piece = content.read_nowait()  # most small bodies have come with their headers
            if not piece:
                async with asyncio.timeout(stall):
                    piece = await content.readany()
            if piece:
                yield piece
    except TimeoutError as error:
        raise Unavailable("The body stopped coming.") from error
    except (ClientError, ConnectionError, HttpProcessingError) as error:
        raise InvalidArgument("The body broke off.") from error


def json_object(content: bytes, *, strict: bool = False) -> dict[str, Any]:
    """A JSON object from bytes; raises InvalidArgument for anything else."""
    if not content.strip():
        return {}
    _refuse_depth(content)
    try:
        found = orjson.loads(content)
        if strict:
            json.loads(content, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # what orjson raises is one; so are the numbers json has too many of
        raise InvalidArgument(f"The body is not JSON: {str(error)[:160]}") from error
    if not isinstance(found, dict):
        raise InvalidArgument("The body is not a JSON object.")
    return cast("dict[str, Any]", found)


def validated(model: type[M], content: dict[str, Any]) -> M:
    """A model made of JSON data; raises InvalidArgument that names the fields, never their values."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise invalid(error) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidArgument("The body says a name twice in one object.")
    return found


def _refuse_depth(content: bytes) -> None:
    """Cheap and on the safe side: brackets in strings count too, when there are more of them than any body needs."""
    if content.count(b"{") + content.count(b"[") <= DEPTH:
        return
    depth = 0
    quoted = escaped = False
    for byte in content:
        if quoted:
            escaped, quoted = (byte == 0x5C and not escaped), (byte != 0x22 or escaped)
        elif byte == 0x22:
            quoted = True
        elif byte in b"{[":
            depth += 1
            if depth > DEPTH:
                raise InvalidArgument(f"The body is nested deeper than {DEPTH}.")
        elif byte in b"}]":
            depth -= 1
