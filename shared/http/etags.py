"""Etags: who changes a thing says which state of it they saw."""

import base64
import hashlib
from typing import Any

import orjson

from shared.http.errors import Aborted


def etag_of(content: dict[str, Any] | bytes) -> str:
    """The etag of a thing: the same content has the same etag, whatever the order of its fields.

    Clients decode and encode it again, some with the alphabet for URLs. Base64 of hexadecimal digits is the same in
    both: it has no letter in which they differ.
    """
    data = content if isinstance(content, bytes) else orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return base64.b64encode(hashlib.sha256(data).hexdigest()[:18].encode()).decode()


def require_etag(given: str, current: str) -> None:
    """Raise Aborted when the caller saw another state than the present one; without an etag anything goes."""
    if given and given.strip('"') != current:
        raise Aborted("The etag is not the present one: read again and decide anew.")
