"""Python packages: the metadata of installed distributions."""

import re

from services.scanner.inventory.package import NotReadable, Package, sane

FILES = re.compile(r"(?:.*/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)|(?:.*/)?EGG-INFO/PKG-INFO")

_NAME_RUNS = re.compile(r"[-_.]+")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
# The value is stripped by hand: a pattern that did it would take the square of a long run of spaces.
_FIELD = re.compile(rb"^(Name|Version)[ \t]*:([^\r\n]*)", re.MULTILINE | re.IGNORECASE)


def package(content: bytes) -> Package:
    """The package that a METADATA or PKG-INFO describes. Raises NotReadable."""
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(_HEADER_END.split(content, maxsplit=1)[0]):
        if text := value.decode(errors="replace").strip():
            fields.setdefault(name.decode().lower(), text)
    if len(fields) < 2:
        raise NotReadable("the metadata has no name or no version")
    return Package(kind="pypi", name=normalised(sane(fields["name"])), version=sane(fields["version"]))


def normalised(name: str) -> str:
    """The name that all spellings of a package share (PEP 503)."""
    return _NAME_RUNS.sub("-", name).lower()
