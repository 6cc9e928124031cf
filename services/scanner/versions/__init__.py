"""Versions as byte keys: of two keys of one ecosystem the smaller belongs to the smaller version."""

from collections.abc import Callable
from functools import lru_cache

from services.scanner.versions.debian import debian_key
from services.scanner.versions.digits import VersionInvalid
from services.scanner.versions.pypi import pypi_key
from services.scanner.versions.semver import semver_key

__all__ = ["VersionInvalid", "can_order", "key_of"]

_KEYS: dict[str, Callable[[str], bytes]] = {
    "Debian": debian_key,
    "Ubuntu": debian_key,
    "PyPI": pypi_key,
    "npm": semver_key,
    "Go": semver_key,
    "crates.io": semver_key,
}


def can_order(ecosystem: str) -> bool:
    """Whether versions of that OSV ecosystem can be ordered here."""
    return ecosystem.partition(":")[0] in _KEYS


def key_of(ecosystem: str, version: str) -> bytes:
    """The key of a version. Raises VersionInvalid when it is malformed, KeyError for an unknown ecosystem."""
    return _key(ecosystem.partition(":")[0], version)


@lru_cache(maxsize=65_536)
def _key(family: str, version: str) -> bytes:
    return _KEYS[family](version)
