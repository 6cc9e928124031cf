"""Taking a manifest: bytes become durable, then one atomic step makes it a version, moves the tags and says so.

Racing pushers all succeed: the step is decided anew when a tag, a blob or the version has changed in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.registry.acts import NOTHING, Act, Beside, Change, Deed, Steps
from services.registry.errors import NameUnknown, ReferencesUnknown
from services.registry.holdings import PUSH
from services.registry.layout import MANIFESTS, Layout
from services.registry.ledger import GOING, UNLIMITED, Ledger, Limits
from services.registry.manifests import Manifest
from services.registry.names import ImageName, Tag
from services.registry.platforms import Platforms
from services.registry.quotas import Quotas
from services.registry.records import Facts, Pointer, attachment_id
from services.registry.store import Store
from services.registry.tag_keeping import refuse_overwrite
from services.registry.voice import Push, Voice
from shared.blobs import BlobMissing, Blobs
from shared.clock import rfc3339
from shared.events import Event
from shared.http.errors import Unavailable
from shared.names import manifest_object
from shared.state import (
    STAMP,
    Add,
    Check,
    Drop,
    FieldIs,
    FieldOf,
    FieldsOf,
    Index,
    IsMember,
    MemberOf,
    NotMember,
    Put,
    PutField,
    Unindex,
    ValueIs,
    ValueOf,
    Write,
)
from shared.tag_rules import TagRules


@dataclass(frozen=True)
class Before:
    """What a push found, all of which the step checks again."""

    life: str
    sizes: tuple[str, ...]
    """Of the manifest's blobs, as state has them."""
    known: str | None
    """When the version was first uploaded; None where it is new."""
    pointers: tuple[Pointer | None, ...]
    """What each tag pointed at."""
    first: bool
    """Whether the image has no version yet."""
    mark: str | None
    """Of the collector, which has cleared such a manifest before."""
    rules: str | None
    """Which tags may not be overwritten, as state has it."""


