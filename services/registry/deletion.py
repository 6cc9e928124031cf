"""Taking away: a tag alone, or a manifest with all its tags in one atomic step.

What an index lists cannot go before the index does; referrers stay when their subject goes, unless `cascading` is
asked to take them along. A tag that a rule of the repository keeps stays, and with it what it points at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.registry.acts import Act, Change, Deed, Steps
from services.registry.errors import ManifestUnknown, StillHeld
from services.registry.holdings import DELETE
from services.registry.ledger import Ledger
from services.registry.names import ImageName, Tag
from services.registry.records import Pointer, Version
from services.registry.store import Store
from services.registry.tag_keeping import fixed_by, refuse_deletion
from services.registry.voice import Voice
from shared.digest import Digest
from shared.state import (
    STAMP,
    Add,
    Check,
    Drop,
    DropField,
    FieldIs,
    IsEmpty,
    NotMember,
    PutField,
    Unindex,
    ValueIs,
    Write,
)
from shared.tag_rules import TagRules, digest_of

MOST_TAGS = 300
"""Tags that one event lists; a version that has more loses the others one by one before it goes."""


def _nothing(version: Version) -> Sequence[Write]:
    del version
    return ()


@dataclass(frozen=True)
class Guard:
    """What a deletion insists on that nobody asked for just now, and what it leaves behind."""

    generation: int | None = None
    """The version must not have been pushed or untagged since, and referrers go only when their subject is gone."""
    tags: tuple[str, ...] = ()
    """With a generation: whoever asks knew of these tags, and a version that has others stays. Events may be late, so
    that a later one about the version was heard and an earlier one about its tags was not."""
    checks: tuple[Check, ...] = ()
    """What must hold in the step itself."""
    above_rules: bool = False
    """The rules for tags go, too: with the whole repository."""
    leaves: Callable[[Version], Sequence[Write]] = _nothing
    """What the step writes down besides."""


FREE = Guard()


@dataclass(frozen=True)
class Deletion:
    """Takes tags and versions away."""

    store: Store
    steps: Steps
    voice: Voice
    ledger: Ledger

    async def untag(self, name: ImageName, tag: Tag, act: Act, guard: Guard = FREE) -> None:
        """Take a tag away, and leave what it pointed at; raises ManifestUnknown, TagDeletionRefused."""

        async def decide() -> Change:
            pointer = await self.store.pointer(name, tag)
            if pointer is None:
                raise ManifestUnknown(f"there is no tag {tag}")
            rules = await self._rules(name, guard)
            refuse_deletion(rules, name, [tag])
            return self._untagging(name, tag, pointer, act, self._under(rules, name, guard))

        await self.steps.make(act, decide)

    async def delete(self, name: ImageName, digest: Digest, act: Act, guard: Guard = FREE) -> bool:
        """Take a manifest away with its tags; False where the guard says no.

        Raises ManifestUnknown, StillHeld while an index lists it, TagDeletionRefused where it has a tag that must stay.
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
            rules = await self._rules(name, guard)
            spared = guard.generation is not None and await self._spares(guard, version, parents, rules)
            if spared:
                return None
            if parents:
                raise StillHeld(f"the index {parents[0]} lists this manifest: delete that first")
            return await self._deleting(version, act, self._under(rules, name, guard), rules)

        await self.steps.make(act, decide)
        return not spared

    def deed(self, name: ImageName, digest: Digest, tags: Sequence[str] = ()) -> Deed:
        """The deletion of a manifest, as it is audited."""
        resource = f"{self.voice.resource(name.project, name.repository)}/dockerImages/{name.image}@{digest}"
        return Deed("Docker-DeleteManifest", resource, DELETE, {"digest": digest, "tags": list(tags)})

    async def _spares(self, guard: Guard, version: Version, parents: Sequence[str], rules: TagRules) -> bool:
        if parents or version.generation > (guard.generation or 0):
            return True
        tags = await self.store.tags_of(version.name, version.digest)
        if len(tags) > MOST_TAGS or not set(tags) <= set(guard.tags):
            return True  # what has so many tags, or others than were known, is not for a policy to judge
        if fixed_by(rules.cleanup, tags):
            return True
        return any([await self.store.has_version(version.name, subject) for subject in _subjects(version, tags)])

    async def _rules(self, name: ImageName, guard: Guard) -> TagRules:
        return TagRules() if guard.above_rules else await self.store.tag_rules(name.project, name.repository)

    def _under(self, rules: TagRules, name: ImageName, guard: Guard) -> Guard:
        """The rules are still what they were when they allowed this."""
        if guard.above_rules:
            return guard
        key = self.store.layout.repository(name.project, name.repository)
        return replace(guard, checks=(*guard.checks, FieldIs(key, "tag_rules", rules.text)))

    async def _thin_out(self, name: ImageName, digest: Digest, act: Act, guard: Guard) -> None:
        tags = await self.store.tags_of(name, digest, limit=10_000)
        refuse_deletion(await self._rules(name, guard), name, tags)
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

    async def _deleting(self, version: Version, act: Act, guard: Guard, rules: TagRules) -> Change:
        name, digest = version.name, version.digest
        tags = await self.store.tags_of(name, digest, limit=10_000)
        if guard.generation is None:
            refuse_deletion(rules, name, tags)
        pointers = [(tag, await self.store.pointer(name, tag)) for tag in tags]
        count = await self.store.version_count(name)
        deed = self.deed(name, digest, tags)
        return Change(
            name.project,
            name.repository,
            checks=[
                *self._unchanged(version, pointers, count),
                *self._still_alone(version, tags, guard),
                *guard.checks,
            ],
            writes=[*self._forget(version, tags), *self._count_down(name, count), *guard.leaves(version)],
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

    def _still_alone(self, version: Version, tags: Sequence[str], guard: Guard) -> Sequence[Check]:
        """Nobody has pushed the subject again in this moment, where a referrer may not go without it."""
        wanted = () if guard.generation is None else _subjects(version, tags)
        return [NotMember(self.store.layout.versions(version.name), subject) for subject in wanted]

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
            *self.ledger.deleted(version),
            *(self._detach(version) if facts.subject else []),
        ]

    def _detach(self, version: Version) -> list[Write]:
        layout, name = self.store.layout, version.name
        place = (name.project, name.repository)
        return [
            Unindex(layout.referrers(name, version.facts.subject), version.digest),
            Unindex(layout.attachments(*place), version.attachment_id),
            *([DropField(layout.attachment_ids(*place), version.attachment)] if version.attachment else []),
        ]

    def _count_down(self, name: ImageName, count: str | None) -> list[Write]:
        layout = self.store.layout
        if count == "1":
            return [Drop(layout.image(name)), Unindex(layout.images(name.project, name.repository), name.image)]
        return [Add(layout.image(name), "versions", -1)]


def _subjects(version: Version, tags: Sequence[str]) -> list[str]:
    """What a version refers to, be it by the form of its tag."""
    return [subject for subject in dict.fromkeys((version.facts.subject, *map(digest_of, tags))) if subject]
