"""Files: blobs that somebody uploads by themselves, to be told their digest, and what people note of a blob."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from services.registry.acts import Act, Change, Deed, Steps
from services.registry.annotating import Changed
from services.registry.errors import BlobUnknown, DigestInvalid, UploadUnknown
from services.registry.hashing import Running
from services.registry.names import ImageName
from services.registry.records import FileNote, RepositoryRecord
from services.registry.sessions import Session
from services.registry.store import Store
from services.registry.uploads import Body, Uploads
from services.registry.voice import Voice
from shared.blobs import BlobMissing
from shared.clock import rfc3339
from shared.digest import Digest
from shared.http.errors import ApiError
from shared.state import FieldIs, PutField

ANY = "any"
"""Files belong to the repository: where an image is to be named, any name will do."""


@dataclass(frozen=True)
class Filing:
    """Takes files and keeps what is noted of them."""

    store: Store
    steps: Steps
    uploads: Uploads
    voice: Voice

    def begin(self, record: RepositoryRecord, actor: str) -> Session:
        """Open an upload."""
        return self.uploads.begin(ImageName(record.project, record.repository, ANY), actor, life=record.life)

    async def take(self, session: Session, body: Body, act: Act, expected: Digest | None = None) -> Digest:
        """Take a file in one piece; its digest. Raises DigestInvalid, where it was `expected` to be another.

        Nobody can go on with an upload whose address nobody knows: what was refused is forgotten at once.
        """
        try:
            return await self.close(await self.uploads.append(session, body), act, expected)
        except ApiError:
            await self.uploads.blobs.abandon(session.id)
            raise

    async def close(self, session: Session, act: Act, expected: Digest | None = None) -> Digest:
        """Let the repository hold what was uploaded; its digest. Raises DigestInvalid, UploadUnknown."""
        digest = session.digest or await self._read(session)
        if expected not in (None, digest):
            raise DigestInvalid(f"the content has the digest {digest}, not {expected}")
        session = replace(session, hashed=digest.hex)
        await self.uploads.finish(session, digest, Body(_nothing(), 0), act)
        await self._date(session, digest, act.part("date"))
        return digest

    async def annotate(self, record: RepositoryRecord, digest: Digest, changed: Changed, act: Act) -> None:
        """Change a file's annotations; raises BlobUnknown where the repository does not hold it."""
        resource = f"{self.voice.resource(record.project, record.repository)}/files/{digest}"

        async def decide() -> Change:
            note, text, held = await self._noted(record.project, record.repository, digest)
            wanted = changed(note.annotations)
            after = replace(note, annotations=wanted, updated=rfc3339(self.steps.clock.now()))
            change = self._change(record.project, record.repository, digest, (text, held), after)
            return replace(change, events=act.witness(Deed("", resource, "", {"annotations": wanted})))

        await self.steps.make(act, decide)

    async def _date(self, session: Session, digest: Digest, act: Act) -> None:
        """Remember when the file came, which is on record already; one that is remembered stays as it is."""
        now = rfc3339(self.steps.clock.now())

        async def decide() -> Change | None:
            note, text, held = await self._noted(session.project, session.repository, digest)
            dated = replace(note, created=note.created or now, updated=note.updated or now)
            if dated == note:
                return None
            return self._change(session.project, session.repository, digest, (text, held), dated)

        await self.steps.make(act, decide)

    async def _noted(self, project: str, repository: str, digest: Digest) -> tuple[FileNote, str | None, str]:
        """The note, as it is and as state has it, and what state has of the blob."""
        (held,) = await self.store.blob_sizes(project, repository, [digest])
        if held is None:
            raise BlobUnknown(f"the repository holds no file {digest}")
        (text,) = await self.store.file_notes(project, repository, [digest])
        return FileNote.parse(text), text, held

    def _change(
        self, project: str, repository: str, digest: Digest, found: tuple[str | None, str], after: FileNote
    ) -> Change:
        text, held = found
        layout = self.store.layout
        files = layout.files(project, repository)
        return Change(
            project,
            repository,
            checks=(FieldIs(layout.blobs(project, repository), digest, held), FieldIs(files, digest, text)),
            writes=(PutField(files, digest, after.text),),
            events=(),
        )

    async def _read(self, session: Session) -> Digest:
        """The digest of staged bytes, of which other replicas hashed a part."""
        running = Running.begun(session.algorithm)
        try:
            async for piece in self.uploads.blobs.staged_bytes(session.id):
                running.update(piece)
        except BlobMissing as error:
            raise UploadUnknown("there is no such upload: it was finished, cancelled, or has expired") from error
        return running.digest


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield
