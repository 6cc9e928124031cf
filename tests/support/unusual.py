"""Images of the less usual kinds, in an OCI layout: what real clients push, copy and pull besides plain ones."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import zstandard

from shared.digest import Digest
from tests.support.images import CONFIG, LAYER, MANIFEST, descriptor, digest_of, tar_of
from tests.support.layouts import LayoutWriter

ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
SBOM = "application/vnd.test.sbom"
MOTD = {"etc/motd": b"all aboard\n" * 500}


def zstd(layout: LayoutWriter, name: str = "zstd") -> Digest:
    """An image whose layer is compressed by zstd."""
    plain = tar_of(MOTD)
    layer = layout.blob(zstandard.compress(plain), ZSTD)
    return layout.name(_image(layout, [layer], [plain]), name)


@dataclass
class Elsewhere:
    """A layer that another server has."""

    plain: bytes
    layer: bytes
    address: str = ""
    asked: int = 0

    @property
    def digest(self) -> str:
        """The layer's."""
        return digest_of(self.layer)


@contextmanager
def served_elsewhere() -> Iterator[Elsewhere]:
    """A layer with a server of its own, for as long as the block lasts."""
    plain = tar_of({"windows/kernel": b"not to be passed on" * 100})
    found = Elsewhere(plain, gzip.compress(plain, mtime=0))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(found.layer)))
            self.end_headers()
            self.wfile.write(found.layer)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.address = f"http://127.0.0.1:{server.server_address[1]}/layer"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def foreign(layout: LayoutWriter, elsewhere: Elsewhere, name: str = "foreign") -> Digest:
    """An image whose first layer lies elsewhere and is not in the layout."""
    first = {**descriptor(FOREIGN, elsewhere.layer), "urls": [elsewhere.address]}
    own = tar_of(MOTD)
    second = layout.blob(gzip.compress(own, mtime=0), LAYER)
    return layout.name(_image(layout, [first, second], [elsewhere.plain, own]), name)


def nested(layout: LayoutWriter, name: str = "nested") -> Digest:
    """An index that lists an index of two platforms."""
    images = {platform: layout.image([{"etc/platform": platform.encode()}], platform) for platform in _PLATFORMS}
    inner = layout.index(images)
    body = {"schemaVersion": 2, "mediaType": inner["mediaType"], "manifests": [inner]}
    return layout.name(layout.blob(orjson.dumps(body), inner["mediaType"]), name)


def artifact(layout: LayoutWriter, name: str = "artifact", subject: dict[str, Any] | None = None) -> Digest:
    """An artifact without layers, perhaps about a subject."""
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": SBOM,
        "config": layout.blob(b"{}", EMPTY),
        "layers": [],
    }
    found = body | ({"subject": subject} if subject else {})
    return layout.name(layout.blob(orjson.dumps(found), MANIFEST), name)


_PLATFORMS = ("linux/amd64", "linux/arm64")


def _image(layout: LayoutWriter, layers: list[dict[str, Any]], plain: list[bytes]) -> dict[str, Any]:
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(each) for each in plain]},
    }
    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.blob(orjson.dumps(config), CONFIG),
        "layers": layers,
    }
    return layout.blob(orjson.dumps(body), MANIFEST)
