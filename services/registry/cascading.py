"""Deleting with what belongs to it, by request: an index with its children, a subject with its referrers.

The step that takes a manifest away also writes down what is to follow it. So a deletion that breaks off between two
steps is finished by whoever repeats it, or by any replica. What follows goes as by a cleanup: not while an index lists
it, it has a tag, its subject is there, or it was pushed since the deletion began, all of which its own step checks.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Self

import orjson

from services.registry.acts import Act, Change, Steps
from services.registry.deletion import FREE, Deletion, Guard
from services.registry.errors import CascadeInvalid, ManifestUnknown
from services.registry.names import ImageName
from services.registry.records import Version
from services.registry.store import Store
from shared.digest import Digest
from shared.names import partition_of
from shared.state import STAMP, Drop, FieldIs, Index, MembersOf, Moved, PutField, Step, Unindex, Write
from shared.state.step import Value
from shared.tag_rules import referrers_tag

CHILDREN, REFERRERS, ALL = "children", "referrers", "all"
SECONDS = 20.0
"""How long what follows is waited for; the rest goes on by itself."""
_PAGE = 200


@dataclass(frozen=True)
class Reach:
    """What goes along."""

    children: bool = False
    """Of an index: manifests without a tag that no other index lists; and theirs."""
    referrers: bool = False
    """What refers to it, has no tag and is listed by no index; and what refers to that."""

    @classmethod
    def parse(cls, words: Iterable[str]) -> Self:
        """Read `children`, `referrers` or `all`, also joined by commas; raises CascadeInvalid."""
        asked = {part for word in words for part in word.split(",") if part}
        if asked - {CHILDREN, REFERRERS, ALL}:
            raise CascadeInvalid(f"cascade is {CHILDREN}, {REFERRERS} or {ALL}")
        return cls(bool(asked & {CHILDREN, ALL}), bool(asked & {REFERRERS, ALL}))


ALONE = Reach()


@dataclass(frozen=True)
class Left:
    """What is to follow a manifest that has gone."""

    reach: Reach
    generation: int
    """Of the deletion that began it all: what was pushed since stays."""
    children: tuple[str, ...]


@dataclass(frozen=True)
class Cascading:
    """Deletes, and lets follow."""

    store: Store
    steps: Steps
    deletion: Deletion

    async def delete(self, name: ImageName, digest: Digest, act: Act, reach: Reach, guard: Guard = FREE) -> None:
        """Delete a manifest with its tags and what it reaches; once more, go on where it broke off.

        Raises what `Deletion.delete` raises, of the manifest itself; what follows may stay.
        """
        if reach == ALONE:
            await self.deletion.delete(name, digest, act, guard)
            return
        try:
            leaving = replace(guard, leaves=partial(self._leave, reach, STAMP))
            await self.deletion.delete(name, digest, act, leaving)
        except ManifestUnknown:
            await self._write_down(name, digest, act)
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                await self.finish(name, digest, act)

    async def finish(self, name: ImageName, digest: str, act: Act) -> None:
        """Let go what is to follow a manifest, and what is to follow that."""
        waiting = [digest]
        followed: list[tuple[str, Left]] = []
        while waiting:
            gone = waiting.pop()
            left = await self._left(name, gone)
            if left is None:
                continue
            async for each, tags in self._belongings(name, gone, left):
                if await self._follows(name, each, act, left, tags):
                    waiting.append(each)
            followed.append((gone, left))
        for gone, left in reversed(followed):  # what it began with is forgotten last: by it a repetition goes on
            await self._done(name, gone, left)

    async def unfinished(self, partitions: Sequence[str]) -> list[tuple[ImageName, str]]:
        """Manifests of these partitions that have gone, and whose belongings have not all followed."""
        cascades = [MembersOf(self.store.layout.cascades(partition)) for partition in partitions]
        return [_read(member) for member in chain.from_iterable(await self.store.state.look(cascades))]

    async def _follows(self, name: ImageName, each: str, act: Act, left: Left, tags: tuple[str, ...]) -> bool:
        guard = Guard(left.generation, tags, leaves=partial(self._leave, left.reach, str(left.generation)))
        part = act.part(f"{name.image}@{each}/follows/{left.generation}")
        try:
            return await self.deletion.delete(name, Digest(each), part, guard)
        except ManifestUnknown:
            return True  # whoever was faster, or began this before, may have left what is to follow it

    async def _belongings(self, name: ImageName, digest: str, left: Left) -> AsyncIterator[tuple[str, tuple[str, ...]]]:
        """What may follow, and the tags that do not keep it. A list of referrers comes before what it lists."""
        for child in left.children if left.reach.children else ():
            yield child, ()
        if not left.reach.referrers:
            return
        tag = referrers_tag(digest)
        pointer = await self.store.pointer(name, tag)
        if pointer is not None:
            yield pointer.digest, (tag,)
        after = ""
        while found := await self.store.referrers(name, digest, after, _PAGE):
            for each in found:
                yield each, ()
            after = found[-1]

    def _leave(self, reach: Reach, generation: Value, version: Version) -> Sequence[Write]:
        layout, name, digest = self.store.layout, version.name, version.digest
        if not (reach.referrers or version.facts.children):
            return ()
        key = layout.cascade(name, digest)
        words = [word for word, asked in ((CHILDREN, reach.children), (REFERRERS, reach.referrers)) if asked]
        return (
            PutField(key, "generation", generation),
            PutField(key, "reach", ",".join(words)),
            PutField(key, "children", orjson.dumps(version.facts.children).decode()),
            Index(layout.cascades_of(name.project), _member(name, digest)),
        )

    async def _left(self, name: ImageName, digest: str) -> Left | None:
        found = await self.store.state.record(self.store.layout.cascade(name, digest))
        if not found:
            return None
        children = tuple(orjson.loads(found["children"]))
        return Left(Reach.parse([found["reach"]]), int(found["generation"]), children)

    async def _write_down(self, name: ImageName, digest: Digest, act: Act) -> None:
        """Somebody asked once more; raises ManifestUnknown where nothing is to follow."""
        key = self.store.layout.cascade(name, digest)

        async def decide() -> Change:
            left = await self._left(name, digest)
            if left is None:
                raise ManifestUnknown(f"there is no manifest {digest}")
            checks = (FieldIs(key, "generation", str(left.generation)),)
            return Change(name.project, name.repository, checks, (), act.witness(self.deletion.deed(name, digest)))

        await self.steps.make(act.part("again"), decide)

    async def _done(self, name: ImageName, digest: str, left: Left) -> None:
        layout = self.store.layout
        key = layout.cascade(name, digest)
        step = Step(
            partition_of(name.project),
            f"followed/{_member(name, digest)}/{left.generation}",
            checks=(FieldIs(key, "generation", str(left.generation)),),
            writes=(Drop(key), Unindex(layout.cascades_of(name.project), _member(name, digest))),
        )
        with suppress(Moved):  # another replica was faster, or it has come back and gone again
            await self.steps.state.apply(step)


def _member(name: ImageName, digest: str) -> str:
    return f"{name.path}@{digest}"


def _read(member: str) -> tuple[ImageName, str]:
    path, _, digest = member.rpartition("@")
    return ImageName(*path.split("/", 2)), digest