@dataclass(frozen=True)
class Pushing:
    """Takes manifests."""

    store: Store
    steps: Steps
    blobs: Blobs
    voice: Voice
    platforms: Platforms
    ledger: Ledger
    quotas: Quotas

    async def push(  # noqa: PLR0913 - a push has these parts
        self,
        name: ImageName,
        manifest: Manifest,
        tags: Sequence[Tag],
        act: Act,
        *,
        instead: Sequence[Event] | None = None,
        beside: Beside = NOTHING,
    ) -> None:
        """Take a manifest under these tags, perhaps none; `instead` is said where this is not somebody's push.

        What is to be done `beside` is done in the same step.

        Raises ReferencesUnknown, TagOverwriteRefused, QuotaExceeded, NameUnknown where there is no such repository.
        """
        found = [await self._found(name, manifest, tags)]  # before bytes are stored for what cannot be taken
        limits = await self.quotas.of(name.project, name.repository) if instead is None else UNLIMITED
        await self._require_room(name, manifest, found[0], limits)
        await self._store(name, manifest, known=found[0].known is not None)
        facts = Facts.of(manifest, await self.platforms.of(name.project, manifest))

        async def decide() -> Change:
            # The step checks all of it again: only where somebody was faster is it looked for once more.
            again = not found
            before = found.pop() if found else await self._found_again(name, manifest, tags, limits)
            near = NOTHING
            if limits.any and before.known is None:
                near = await self.quotas.nearing.of(limits, name.project, name.repository, facts.size, fresh=again)
            now = rfc3339(self.steps.clock.now())
            shelf = _Shelf(self.store.layout, self.ledger, name, manifest, facts, before, limits, now)
            events = self._events(shelf, tags, act) if instead is None else instead
            return self._change(shelf, tags, events, (beside, near))

        await self.steps.make(act, decide)

    async def _found_again(self, name: ImageName, manifest: Manifest, tags: Sequence[Tag], limits: Limits) -> Before:
        before = await self._found(name, manifest, tags)
        await self._require_room(name, manifest, before, limits)
        if before.mark is not None:  # what was stored before may have been cleared since
            await self.blobs.put(manifest_object(name.project, manifest.digest), manifest.content)
        return before

    async def _require_room(self, name: ImageName, manifest: Manifest, before: Before, limits: Limits) -> None:
        if limits.any and before.known is None:
            await self.quotas.require(name.project, name.repository, len(manifest.content))

    async def _found(self, name: ImageName, manifest: Manifest, tags: Sequence[Tag]) -> Before:
        """All of it is asked at once."""
        layout, place = self.store.layout, (name.project, name.repository)
        blobs, children = manifest.blobs, tuple(dict.fromkeys(child.digest for child in manifest.children))
        (life, rules, quota), mark, known, sizes, not_first, *rest = await self.store.state.look(
            (
                FieldsOf(layout.repository(*place), ("open", "tag_rules", "quota")),
                ValueOf(layout.clearing(name.project, MANIFESTS, manifest.digest)),
                FieldOf(layout.version(name, manifest.digest), "uploaded"),
                FieldsOf(layout.blobs(*place), blobs or ("",)),
                MemberOf(layout.images(*place), name.image),
                *(ValueOf(layout.tag(name, tag)) for tag in tags),
                *(MemberOf(layout.versions(name), child) for child in children),
            )
        )
        sizes, texts, there = sizes[: len(blobs)], rest[: len(tags)], rest[len(tags) :]
        if life is None:
            raise NameUnknown(f"there is no repository {name.project}/{name.repository}")
        missing = [digest for digest, size in zip(blobs, sizes, strict=True) if size is None]
        missing += [child for child, found in zip(children, there, strict=True) if not found]
        if missing:
            raise ReferencesUnknown(missing)
        held = tuple(size for size in sizes if size is not None)
        pointers = tuple(text and Pointer.parse(text) for text in texts)
        for tag, pointer in zip(tags, pointers, strict=True):
            refuse_overwrite(TagRules.parse(rules), name, tag, pointer, manifest.digest)
        self.quotas.learn(*place, quota)
        if mark is not None and mark.startswith(GOING):
            raise Unavailable("the manifest, which nothing used any more, is being cleared: push it again")
        return Before(life, held, known, pointers, not not_first, mark, rules)

    async def _store(self, name: ImageName, manifest: Manifest, *, known: bool) -> None:
        """Bytes that must be there already are looked for first; others are written at once: most are new."""
        stored = manifest_object(name.project, manifest.digest)
        try:
            if known:
                await self.blobs.stat(stored)
                return
        except BlobMissing:
            pass
        await self.blobs.put(stored, manifest.content)

    def _change(
        self, shelf: "_Shelf", tags: Sequence[Tag], events: Sequence[Event], besides: Sequence[Beside]
    ) -> Change:
        name = shelf.name
        writes = [*shelf.version()]
        for tag, pointer in zip(tags, shelf.before.pointers, strict=True):
            writes += shelf.tag(tag, pointer)
        checks = [*shelf.checks(tags), *(check for beside in besides for check in beside.checks)]
        writes += [write for beside in besides for write in beside.writes]
        said = [*events, *(event for beside in besides for event in beside.events)]
        return Change(name.project, name.repository, checks=checks, writes=writes, events=said)

    def _events(self, shelf: "_Shelf", tags: Sequence[Tag], act: Act) -> list[Event]:
        name, manifest, before = shelf.name, shelf.manifest, shelf.before
        uploaded = before.known or shelf.now
        if tags:
            pairs = zip(tags, before.pointers, strict=True)
            pushes = [_tagged(shelf, uploaded, tag, pointer) for tag, pointer in pairs]
        else:
            unchanged = before.known is not None
            pushes = [Push(manifest.digest, manifest.media_type, shelf.facts, uploaded, unchanged=unchanged)]
        resource = f"{self.voice.resource(name.project, name.repository)}/dockerImages/{name.image}@{manifest.digest}"
        asked = {"digest": manifest.digest, "mediaType": manifest.media_type, "tags": list(tags)}
        events = [event for push in pushes for event in self.voice.pushed(name, push)]
        return [*events, *act.witness(Deed("Docker-PutManifest", resource, PUSH, asked))]


