"""A registry in memory, or on a directory, as a client of the OCI protocol sees it."""

import hashlib
import io
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from services.registry.app import build
from shared.blobs import Blobs
from shared.blobs.directory import DirectoryBlobs
from shared.bus import Heard
from shared.events import Event
from shared.parts import Service
from tests.support.images import LAYER, MANIFEST, Image, descriptor, image_of, layer_of
from tests.support.parts import Client, MemoryParts, bearer, client_of, memory_parts

INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
ADA = "user:ada@example.org"
BEN = "user:ben@example.org"
SCANNER = "serviceAccount:scanner@demo.iam.entrepot"
WEB = "projects/demo/locations/local/repositories/web"
NAME = "demo/web/app"
RIGHTS = {
    "repositories": "downloadArtifacts uploadArtifacts deleteArtifacts createOnPush create get list update delete",
    "dockerimages": "list get",
    "packages": "list get update delete",
    "versions": "list get update delete",
    "tags": "list get create update delete",
    "files": "list get download upload update delete",
    "attachments": "list get create delete",
    "rules": "list get create update delete",
    "projectsettings": "get update",
    "vpcscconfigs": "get update",
    "locations": "list get",
}
POLICY_RIGHTS = tuple(f"artifactregistry.repositories.{verb}IamPolicy" for verb in ("get", "set"))
EVERYTHING = POLICY_RIGHTS + tuple(
    f"artifactregistry.{kind}.{verb}" for kind, verbs in RIGHTS.items() for verb in verbs.split()
)
ENVIRONMENT = {"ENTREPOT_REGISTRY_CREATE_ON_PUSH": "true"}


def sha512_of(content: bytes) -> str:
    return f"sha512:{hashlib.sha512(content).hexdigest()}"


def json_bytes(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(body)


def small_image(text: str = "hello") -> Image:
    return image_of([layer_of({"greeting": text.encode()})])


def artifact(subject: bytes | None = None, kind: str = "application/vnd.test", **more: Any) -> bytes:
    """An artifact without layers; its config is the empty object."""
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": descriptor(EMPTY_TYPE, b"{}"),
        "layers": [],
        **more,
    }
    return json_bytes(body | ({"subject": descriptor(MANIFEST, subject)} if subject else {}))


def index_of(*manifests: bytes, **more: Any) -> bytes:
    children = [
        {**descriptor(MANIFEST, each), "platform": {"os": "linux", "architecture": f"cpu{number}"}}
        for number, each in enumerate(manifests)
    ]
    return json_bytes({"schemaVersion": 2, "mediaType": INDEX, "manifests": children, **more})


class Remembering:
    """A bus that remembers who handles what, so that a test can hand over an event itself."""

    def __init__(self, bus: Any) -> None:
        self.bus = bus
        self.handlers: dict[type[Event], Any] = {}

    def work(self, event: type[Event], handler: Any, **options: Any) -> None:
        self.handlers[event] = handler
        self.bus.work(event, handler, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bus, name)


@dataclass(frozen=True)
class RegistryClient:
    """Speaks to a registry as one member."""

    client: Client
    parts: MemoryParts
    member: str = ADA
    service: Service | None = None

    @property
    def background(self) -> Any:
        """What runs beside the face."""
        assert self.service
        return self.service.background

    async def hear(self, event: Event, identity: str = "job", times: int = 2) -> None:
        """Hand a job to whoever does it, twice, because that may happen."""
        handler = self.parts.parts.bus.handlers[type(event)]
        for delivery in range(1, times + 1):
            heard = Heard(
                event, identity, 1, 1, "", actor="serviceAccount:scanner@demo.iam.entrepot", delivery=delivery
            )
            await handler(heard)

    def by(self, member: str) -> "RegistryClient":
        return replace(self, member=member)

    async def call(self, verb: str, path: str, content: Any = None, **headers: str) -> "Answer":
        """One request; header names are written with underscores."""
        written = {name.replace("_", "-"): value for name, value in headers.items()}
        who = bearer(self.member) if self.member else {}
        if isinstance(content, bytes) and len(content) > 1_000_000:
            content = io.BytesIO(content)
        async with self.client.request(
            verb, path, data=content, headers={**who, **written}, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def blob(self, content: bytes, name: str = NAME) -> str:
        """Push a blob in one request."""
        digest = descriptor(LAYER, content)["digest"]
        answer = await self.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", content)
        assert answer.status == 201, answer
        return digest

    async def manifest(self, content: bytes, reference: str = "", name: str = NAME, kind: str = MANIFEST) -> "Answer":
        reference = reference or descriptor(kind, content)["digest"]
        return await self.call("PUT", f"/v2/{name}/manifests/{reference}", content, Content_Type=kind)

    async def push(self, image: Image, reference: str = "", name: str = NAME) -> "Answer":
        """Push an image with its blobs."""
        for content in image.blobs.values():
            await self.blob(content, name)
        answer = await self.manifest(image.manifest, reference, name)
        assert answer.status == 201, answer
        return answer

    async def begin(self, name: str = NAME) -> str:
        """Open an upload; the address to go on with."""
        answer = await self.call("POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status == 202, answer
        return answer.location


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def location(self) -> str:
        return self.headers["Location"]

    @property
    def json(self) -> Any:
        return orjson.loads(self.content)

    @property
    def code(self) -> str:
        """The first error's code."""
        return self.json["errors"][0]["code"]


def granted(parts: MemoryParts) -> MemoryParts:
    """Ada may do everything in the project; Ben nothing."""
    parts.grant("projects/demo", ADA, *EVERYTHING)
    return parts


@asynccontextmanager
async def registry(
    folder: Path | None = None, *, blobs: Blobs | None = None, lane: bool = True, **environment: str
) -> AsyncGenerator[RegistryClient]:
    """A registry with everything in memory; with a `folder` or a bucket, its bytes are there."""
    given = {f"ENTREPOT_REGISTRY_{name.upper()}": value for name, value in environment.items()}
    made = granted(memory_parts("registry", environment=ENVIRONMENT | given))
    parts = replace(made.parts, bus=Remembering(made.parts.bus))
    blobs = DirectoryBlobs(folder) if folder else blobs
    parts = replace(parts, blobs=blobs) if blobs else parts
    service = build(parts)
    async with client_of(service, parts, lane=lane) as client:
        yield RegistryClient(client, replace(made, parts=parts), service=service)
