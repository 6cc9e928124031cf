"""A package as one file of a layer names it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["deb", "pypi", "npm"]


class Package(BaseModel):
    """A name and a version, as installed; for a Debian package also the source it was built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    name: str
    version: str
    source: str = ""
    source_version: str = ""


class NotReadable(ValueError):
    """A file that should describe packages does not; the message says why."""


def sane(text: str, limit: int = 256) -> str:
    """A name or version, when it can be one; raises NotReadable."""
    text = text.strip()
    if not text or len(text) > limit or not text.isprintable():
        raise NotReadable("a package's name or version is missing, too long or not printable")
    return text
