"""What the client of the real services pushes and imports: small images, and advisories about some of them."""

from collections.abc import Mapping
from functools import cache

import orjson

from tests.support.images import Image, image_of, layer_of
from tests.support.scans import CRITICAL, DEBIAN_12, dpkg_status, metadata, osv

IMAGES = 6
_PACKAGES = "usr/local/lib/python3.11/site-packages"


@cache
def image(number: int) -> Image:
    """An image of two layers: Debian, which all have, and version `number` of a Python package."""
    base = layer_of({"etc/os-release": DEBIAN_12, "var/lib/dpkg/status": dpkg_status(("bash", "5.2.15-2", ""))})
    file = f"{_PACKAGES}/greeting-{number}.0.dist-info/METADATA"
    return image_of([base, layer_of({file: metadata("greeting", f"{number}.0")})])


@cache
def number_of(digest: str) -> int:
    """Which of the images has this digest."""
    return next(number for number in range(IMAGES) if image(number).digest == digest)


@cache
def feed(edition: int) -> bytes:
    """Advisories: the second edition knows one more."""
    early = osv("PYSEC-1", "PyPI", "greeting", {"introduced": "0"}, {"fixed": "2.0"}, vector=CRITICAL)
    late = osv("PYSEC-2", "PyPI", "greeting", {"introduced": "4.0"}, {"fixed": "5.0"}, vector=CRITICAL)
    return orjson.dumps([early, late][:edition])


def counts(number: int, edition: int) -> Mapping[str, int]:
    """What a scan of an image finds by an edition of the advisories."""
    affected = number < 2 or (edition == 2 and number == 4)
    return {"CRITICAL": 1} if affected else {}


ATTESTORS = {
    "quality": {"maximumFixableSeverity": "LOW", "maximumUnfixableSeverity": "LOW"},
    "presence": {"maximumFixableSeverity": "ALLOW_ALL", "maximumUnfixableSeverity": "ALLOW_ALL"},
}
"""Attestors and their thresholds: one vouches for what has no finding, the other for all that was scanned."""


def vouches(attestor: str, found: Mapping[str, int]) -> bool:
    """Whether an attestor signs an image in which this was found."""
    return attestor == "presence" or not found
