"""How places are written: `docker://HOST/NAME:TAG`, `oci:FOLDER:TAG`, `docker-archive:FILE:NAME:TAG` and the like."""

import re
from dataclasses import dataclass

from cli.exits import Failed
from shared.digest import Digest

_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?")


@dataclass(frozen=True)
class Remote:
    """An image in a registry."""

    host: str
    name: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def reference(self) -> str:
        """What stands behind `/manifests/`: the digest counts before the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.host}/{self.name}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"


@dataclass(frozen=True)
class Local:
    """An image in a folder or a file of this machine."""

    kind: str
    """`oci`, `oci-archive` or `docker-archive`."""
    path: str
    reference: str = ""


def parse(text: str) -> Remote | Local:
    """Read an address; raises Failed when it is none."""
    kind, found, rest = text.partition(":")
    if kind == "docker" and rest.startswith("//"):
        return parse_remote(rest.removeprefix("//"))
    if kind in ("oci", "oci-archive", "docker-archive") and found and rest:
        path, _, reference = rest.partition(":")
        if path:
            return Local(kind, path, reference)
    raise Failed(
        f"{text!r} is no place of an image: docker://HOST/NAME:TAG, oci:FOLDER:TAG, oci-archive:FILE:TAG "
        "or docker-archive:FILE:NAME:TAG"
    )


def parse_remote(text: str) -> Remote:
    """Read `HOST/NAME[:TAG][@DIGEST]`; raises Failed."""
    host, _, rest = text.partition("/")
    rest, _, digest = rest.partition("@")
    name, _, tag = rest.partition(":")
    if not _HOST.fullmatch(host) or not _NAME.fullmatch(name) or (tag and not _TAG.fullmatch(tag)):
        raise Failed(f"{text!r} is not HOST/NAME:TAG or HOST/NAME@sha256:…")
    try:
        return Remote(host, name, tag, Digest.parse(digest) if digest else None)
    except ValueError as error:
        raise Failed(str(error)) from error


def parse_registry(text: str) -> Remote:
    """Read `HOST` or `HOST/PREFIX`, with or without `docker://` before it; raises Failed."""
    host, _, name = text.removeprefix("docker://").rstrip("/").partition("/")
    if not _HOST.fullmatch(host) or (name and not _NAME.fullmatch(name)):
        raise Failed(f"{text!r} is not HOST or HOST/PREFIX")
    return Remote(host, name)