def _tagged(shelf: "_Shelf", uploaded: str, tag: Tag, pointer: Pointer | None) -> Push:
    previous = pointer.digest if pointer else ""
    manifest = shelf.manifest
    return Push(manifest.digest, manifest.media_type, shelf.facts, uploaded, tag, previous, previous == manifest.digest)


@dataclass(frozen=True)
class _Shelf:
    """Writes one version and its tags into state."""

    layout: Layout
    ledger: Ledger
    name: ImageName
    manifest: Manifest
    facts: Facts
    before: Before
    limits: Limits
    now: str

    def checks(self, tags: Sequence[Tag]) -> list[Check]:
        """Everything is still as it was found."""
        layout, name, digest = self.layout, self.name, self.manifest.digest
        held = layout.blobs(name.project, name.repository)
        pairs = zip(self.manifest.blobs, self.before.sizes, strict=True)
        pointers = zip(tags, self.before.pointers, strict=True)
        images = layout.images(name.project, name.repository)
        return [
            NotMember(images, name.image) if self.before.first else IsMember(images, name.image),
            FieldIs(layout.repository(name.project, name.repository), "open", self.before.life),
            FieldIs(layout.repository(name.project, name.repository), "tag_rules", self.before.rules),
            FieldIs(layout.version(name, digest), "uploaded", self.before.known),
            self.ledger.there(name.project, digest, MANIFESTS, mark=self.before.mark),
            *([] if self.before.known else self._room()),
            *(FieldIs(held, blob, size) for blob, size in pairs),
            *(IsMember(layout.versions(name), child) for child in self.facts.children),
            *(ValueIs(layout.tag(name, tag), pointer.text if pointer else None) for tag, pointer in pointers),
        ]

    def _room(self) -> list[Check]:
        return self.ledger.within(self.limits, self.name.project, self.name.repository, self.facts.size)

    def version(self) -> list[Write]:
        """The record of the version; a new one is also entered wherever it is looked for."""
        key = self.layout.version(self.name, self.manifest.digest)
        writes: list[Write] = [
            PutField(key, "media_type", self.manifest.media_type),
            PutField(key, "facts", self.facts.text),
            PutField(key, "uploaded", self.before.known or self.now),
            PutField(key, "updated", self.now),
            PutField(key, "generation", STAMP),
            PutField(self.layout.image(self.name), "updated", self.now),
            *([PutField(self.layout.image(self.name), "created", self.now)] if self.before.first else []),
        ]
        return writes if self.before.known else [*writes, *self._entries()]

    def _entries(self) -> list[Write]:
        layout, name, digest = self.layout, self.name, self.manifest.digest
        project, repository = name.project, name.repository
        holder = f"{name.image}@{digest}"
        subject = self.facts.subject
        return [
            Index(layout.images(project, repository), name.image),
            Index(layout.versions(name), digest),
            Add(layout.image(name), "versions", 1),
            *self.ledger.pushed(name, digest, self.facts.size),
            *([Drop(layout.clearing(project, MANIFESTS, digest))] if self.before.mark else []),
            *(Index(layout.holders(project, repository, blob), holder) for blob in self.facts.blobs),
            *(Index(layout.parents(name, child), digest) for child in self.facts.children),
            *(self._attachment(subject) if subject else []),
        ]

    def _attachment(self, subject: str) -> list[Write]:
        layout, name, digest = self.layout, self.name, self.manifest.digest
        return [
            Index(layout.referrers(name, subject), digest),
            Index(layout.attachments(name.project, name.repository), attachment_id(name, digest)),
        ]

    def tag(self, tag: Tag, pointer: Pointer | None) -> list[Write]:
        """Let a tag point here, and no more where it pointed before."""
        layout, name, digest = self.layout, self.name, self.manifest.digest
        created = pointer.created if pointer else self.now
        here = Pointer(digest, self.manifest.media_type, created, self.now)
        moved = pointer is not None and pointer.digest != digest
        return [
            Put(layout.tag(name, tag), here.text),
            Index(layout.tags(name), tag),
            Index(layout.tags_of(name, digest), tag),
            *([Unindex(layout.tags_of(name, pointer.digest), tag)] if pointer and moved else []),
        ]
