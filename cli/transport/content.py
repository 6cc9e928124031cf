"""What images are made of, and the two faces of a place: one gives them, one takes them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from cli.exits import Failed
from shared.digest import Digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
KINDS = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)

PIECE = 1024 * 1024
LARGEST_MANIFEST = 4 * 1024 * 1024


@dataclass(frozen=True)
class Descriptor:
    """What a manifest says about something it refers to."""

    media_type: str
    digest: Digest
    size: int
    platform: str = ""
    """`os/architecture` or `os/architecture/variant`, in an index."""
    elsewhere: bool = False
    """A layer that registries do not keep, with addresses of its own."""

    @classmethod
    def parse(cls, found: dict[str, Any]) -> "Descriptor":
        """Read a descriptor; raises Failed when it is none."""
        try:
            platform = cast("dict[str, Any]", found.get("platform") or {})
            parts = [platform.get(name, "") for name in ("os", "architecture", "variant")]
            media_type = str(found.get("mediaType", ""))
            return cls(
                media_type,
                Digest.parse(str(found["digest"])),
                int(found["size"]),
                "/".join(str(part) for part in parts if part),
                "foreign" in media_type or "nondistributable" in media_type,
            )
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise Failed(f"the manifest has a descriptor that cannot be read: {error!r}") from error


@dataclass(frozen=True)
class Manifest:
    """A manifest or an index, byte for byte."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> Digest:
        """What it is known by."""
        return Digest.of(self.content)

    @property
    def is_index(self) -> bool:
        """Whether it lists other manifests."""
        return self.media_type in INDEXES

    def document(self) -> dict[str, Any]:
        """The parsed JSON; raises Failed when it is none."""
        try:
            found = json.loads(self.content)
        except (ValueError, RecursionError) as error:
            raise Failed("the manifest is not JSON") from error
        if not isinstance(found, dict):
            raise Failed("the manifest is not a JSON object")
        return cast("dict[str, Any]", found)

    def children(self) -> list[Descriptor]:
        """The manifests that an index lists."""
        return self._descriptors("manifests") if self.is_index else []

    def blobs(self) -> list[Descriptor]:
        """Config and layers, each once, without those that registries do not keep."""
        if self.is_index:
            return []
        config = self.document().get("config")
        parts = [Descriptor.parse(cast("dict[str, Any]", config))] if isinstance(config, dict) else []
        parts += self._descriptors("layers")
        return list({part.digest: part for part in parts if not part.elsewhere}.values())

    def _descriptors(self, name: str) -> list[Descriptor]:
        found = cast("Any", self.document().get(name) or [])
        if not isinstance(found, list):
            raise Failed(f"`{name}` in the manifest is not a list")
        return [Descriptor.parse(cast("dict[str, Any]", item)) for item in cast("list[Any]", found)]


def media_type_of(content: bytes, said: str = "") -> str:
    """The kind of a manifest: as it was said, or as the document itself says, or by what it has."""
    document = Manifest("", content).document()
    said = said.partition(";")[0].strip()
    for claim in (said, str(document.get("mediaType", ""))):
        if claim in KINDS:
            return claim
    if document.get("schemaVersion") == 1:
        raise Failed("the image has a manifest of schema 1, which nobody has written for years")
    return OCI_INDEX if "manifests" in document else OCI_MANIFEST


class Source(Protocol):
    """A place to copy from."""

    def manifest(self, digest: Digest | None) -> Manifest:
        """The manifest with that digest, or the one that was named; raises Missing."""
        ...

    def blob(self, wanted: Descriptor) -> AbstractContextManager[Iterable[bytes]]:
        """The bytes of a blob in pieces, as they are; whoever reads them checks them."""
        ...


class Target(Protocol):
    """A place to copy to. Blobs come before the manifests that name them, and the topmost manifest last."""

    def has(self, wanted: Descriptor) -> bool:
        """Whether the blob is there already."""
        ...

    def put_blob(self, described: Descriptor, pieces: Iterable[bytes]) -> None:
        """Store a blob; `pieces` raises when the bytes are not those described."""
        ...

    def put_manifest(self, manifest: Manifest, *, topmost: bool) -> None:
        """Store a manifest; the topmost gets the name."""
        ...

    def finish(self) -> None:
        """Everything is there."""
        ...


def checked(described: Descriptor, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Hand pieces through; raises Failed at the end unless they are what was described."""
    running, size = hashlib.new(described.digest.algorithm), 0
    for piece in pieces:
        running.update(piece)
        size += len(piece)
        if size > described.size:
            break
        yield piece
    if size != described.size or running.hexdigest() != described.digest.hex:
        raise Failed(f"the source gave other bytes than {described.digest} ({size} of {described.size})")
