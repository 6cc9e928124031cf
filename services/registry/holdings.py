"""Which blobs a repository holds. Bytes lie once for a project; a repository that holds them may show them.

A blob is durable in the bucket before a repository holds it, and its bytes are never removed here: `collecting` does
that, once no repository of the project has held them for a while.
"""

from dataclasses import dataclass

from services.registry.acts import NOTHING, Act, Change, Deed, Steps
from services.registry.download_rules import FIELD
from services.registry.errors import BlobUnknown, NameUnknown, QuotaExceeded, StillHeld, UploadUnknown
from services.registry.layout import BLOBS
from services.registry.ledger import GONE, UNLIMITED, Ledger, Limits, loose
from services.registry.names import ImageName
from services.registry.quotas import Quotas
from services.registry.store import Store
from services.registry.voice import Voice
from shared.blobs import BlobMissing, Blobs
from shared.clock import Ids
from shared.digest import Digest
from shared.http.errors import Unavailable
from shared.names import blob_object, partition_of
from shared.state import (
    Check,
    Drop,
    DropField,
    FieldIs,
    FieldOf,
    Index,
    IsEmpty,
    MemberOf,
    Moved,
    PutField,
    Step,
    Unindex,
    ValueIs,
    Write,
)

PUSH = "artifactregistry.repositories.uploadArtifacts"
DELETE = "artifactregistry.repositories.deleteArtifacts"


@dataclass(frozen=True)
class Held:
    """A blob that a repository holds."""

    digest: Digest
    size: int
    object: str
    """Its name in the bucket."""
    rules: str | None = None
    """The repository's rules for downloads, where they were read along."""


@dataclass(frozen=True)
class Arrival:
    """A blob whose bytes are durable, for a repository to hold, and what is known of that."""

    name: ImageName
    digest: Digest
    size: int
    life: str = ""
    """The repository's, as somebody read it: then nothing is asked, for most blobs are new, and the step checks all."""
    unless: str = ""
    """A key under which there is a value once the upload is cancelled."""
    free: bool = False
    """Counted, and no quota refuses it."""


@dataclass(frozen=True)
class _Found:
    """What a blob is about to be kept on the strength of."""

    life: str
    mark: str | None = None
    """Of the collector, which has cleared such bytes before."""
    fresh: bool = False
    """Looked up just now, because a guess was wrong or there was none."""


