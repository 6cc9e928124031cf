"""Images written as OCI layouts in a folder: what tests copy, push and pull."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from shared.digest import Digest
from tests.support.images import Image, descriptor, image_of, layer_of

INDEX = "application/vnd.oci.image.index.v1+json"


class LayoutWriter:
    """Writes images into an OCI layout in a folder."""

    def __init__(self, folder: Path) -> None:
        """The folder is made."""
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self._entries: list[dict[str, Any]] = []

    def blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        """Store bytes; returns their descriptor."""
        (self.folder / "blobs" / "sha256" / Digest.of(content).hex).write_bytes(content)
        return descriptor(media_type, content)

    def add(self, image: Image) -> dict[str, Any]:
        """Store an image; returns its manifest's descriptor."""
        for content in image.blobs.values():
            self.blob(content, "")
        return self.blob(image.manifest, orjson.loads(image.manifest)["mediaType"])

    def image(self, layers: list[Mapping[str, bytes]], platform: str = "linux/amd64", **config: Any) -> dict[str, Any]:
        """One platform's image from the files of its layers; returns the manifest's descriptor."""
        return self.add(image_of([layer_of(files) for files in layers], config, platform))

    def index(self, images: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """An index of images by platform; returns its descriptor."""
        entries: list[dict[str, Any]] = []
        for platform, found in images.items():
            os, _, architecture = platform.partition("/")
            entries.append({**found, "platform": {"os": os, "architecture": architecture}})
        return self.blob(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode(), INDEX)

    def name(self, found: dict[str, Any], name: str) -> Digest:
        """Enter an image in the layout's index; returns its digest."""
        annotations = {"org.opencontainers.image.ref.name": name}
        self._entries.append({**found, "annotations": annotations})
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self._entries}))
        return Digest.parse(str(found["digest"]))
