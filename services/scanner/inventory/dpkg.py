"""Debian packages: the status file of dpkg, or one file each in status.d, as small images have them."""

import re
from collections.abc import Iterator

from services.scanner.inventory.package import NotReadable, Package, sane

STATUS = "var/lib/dpkg/status"
STATUS_FOLDER = "var/lib/dpkg/status.d/"
LISTS = re.compile(r"var/lib/dpkg/info/[^/]+\.list|var/lib/dpkg/status\.d/[^/]+\.md5sums")

_FIELD = re.compile(rb"^(Package|Version|Source|Status):[ \t]*(.*)$", re.MULTILINE)
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
_SOURCE = re.compile(r"(\S+)(?:\s+\(([^()\s]+)\))?")
_LANGUAGE_FILE = re.compile(
    rb"^(?:[0-9a-f]{32}  )?/?(\S*(?:\.dist-info/METADATA|\.egg-info(?:/PKG-INFO)?|/package\.json))$", re.MULTILINE
)


def packages(content: bytes) -> Iterator[Package | None]:
    """The installed packages of a status file, or of one file of status.d; None for each malformed paragraph.

    One by one, so that whoever has heard enough can stop.
    """
    for paragraph in _paragraphs(content):
        fields = {found[1].decode(): found[2].decode(errors="replace").strip() for found in _FIELD.finditer(paragraph)}
        if fields and _installed(fields.get("Status")):
            try:
                yield _package(fields)
            except NotReadable:
                yield None


def owned_language_files(content: bytes) -> Iterator[str]:
    """Of the files that a list says its package owns, those that describe packages of Python or Node.js."""
    return (found[1].decode(errors="replace") for found in _LANGUAGE_FILE.finditer(content))


def _paragraphs(content: bytes) -> Iterator[bytes]:
    start = 0
    for gap in _BLANK_LINE.finditer(content):
        yield content[start : gap.start()]
        start = gap.end()
    yield content[start:]


def _installed(status: str | None) -> bool:
    """A removed package may keep its paragraph; files of status.d have no status."""
    return status is None or status.split()[-1:] == ["installed"]


def _package(fields: dict[str, str]) -> Package:
    name, version = sane(fields.get("Package", "")), sane(fields.get("Version", ""))
    source = _SOURCE.fullmatch(fields.get("Source", "") or name)
    if source is None:
        raise NotReadable("a package's source is malformed")
    return Package(kind="deb", name=name, version=version, source=sane(source[1]), source_version=source[2] or version)
