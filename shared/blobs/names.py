"""Which object names and upload ids there may be: checked before they become a path or an address."""

import re

_SEGMENT = re.compile(r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._\-=+@,!;$%]{1,250}")
_NAME = re.compile(rf"{_SEGMENT.pattern}(?:/{_SEGMENT.pattern})*")
_MOST = 1000


def checked(name: str) -> str:
    """`name`, when it may name an object; raises ValueError otherwise, so that no name leads out of the bucket."""
    if len(name) > _MOST or not _NAME.fullmatch(name):
        raise ValueError(f"not an object name: {name[:200]!r}")
    return name


def checked_upload(upload: str) -> str:
    """`upload`, when it may be the id of a staged upload; raises ValueError otherwise."""
    if not _SEGMENT.fullmatch(upload):
        raise ValueError(f"not an upload id: {upload[:200]!r}")
    return upload
