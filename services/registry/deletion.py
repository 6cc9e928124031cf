"""Taking away: a tag alone, or a manifest with all its tags in one atomic step.

What an index lists cannot go before the index does; referrers stay when their subject goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.registry.acts import Act, Change, Deed, Steps
from services.registry.errors import ManifestUnknown, StillHeld
from services.registry.holdings import DELETE
from services.registry.names import ImageName, Tag
from services.registry.records import Pointer, Version
from services.registry.store import Store
from services.registry.voice import Voice
from shared.digest import Digest
from shared.state import STAMP, Add, Check, Drop, FieldIs, IsEmpty, NotMember, PutField, Unindex, ValueIs, Write

MOST_TAGS = 300
"""Tags that one event lists; a version that has more loses the others one by one before it goes."""


@dataclass(frozen=True)
class Guard:
    """What a deletion insists on that nobody asked for just now."""

    generation: int | None = None
    """The version must not have been pushed or untagged since, and referrers go only when their subject is gone."""
    tags: tuple[str, ...] = ()
    """With a generation: whoever asks knew of these tags, and a version that has others stays. Events may be late, so
    that a later one about the version was heard and an earlier one about its tags was not."""
    checks: tuple[Check, ...] = ()
    """What must hold in the step itself."""


FREE = Guard()


@dataclass(frozen=True)
class Deletion:
    """Takes tags and versions away."""

    store: Store
    steps: Steps
    voice: Voice

    async def untag(self, name: ImageName, tag: Tag, act: Act, guard: Guard = FREE) -> None:
        """Take a tag away, and leave what it pointed at; raises ManifestUnknown."""

        async def decide() -> Change:
            pointer = await self.store.pointer(name, tag)
            if pointer is None:
                raise ManifestUnknown(f"there is no tag {tag}")
            return self._untagging(name, tag, pointer, act, guard)

        await self.steps.make(act, decide)

    async def delete(self, name: ImageName, digest: Digest, act: Act, guard: Guard = FREE) -> bool:
        """Take a manifest away with its tags; False where the guard says no.

        Raises ManifestUnknown, and StillHeld while an index lists it.
        """
        if guard.generation is None:
            await self._thin_out(name, digest, act, guard)
        spared = False

        async def decide() -> Change | None:
            nonlocal spared
            version = await self.store.version(name, digest)
            if version is None:
                raise ManifestUnknown(f"there is no manifest {digest}")
            parents = await self.store.parents(name, digest)
            spared = guard.generation is not None and await self._spares(guard, guard.generation, version, parents)
            if spared:
                return None
            if parents:
                raise StillHeld(f"the index {parents[0]} lists this manifest: delete that first")
            return await self._deleting(version, act, guard)

        await self.steps.make(act, decide)
        return not spared

    async def _spares(self, guard: Guard, generation: int, version: Version, parents: Sequence[str]) -> bool:
        if parents or version.generation > generation:
            return True
        tags = await self.store.tags_of(version.name, version.digest)
        if len(tags) > MOST_TAGS or not set(tags) <= set(guard.tags):
            return True  # what has so many tags, or others than were known, is not for a policy to judge
        subject = version.facts.subject
        return bool(subject and await self.store.has_version(version.name, subject))

    async def _thin_out(self, name: ImageName, digest: Digest, act: Act, guard: Guard) -> None:
        tags = await self.store.tags_of(name, digest, limit=10_000)
        for tag in tags[MOST_TAGS:]:
            await self.untag(name, Tag(tag), act.part(f"untag:{tag}"), guard)

    def _untagging(self, name: ImageName, tag: Tag, pointer: Pointer, act: Act, guard: Guard) -> Change:
        layout = self.store.layout
        key = layout.tag(name, tag)
        resource = f"{self.voice.resource(name.project, name.repository)}/packages/{name.image}/tags/{tag}"
        deed = Deed("Docker-DeleteTag", resource, DELETE, {"tag": tag, "digest": pointer.digest})
        return Change(
            name.project,
            name.repository,
            checks=(ValueIs(key, pointer.text), *guard.checks),
            writes=(
                Drop(key),
                Unindex(layout.tags(name), tag),
                Unindex(layout.tags_of(name, pointer.digest), tag),
                PutField(layout.version(name, pointer.digest), "generation", STAMP),
            ),
            events=[*self.voice.untagged(name, tag, pointer.digest), *act.witness(deed)],
        )

    async def _deleting(self, version: Version, act: Act, guard: Guard) -> Change:
        name, digest = version.name, version.digest
        tags = await self.store.tags_of(name, digest, limit=10_000)
        pointers = [(tag, await self.store.pointer(name, tag)) for tag in tags]
        count = await self.store.version_count(name)
        resource = f"{self.voice.resource(name.project, name.repository)}/dockerImages/{name.image}@{digest}"
        deed = Deed("Docker-DeleteManifest", resource, DELETE, {"digest": digest, "tags": tags})
        return Change(
            name.project,
            name.repository,
            checks=[*self._unchanged(version, pointers, count), *self._still_alone(version, guard), *guard.checks],
            writes=[*self._forget(version, tags), *self._count_down(name, count)],
            events=[*self.voice.deleted(version, tuple(tags)), *act.witness(deed)],
        )

    def _unchanged(
        self, version: Version, pointers: Sequence[tuple[str, Pointer | None]], count: str | None
    ) -> list[Check]:
        """A new tag changes the version's generation, a moved one its pointer; so no tag can slip through."""
        layout, name = self.store.layout, version.name
        return [
            FieldIs(layout.version(name, version.digest), "generation", str(version.generation)),
            IsEmpty(layout.parents(name, version.digest)),
            FieldIs(layout.image(name), "versions", count),
            *(ValueIs(layout.tag(name, tag), pointer.text if pointer else None) for tag, pointer in pointers),
        ]

    def _still_alone(self, version: Version, guard: Guard) -> Sequence[Check]:
        """Nobody has pushed the subject again in this moment, where a referrer may not go without it."""
        subject = version.facts.subject
        wanted = guard.generation is not None and subject
        return [NotMember(self.store.layout.versions(version.name), subject)] if wanted else []

    def _forget(self, version: Version, tags: Sequence[str]) -> list[Write]:
        layout, name, digest, facts = self.store.layout, version.name, version.digest, version.facts
        project, repository = name.project, name.repository
        holder = f"{name.image}@{digest}"
        return [
            Drop(layout.version(name, digest)),
            Unindex(layout.versions(name), digest),
            Drop(layout.tags_of(name, digest)),
            *(Drop(layout.tag(name, tag)) for tag in tags),
            *(Unindex(layout.tags(name), tag) for tag in tags),
            *(Unindex(layout.holders(project, repository, blob), holder) for blob in facts.blobs),
            *(Unindex(layout.parents(name, child), digest) for child in facts.children),
            *([Unindex(layout.referrers(name, facts.subject), digest)] if facts.subject else []),
        ]

    def _count_down(self, name: ImageName, count: str | None) -> list[Write]:
        layout = self.store.layout
        if count == "1":
            return [Drop(layout.image(name)), Unindex(layout.images(name.project, name.repository), name.image)]
        return [Add(layout.image(name), "versions", -1)]
