"""Lists in pages: size and position in, an opaque token for the next page out."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from shared.http.errors import InvalidArgument

T = TypeVar("T")

MAX_TOKEN = 4096


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted."""

    size: int
    after: str = ""
    """The last name of the page before; empty: from the beginning."""


def page_of(request: web.Request, default: int = 100, most: int = 1000) -> Page:
    """The page that `pageSize` and `pageToken` ask for; more than `most` is answered with `most`."""
    size = _size(request.query.get("pageSize", ""), default)
    return Page(min(size, most), after_of(request.query.get("pageToken", "")))


def listed(request: web.Request, field: str, found: Mapping[str, T], told: Callable[[T], object]) -> dict[str, object]:
    """The answer to a list: the page that is asked for of what was found by name, and the token for the next one."""
    page = page_of(request)
    names = sorted(name for name in found if name > page.after)[: page.size + 1]
    body: dict[str, object] = {field: [told(found[name]) for name in names[: page.size]]}
    return body | ({"nextPageToken": next_token(names[page.size - 1])} if len(names) > page.size else {})


def next_token(last: str) -> str:
    """The token for the page behind `last`; empty, as Google writes the end of a list, for an empty name."""
    return base64.urlsafe_b64encode(b"1" + last.encode()).decode().rstrip("=") if last else ""


def after_of(token: str) -> str:
    """What a token holds; raises InvalidArgument for one that was never given out."""
    if not token:
        return ""
    if len(token) > MAX_TOKEN or not token.isascii():
        raise InvalidArgument("pageToken is not one that was given out here.")
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        last = content[1:].decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidArgument("pageToken is not one that was given out here.") from error
    if next_token(last) != token:
        raise InvalidArgument("pageToken is not one that was given out here.")
    return last


def _size(text: str, default: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidArgument("pageSize must be a whole number of 0 or more.")
    return int(text) or default
