"""Takes secrets out of what is logged, audited and answered: by the names of fields, and by what secrets look like."""

import re
from functools import lru_cache
from typing import Any, Final, cast

import orjson

MAX_PART: Final = 12 * 1024
"""Bytes of JSON that a request or response in an audit entry may have; of longer ones the fields that fit are kept."""
MAX_TEXT: Final = 2048
REDACTED: Final = "[redacted]"

_SECRET_NAME = re.compile(
    r"password|passwd|secret(?!manager|_?id$|_?env)|(?<!page)token(?!_?uri|_?type)|assertion|private_?key|authorization"
    r"|credential|cookie|signed_?ur[il]|api_?key|^payload$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END[A-Z -]*|\Z)"
    r"|\b(?:Bearer|Basic)\s+[\w.~+/=-]{8,}"
    r"|[?&](?:X-Amz-Signature|X-Amz-Credential|X-Goog-Signature|Signature|sig|token|access_token|_state)=[^&\s\"']+",
    re.IGNORECASE,
)


def capped(content: dict[str, Any]) -> dict[str, Any]:
    """The content without secrets and not longer than an entry may hold; what was left out is named."""
    clean = cast("dict[str, Any]", redacted(content))
    if len(orjson.dumps(clean)) <= MAX_PART:
        return clean
    kept: dict[str, Any] = {}
    left: list[str] = []
    room = MAX_PART - 1024
    for name, value in clean.items():
        size = len(orjson.dumps({name: value}))
        if size <= room:
            kept[name] = value
            room -= size
        else:
            left.append(name[:64])
    return kept | {"@truncated": left[:8]}


def redacted(value: Any, depth: int = 0) -> Any:
    """JSON-ready data with everything in it replaced that is, or looks like, a secret."""
    match value:
        case dict() | list() | tuple() if depth > 32:
            return REDACTED
        case dict():
            items = cast("dict[object, Any]", value).items()
            return {well_formed(str(name)): _named(str(name), inner, depth) for name, inner in items}
        case list() | tuple():
            return [redacted(inner, depth + 1) for inner in cast("list[Any]", value)]
        case str():
            return redacted_text(value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…")
        case int() | float() | None:
            return value if _fits(value) else str(value)
        case _:
            return redacted_text(str(value)[:MAX_TEXT])


def _fits(number: float | None) -> bool:
    """JSON's writer knows numbers of 64 bits."""
    return not isinstance(number, int) or -(2**63) <= number < 2**64


def _named(name: str, value: Any, depth: int) -> Any:
    if _is_secret(name) and not isinstance(value, bool):
        return REDACTED
    return redacted(value, depth + 1)


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def redacted_text(text: str) -> str:
    """A text without tokens, private keys and signatures of addresses."""
    if text.isascii():
        small = text.lower()
        # Without one of these marks there is nothing that the pattern finds, which takes far longer to say so.
        if not ("=" in small or "eyj" in small or "bearer" in small or "basic" in small or "-----begin" in small):
            return text
    return _SECRET_VALUE.sub(REDACTED, well_formed(text))


def well_formed(text: str) -> str:
    """A text that can be written as UTF-8; what came over the wire as other bytes is replaced."""
    if text.isascii():
        return text
    return text.encode(errors="replace").decode()