@dataclass(frozen=True)
class Holdings:
    """The blobs of the repositories of this deployment."""

    store: Store
    steps: Steps
    blobs: Blobs
    voice: Voice
    ledger: Ledger
    quotas: Quotas
    ids: Ids

    async def find(self, project: str, repository: str, digest: Digest) -> Held:
        """A blob of a repository; raises BlobUnknown."""
        layout = self.store.layout
        size, rules = await self.store.state.look(
            (
                FieldOf(layout.blobs(project, repository), digest),
                FieldOf(layout.repository(project, repository), FIELD),
            )
        )
        if size is None:
            raise BlobUnknown(f"the repository holds no blob {digest}")
        return Held(digest, int(size), blob_object(project, digest), rules)

    async def vouched(self, project: str, repository: str, digest: Digest) -> Held:
        """The same for somebody who goes by it, and will not upload: it stays, also where nothing refers to it."""
        size, due = await self.store.state.look(
            (
                FieldOf(self.store.layout.blobs(project, repository), digest),
                MemberOf(self.store.layout.due_of(project), loose(project, repository, digest)),
            )
        )
        if size is None:
            raise BlobUnknown(f"the repository holds no blob {digest}")
        if due and not await self.store.blob_holders(project, repository, digest, 1):
            await self._promise(project, repository, digest, size)
        return Held(digest, int(size), blob_object(project, digest))

    async def _promise(self, project: str, repository: str, digest: Digest, size: str) -> None:
        """Raises BlobUnknown where it has just been forgotten."""
        held = FieldIs(self.store.layout.blobs(project, repository), digest, size)
        promise = self.ledger.promise(project, repository, digest)
        request = f"promise/{self.ids.new()}"
        try:
            await self.store.state.apply(Step(partition_of(project), request, (held,), (promise,)))
        except Moved as error:
            raise BlobUnknown(f"the repository holds no blob {digest}") from error

    async def holds(self, project: str, repository: str, digest: Digest) -> bool:
        """Whether a repository holds a blob."""
        return await self.store.blob_size(project, repository, digest) is not None

    async def keep(self, blob: Arrival, act: Act, method: str) -> None:
        """Let the repository hold a blob whose bytes are durable already; one that it holds stays as it is.

        Raises NameUnknown where the repository is gone, UploadUnknown where the upload was cancelled, QuotaExceeded,
        and Unavailable where the bytes were cleared since they were stored.
        """
        limits = UNLIMITED if blob.free else await self.quotas.of(blob.name.project, blob.name.repository)
        guesses = [_Found(blob.life)] if blob.life else []

        async def decide() -> Change | None:
            found = guesses.pop() if guesses else await self._found(blob)
            if found is None:
                return None
            deed = Deed(
                method, self._resource(blob.name, blob.digest), PUSH, {"digest": blob.digest, "size": blob.size}
            )
            return await self._kept(blob, found, limits, act, deed)

        await self.steps.make(act, decide)

    async def _kept(self, blob: Arrival, found: "_Found", limits: Limits, act: Act, deed: Deed) -> Change:
        name, digest, size, unless = blob.name, blob.digest, blob.size, blob.unless
        place = (name.project, name.repository)
        if found.fresh and limits.any:
            await self._require_room(name, digest, size)
        near = await self.quotas.nearing.of(limits, *place, size, fresh=found.fresh) if limits.any else NOTHING
        return Change(
            *place,
            checks=(
                self._alive(name, found.life),
                FieldIs(self._key(name), digest, None),
                self.ledger.there(name.project, digest, mark=found.mark),
                *self.ledger.within(limits, *place, size),
                *((ValueIs(unless, None),) if unless else ()),
                *near.checks,
            ),
            writes=[
                *self.writes(name, digest, size),
                *self._unmark(name.project, digest, found.mark),
                *near.writes,
            ],
            events=[*act.witness(deed), *near.events],
        )

    async def _require_room(self, name: ImageName, digest: Digest, size: int) -> None:
        """Bytes that are stored in vain are cleared soon."""
        try:
            await self.quotas.require(name.project, name.repository, size)
        except QuotaExceeded:
            unused = self.ledger.unused(name.project, digest)
            request = f"unused/{self.ids.new()}"
            await self.store.state.apply(Step(partition_of(name.project), request, (), (unused,)))
            raise

    async def _found(self, blob: Arrival) -> "_Found | None":
        """None where the repository holds the blob already, and goes on to."""
        name, digest, unless = blob.name, blob.digest, blob.unless
        life = await self.store.life(name.project, name.repository)
        if life is None:
            raise NameUnknown(f"there is no repository {name.project}/{name.repository}")
        if await self.holds_on(name, digest):
            return None
        if unless and await self.store.state.value(unless) is not None:
            raise UploadUnknown("the upload was cancelled")
        return _Found(life, await self._mark(name.project, digest), fresh=True)

    async def holds_on(self, name: ImageName, digest: Digest) -> bool:
        """Whether a repository holds a blob, and goes on to: for somebody who goes by it."""
        try:
            await self.vouched(name.project, name.repository, digest)
        except BlobUnknown:
            return False
        return True

    async def _mark(self, project: str, digest: Digest) -> str | None:
        """What the collector has left behind, where the bytes are there all the same: they came after it."""
        mark = await self.store.state.value(self.store.layout.clearing(project, BLOBS, digest))
        if mark is None:
            return None
        try:
            if mark.startswith(GONE):
                await self.blobs.stat(blob_object(project, digest))
                return mark
        except BlobMissing:
            pass
        raise Unavailable("the blob, which nothing used any more, was cleared at this moment: upload it again")

    def _unmark(self, project: str, digest: str, mark: str | None) -> list[Write]:
        return [Drop(self.store.layout.clearing(project, BLOBS, digest))] if mark else []

    def writes(self, name: ImageName, digest: Digest, size: int) -> list[Write]:
        """What makes the repository hold a blob."""
        layout = self.store.layout
        return [
            PutField(self._key(name), digest, str(size)),
            Index(layout.blob_list(name.project, name.repository), digest),
            Index(layout.uses(name.project, digest), name.repository),
            *self.ledger.took(name.project, name.repository, digest, size),
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
                writes=self.unwrites(name.project, name.repository, digest, held.size),
                events=act.witness(deed),
            )

        await self.steps.make(act, decide)

    def unwrites(self, project: str, repository: str, digest: str, size: int) -> list[Write]:
        """What makes a repository forget a blob."""
        layout = self.store.layout
        return [
            DropField(layout.blobs(project, repository), digest),
            DropField(layout.files(project, repository), digest),
            Unindex(layout.blob_list(project, repository), digest),
            Unindex(layout.uses(project, digest), repository),
            *self.ledger.lost(project, repository, digest, size),
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
