"""Small images made in a test: a layer, a configuration and a manifest, and a registry that serves them."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(content: bytes) -> str:
    """`sha256:...`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tar_of(files: Mapping[str, bytes], links: Mapping[str, str] | None = None, mode: int = 0o755) -> bytes:
    """A tar file with these files and symbolic links; the same content is the same bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return packed.getvalue()


def layer_of(files: Mapping[str, bytes], links: Mapping[str, str] | None = None, mode: int = 0o755) -> bytes:
    """The same as a gzip layer."""
    return gzip.compress(tar_of(files, links, mode), mtime=0)


@dataclass(frozen=True)
class Image:
    """A manifest with the blobs it refers to."""

    manifest: bytes
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def image_of(
    layers: Sequence[bytes], config: dict[str, Any] | None = None, platform: str = "linux/amd64", **more: Any
) -> Image:
    """An image of these gzip layers; its configuration holds `more` besides."""
    diff_ids = [digest_of(gzip.decompress(layer)) for layer in layers]
    os, _, architecture = platform.partition("/")
    described = orjson.dumps(
        {
            "architecture": architecture,
            "os": os,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            **more,
        }
    )
    manifest = orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, described),
            "layers": [descriptor(LAYER, layer) for layer in layers],
        }
    )
    return Image(manifest, {digest_of(content): content for content in (described, *layers)})


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    """An OCI descriptor of a content."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


@dataclass
class ReadOnlyRegistry:
    """Serves images by name and tag, to anybody; counts what was asked for."""

    images: dict[tuple[str, str], Image] = field(default_factory=dict[tuple[str, str], Image])
    asked: list[str] = field(default_factory=list[str])

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v2/{name:.+}/manifests/{reference}", self._manifest)
        app.router.add_get("/v2/{name:.+}/blobs/{digest}", self._blob)
        return app

    async def _manifest(self, request: web.Request) -> web.Response:
        name, reference = request.match_info["name"], request.match_info["reference"]
        self.asked.append(f"{name}/manifests/{reference}")
        for (known, tag), image in self.images.items():
            if known == name and reference in {tag, image.digest}:
                return web.Response(body=image.manifest, content_type=MANIFEST)
        raise web.HTTPNotFound

    async def _blob(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        self.asked.append(digest)
        for (known, _), image in self.images.items():
            if known == request.match_info["name"] and digest in image.blobs:
                return web.Response(body=image.blobs[digest])
        raise web.HTTPNotFound
