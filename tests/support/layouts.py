"""Images written as OCI layouts in a folder: what tests copy, push and pull."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.digest import Digest

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar file with these members, always the same bytes for the same members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


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
        digest = Digest.of(content)
        (self.folder / "blobs" / "sha256" / digest.hex).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def image(self, layers: list[Mapping[str, bytes]], platform: str = "linux/amd64", **config: Any) -> dict[str, Any]:
        """One platform's image from the files of its layers; returns the manifest's descriptor."""
        tars = [tar_of(files) for files in layers]
        os, _, architecture = platform.partition("/")
        described = {
            "os": os,
            "architecture": architecture,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(json.dumps(described).encode(), CONFIG),
            "layers": [self.blob(gzip.compress(tar, mtime=0), LAYER) for tar in tars],
        }
        return self.blob(json.dumps(manifest).encode(), MANIFEST)

    def index(self, images: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """An index of images by platform; returns its descriptor."""
        entries: list[dict[str, Any]] = []
        for platform, descriptor in images.items():
            os, _, architecture = platform.partition("/")
            entries.append({**descriptor, "platform": {"os": os, "architecture": architecture}})
        return self.blob(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode(), INDEX)

    def name(self, descriptor: dict[str, Any], name: str) -> Digest:
        """Enter an image in the layout's index; returns its digest."""
        annotations = {"org.opencontainers.image.ref.name": name}
        self._entries.append({**descriptor, "annotations": annotations})
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self._entries}))
        return Digest.parse(str(descriptor["digest"]))
