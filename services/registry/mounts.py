"""Mounting: a repository comes to hold a blob that the caller may read elsewhere, without an upload.

A mount that cannot be made, or would be a download that a rule denies, is no error: the client is then told to upload.
"""

from contextlib import aclosing
from dataclasses import dataclass

from services.registry.acts import Act
from services.registry.downloads import Downloads
from services.registry.errors import NameInvalid
from services.registry.hashing import verified
from services.registry.holdings import Arrival, Holdings
from services.registry.names import ImageName
from services.registry.store import Store
from services.registry.voice import Voice
from shared.blobs import BlobMissing, Blobs
from shared.digest import Digest
from shared.http.call import Call
from shared.http.errors import Unavailable
from shared.names import blob_object

READ = "artifactregistry.repositories.downloadArtifacts"
MOUNT = "Docker-StartUpload"


@dataclass(frozen=True)
class Mounts:
    """Mounts blobs."""

    store: Store
    holdings: Holdings
    downloads: Downloads
    blobs: Blobs
    voice: Voice
    copied: int
    """Bytes that are copied from another project at most; a larger blob is uploaded."""

    async def mount(self, call: Call, name: ImageName, digest: Digest, source: str, act: Act) -> bool:
        """Let the repository of `name` hold the blob; False where that cannot be. Without `source` any will do."""
        if await self.holdings.holds_on(name, digest):
            return True
        found = await (self._from(call, source, digest) if source else self._anywhere(call, name, digest))
        if found is None:
            return False
        if found.project != name.project and not await self._copied(found.project, name.project, digest):
            return False
        size = await self.store.blob_size(found.project, found.repository, digest)
        if size is None:
            return False
        try:
            await self.holdings.keep(Arrival(name, digest, size), act.part("mount"), MOUNT)
        except Unavailable:
            return False  # cleared in this moment
        return True

    async def _from(self, call: Call, source: str, digest: Digest) -> ImageName | None:
        try:
            found = ImageName.parse(source)
        except NameInvalid:
            return None
        if not await call.may(READ, self.voice.resource(found.project, found.repository)):
            return None
        if not await self.holdings.holds(found.project, found.repository, digest):
            return None
        return found if await self.downloads.may_blob(found, digest) else None

    async def _anywhere(self, call: Call, name: ImageName, digest: Digest) -> ImageName | None:
        """Any repository of the same project that the caller may read."""
        for repository in await self.store.users(name.project, digest):
            found = ImageName(name.project, repository, name.image)
            readable = await call.may(READ, self.voice.resource(name.project, repository))
            if readable and await self.downloads.may_blob(found, digest):
                return found
        return None

    async def _copied(self, source: str, target: str, digest: Digest) -> bool:
        """Each project has bytes of its own, so that one may be deleted without asking the others."""
        try:
            size = (await self.blobs.stat(blob_object(source, digest))).size
            if size > self.copied:
                return False
            async with aclosing(verified(self.blobs.read(blob_object(source, digest)), digest, None)) as pieces:
                await self.blobs.put(blob_object(target, digest), pieces)
        except BlobMissing:
            return False
        return True
