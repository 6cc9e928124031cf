"""Which blobs a repository holds. Bytes lie once for a project; a repository that holds them may show them.

A blob is durable in the bucket before a repository holds it, and its bytes are never removed here: whether nothing
uses them any more is for a collector to find out, which sees all repositories of the project.
"""

from dataclasses import dataclass

from services.registry.acts import Act, Change, Deed, Steps
from services.registry.errors import BlobUnknown, NameUnknown, StillHeld, UploadUnknown
from services.registry.names import ImageName
from services.registry.store import Store
from services.registry.voice import Voice
from shared.blobs import Blobs
from shared.digest import Digest
from shared.names import blob_object
from shared.state import Check, DropField, FieldIs, Index, IsEmpty, PutField, Unindex, ValueIs, Write

PUSH = "artifactregistry.repositories.uploadArtifacts"
DELETE = "artifactregistry.repositories.deleteArtifacts"


@dataclass(frozen=True)
class Held:
    """A blob that a repository holds."""

    digest: Digest
    size: int
    object: str
    """Its name in the bucket."""


@dataclass(frozen=True)
class Holdings:
    """The blobs of the repositories of this deployment."""

    store: Store
    steps: Steps
    blobs: Blobs
    voice: Voice

    async def find(self, project: str, repository: str, digest: Digest) -> Held:
        """A blob of a repository; raises BlobUnknown."""
        size = await self.store.blob_size(project, repository, digest)
        if size is None:
            raise BlobUnknown(f"the repository holds no blob {digest}")
        return Held(digest, size, blob_object(project, digest))

    async def holds(self, project: str, repository: str, digest: Digest) -> bool:
        """Whether a repository holds a blob."""
        return await self.store.blob_size(project, repository, digest) is not None

    async def keep(  # noqa: PLR0913 - what is kept, who does it, and what is known already
        self, name: ImageName, digest: Digest, size: int, act: Act, method: str, *, life: str = "", unless: str = ""
    ) -> None:
        """Let the repository hold a blob whose bytes are durable already; one that it holds stays as it is.

        With `life`, as somebody read it, nothing is asked first: most blobs are new, and the step checks all of it.
        Raises NameUnknown where the repository is gone, UploadUnknown where there is a value under the key `unless`.
        """
        guesses = [life] if life else []

        async def decide() -> Change | None:
            found = guesses.pop() if guesses else await self._life_to_hold_in(name, digest, unless)
            if found is None:
                return None
            deed = Deed(method, self._resource(name, digest), PUSH, {"digest": digest, "size": size})
            return Change(
                name.project,
                name.repository,
                checks=(
                    self._alive(name, found),
                    FieldIs(self._key(name), digest, None),
                    *((ValueIs(unless, None),) if unless else ()),
                ),
                writes=self.writes(name, digest, size),
                events=act.witness(deed),
            )

        await self.steps.make(act, decide)

    async def _life_to_hold_in(self, name: ImageName, digest: Digest, unless: str) -> str | None:
        """None where the repository holds the blob already."""
        life = await self.store.life(name.project, name.repository)
        if life is None:
            raise NameUnknown(f"there is no repository {name.project}/{name.repository}")
        if await self.holds(name.project, name.repository, digest):
            return None
        if unless and await self.store.state.value(unless) is not None:
            raise UploadUnknown("the upload was cancelled")
        return life

    def writes(self, name: ImageName, digest: Digest, size: int) -> list[Write]:
        """What makes the repository hold a blob."""
        layout = self.store.layout
        return [
            PutField(self._key(name), digest, str(size)),
            Index(layout.blob_list(name.project, name.repository), digest),
            Index(layout.uses(name.project, digest), name.repository),
        ]

    async def drop(self, name: ImageName, digest: Digest, act: Act) -> None:
        """Let the repository forget a blob; raises BlobUnknown, StillHeld while a manifest refers to it."""

        async def decide() -> Change:
            held = await self.find(name.project, name.repository, digest)
            holders = await self.store.blob_holders(name.project, name.repository, digest)
            if holders:
                raise StillHeld(f"the manifest {holders[0]} refers to this blob: delete that first")
            deed = Deed("Docker-DeleteBlob", self._resource(name, digest), DELETE)
            return Change(
                name.project,
                name.repository,
                checks=self._unheld(name, held),
                writes=self.unwrites(name.project, name.repository, digest),
                events=act.witness(deed),
            )

        await self.steps.make(act, decide)

    def unwrites(self, project: str, repository: str, digest: str) -> list[Write]:
        """What makes a repository forget a blob."""
        layout = self.store.layout
        return [
            DropField(layout.blobs(project, repository), digest),
            DropField(layout.files(project, repository), digest),
            Unindex(layout.blob_list(project, repository), digest),
            Unindex(layout.uses(project, digest), repository),
        ]

    def _unheld(self, name: ImageName, held: Held) -> list[Check]:
        holders = self.store.layout.holders(name.project, name.repository, held.digest)
        return [FieldIs(self._key(name), held.digest, str(held.size)), IsEmpty(holders)]

    def _alive(self, name: ImageName, life: str) -> Check:
        return FieldIs(self.store.layout.repository(name.project, name.repository), "open", life)

    def _key(self, name: ImageName) -> str:
        return self.store.layout.blobs(name.project, name.repository)

    def _resource(self, name: ImageName, digest: Digest) -> str:
        return f"{self.voice.resource(name.project, name.repository)}/files/{digest}"
