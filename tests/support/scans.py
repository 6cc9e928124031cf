"""A scanner in memory with images in its bucket and advisories in its feeds."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.scanner.app import build
from shared.bus import Message
from shared.events import Event
from shared.events.images import ImageDeleted, ImagePushed
from shared.events.scans import AdvisoryUpdated
from shared.names import blob_object, manifest_object
from shared.parts import Parts
from tests.support.events import said
from tests.support.images import MANIFEST, Image, image_of, layer_of
from tests.support.parts import Client, MemoryParts, bearer, client_of, memory_parts

ADMIN = "user:admin@example.org"
PERMISSIONS = tuple(
    f"containeranalysis.{permission}"
    for permission in ("notes.create", "notes.list", "notes.get", "occurrences.list", "occurrences.get")
)
DEBIAN_12 = b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


def metadata(name: str, version: str) -> bytes:
    """A Python distribution's METADATA."""
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not this\n".encode()


def dpkg_status(*packages: tuple[str, str, str]) -> bytes:
    """A dpkg status file of packages with version and source field."""
    paragraphs: list[str] = []
    for name, version, source in packages:
        fields = [f"Package: {name}", "Status: install ok installed", f"Version: {version}"]
        paragraphs.append("\n".join([*fields, f"Source: {source}"] if source else fields) + "\n")
    return "\n".join(paragraphs).encode()


def osv(
    identity: str,
    ecosystem: str,
    name: str,
    *events: Mapping[str, str],
    vector: str = "",
    aliases: Sequence[str] = (),
    versions: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """An OSV record."""
    record: dict[str, Any] = {
        "id": identity,
        "modified": "2026-01-01T00:00:00Z",
        "aliases": list(aliases),
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": name},
                "ranges": [{"type": "ECOSYSTEM", "events": list(events)}] if events else [],
                "versions": list(versions),
            }
        ],
        **more,
    }
    if vector:
        record["severity"] = [{"type": "CVSS_V3", "score": vector}]
    return record


CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


@dataclass
class ScannerAtWork:
    """A scanner that hears, its face, and what it has said."""

    memory: MemoryParts
    client: Client
    _generation: int = 0
    _relayed: set[str] = field(default_factory=set)

    async def put_image(self, image: Image, project: str = "demo") -> None:
        """Lay an image's manifest and blobs into the bucket, as the registry does."""
        blobs = self.memory.parts.blobs
        for digest, content in image.blobs.items():
            await blobs.put(blob_object(project, digest), content)
        await blobs.put(manifest_object(project, image.digest), image.manifest)

    async def push(
        self, image: Image, *, project: str = "demo", repository: str = "web", name: str = "app", **more: Any
    ) -> ImagePushed:
        """Push an image and let it be heard."""
        await self.put_image(image, project)
        pushed = ImagePushed(
            project=project, location="local", repository=repository, image=name, digest=image.digest,
            media_type=more.pop("media_type", MANIFEST), size=1, uploaded="2026-01-01T00:00:00Z", **more,
        )  # fmt: skip
        await self.hear(pushed)
        return pushed

    async def delete(self, pushed: ImagePushed, generation: int | None = None) -> None:
        """Let the deletion of an image be heard."""
        deleted = ImageDeleted(**pushed.model_dump(include={"project", "location", "repository", "image", "digest"}))
        await self.hear(deleted, generation)

    async def hear(self, event: Event, generation: int | None = None, cause: str = "") -> None:
        """Publish an event and wait until it was handled."""
        self._generation += 1
        number = generation or self._generation
        self.publish(said(event, cause=cause or f"cause {self._generation}", generation=number))
        await self.settle()

    def publish(self, message: Message) -> None:
        self.memory.broker.publish([message])

    async def settle(self) -> None:
        """Relay what the scanner says of advisories to itself until nothing is left to handle."""
        for _ in range(200):
            await self.memory.clock.advance(0)
            for envelope in self.memory.announced(AdvisoryUpdated.topic):
                if envelope.id not in self._relayed:
                    self._relayed.add(envelope.id)
                    self.publish(Message(envelope.id, envelope.subject, envelope.model_dump_json().encode()))

    async def take_in(self, *records: Mapping[str, Any], source: str = "test", project: str = "demo") -> dict[str, Any]:
        """Import advisories over HTTP and let their change be heard."""
        answer = await self.client.post(
            f"/v1/projects/{project}/advisories:import?source={source}",
            data=orjson.dumps(list(records)),
            headers=bearer(ADMIN),
        )
        found = orjson.loads(await answer.read())
        assert answer.status == 200, found
        await self.settle()
        return found

    async def get(self, path: str, status: int = 200) -> dict[str, Any]:
        """A GET of the scanner's face by the administrator."""
        answer = await self.client.get(path, headers=bearer(ADMIN))
        found = orjson.loads(await answer.read())
        assert answer.status == status, found
        return found

    def said(self, topic: str) -> list[dict[str, Any]]:
        """What was said on a topic, in order."""
        return [envelope.data for envelope in self.memory.announced(topic)]


@asynccontextmanager
async def scanner_at_work(
    environment: Mapping[str, str] | None = None, around: Callable[[Parts], Parts] = lambda parts: parts
) -> AsyncGenerator[ScannerAtWork]:
    """A scanner on memory parts, or what is put `around` them; the administrator may do everything in two projects."""
    allowed = {f"projects/{project}": {ADMIN: PERMISSIONS} for project in ("demo", "other")}
    memory = memory_parts("scanner", grants=allowed, projects=("demo", "other"), environment=environment)
    async with client_of(build(around(memory.parts)), memory.parts) as client:
        yield ScannerAtWork(memory, client)


def python_image(*packages: tuple[str, str]) -> Image:
    """An image of one layer with Python packages."""
    root = "usr/local/lib/python3.11/site-packages"
    files = {f"{root}/{name}-{version}.dist-info/METADATA": metadata(name, version) for name, version in packages}
    return image_of([layer_of({"etc/os-release": DEBIAN_12, **files})])
