"""The order of Debian's versions: epoch, upstream version, revision, as dpkg compares them."""

import re

from services.scanner.versions.digits import VersionInvalid, number_key

_FORM = re.compile(r"(?:([0-9]+):)?([A-Za-z0-9.+~:-]+)")
_RUN = re.compile(r"([^0-9]*)([0-9]*)")
_END = b"\x02"
"""Sorts behind `~` and before every letter."""


def debian_key(version: str) -> bytes:
    """The key of a version. Raises VersionInvalid."""
    found = _FORM.fullmatch(version.strip())
    if found is None:
        raise VersionInvalid(f"not a Debian version: {version[:80]!r}")
    upstream, _, revision = found[2].rpartition("-") if "-" in found[2] else (found[2], "", "")
    if not upstream:
        raise VersionInvalid(f"not a Debian version: {version[:80]!r}")
    return number_key(found[1] or "") + _part(upstream) + _part(revision or "0")


def _part(text: str) -> bytes:
    key = bytearray()
    for signs, digits in _RUN.findall(text):
        if signs or digits:
            key += bytes(map(_sign, signs)) + _END + number_key(digits)
    return bytes(key + _END)


def _sign(sign: str) -> int:
    """`~` first, then the end of a part, then letters, then all other signs."""
    if sign == "~":
        return 1
    return ord(sign) - 62 if sign.isalpha() else ord(sign) + 128
