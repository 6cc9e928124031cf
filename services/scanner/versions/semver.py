"""The order of semantic versions, as npm's own comparison has it; build metadata means nothing."""

import re

from services.scanner.versions.digits import VersionInvalid, number_key

_FORM = re.compile(
    r"[v=\s]*([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]*)?\s*"
)
_END, _NUMBER, _WORD, _RELEASE = b"\x00", b"\x01", b"\x02", b"\x03"


def semver_key(version: str) -> bytes:
    """The key of a version; missing numbers are 0. Raises VersionInvalid."""
    found = _FORM.fullmatch(version) if len(version) <= 256 else None
    if found is None:
        raise VersionInvalid(f"not a semantic version: {version[:80]!r}")
    numbers = b"".join(number_key(found[place] or "0") for place in (1, 2, 3))
    return numbers + (_RELEASE if found[4] is None else _before_release(found[4]))


def _before_release(words: str) -> bytes:
    """Numbers before words, fewer before more, and all of them before the release."""
    parts = (
        _NUMBER + number_key(word) if word.isdigit() else _WORD + word.encode() + _END for word in words.split(".")
    )
    return b"".join(parts) + _END
