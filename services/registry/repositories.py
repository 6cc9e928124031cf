"""Repositories: made, changed and deleted, each in one atomic step with its announcement.

A deletion takes as many steps as there are versions. It first closes the repository, so that nothing is taken any
more, and is taken up again by any replica when the one that began it is gone.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

from services.registry.acts import Act, Change, Deed, Steps
from services.registry.deletion import Guard
from services.registry.download_rules import rules_beside
from services.registry.emptying import Emptying
from services.registry.errors import NameUnknown, RepositoryExists
from services.registry.holdings import Holdings
from services.registry.layout import ALL
from services.registry.names import ImageName
from services.registry.quotas import quota_beside
from services.registry.records import RepositoryRecord, Settings
from services.registry.store import Store
from services.registry.voice import Voice
from shared.clock import Ids, rfc3339
from shared.http.errors import FailedPrecondition
from shared.http.iam import Policies
from shared.names import partition_of
from shared.state import (
    Add,
    Check,
    Drop,
    DropField,
    FieldIs,
    Index,
    IsMember,
    MembersOf,
    Moved,
    PutField,
    Step,
    Unindex,
    Write,
)

CREATE = "artifactregistry.repositories.create"
UPDATE = "artifactregistry.repositories.update"
DELETE = "artifactregistry.repositories.delete"
_METHOD = "google.devtools.artifactregistry.v1.ArtifactRegistry"
_PAGE = 200


@dataclass(frozen=True)
class Repositories:
    """The repositories of this deployment."""

    store: Store
    steps: Steps
    voice: Voice
    emptying: Emptying
    policies: Policies
    ids: Ids
    holdings: Holdings

    async def get(self, project: str, repository: str) -> RepositoryRecord:
        """A repository that is open; raises NameUnknown."""
        record = await self.store.repository(project, repository)
        if record is None or not record.life:
            raise NameUnknown(f"there is no repository {self.voice.resource(project, repository)}")
        return record

    async def create(self, project: str, repository: str, settings: Settings, act: Act) -> RepositoryRecord:
        """Make a repository; raises RepositoryExists, FailedPrecondition while one of that name is being deleted."""

        async def decide() -> Change:
            found = await self.store.repository(project, repository)
            if found is not None and not found.life:
                raise FailedPrecondition(f"{self.voice.resource(project, repository)} is still being deleted")
            if found is not None:
                raise RepositoryExists(f"there is {self.voice.resource(project, repository)} already")
            return self._creation(project, repository, settings, act)

        await self.steps.make(act, decide)
        return await self.get(project, repository)

    async def ensure(self, project: str, repository: str, act: Act) -> None:
        """Make the repository unless somebody was faster."""
        try:
            await self.create(project, repository, Settings(), act)
        except RepositoryExists:
            return

    async def update(
        self, project: str, repository: str, changed: Callable[[RepositoryRecord], Settings], act: Act
    ) -> RepositoryRecord:
        """Change settings; `changed` may refuse by raising. Raises NameUnknown."""

        async def decide() -> Change:
            record = await self.get(project, repository)
            kept = {"created": record.settings.created, "download_rules": record.settings.download_rules}
            settings = replace(changed(record), updated=self._now(), **kept)
            after = replace(record, settings=settings, text=settings.text)
            key = self.store.layout.repository(project, repository)
            deed = Deed(f"{_METHOD}.UpdateRepository", self.voice.resource(project, repository), UPDATE)
            return Change(
                project,
                repository,
                checks=(FieldIs(key, "settings", record.text), FieldIs(key, "open", record.life)),
                writes=(PutField(key, "settings", after.text), _ruling(key, settings), quota_beside(key, settings)),
                events=[*self.voice.repository(after, "updated"), *act.witness(deed)],
            )

        await self.steps.make(act, decide)
        return await self.get(project, repository)

    async def close(self, project: str, repository: str, act: Act) -> str:
        """Begin to delete a repository: from now on it takes nothing and shows nothing. Raises NameUnknown.

        Returns which life of the repository ends.
        """
        life = ""

        async def decide() -> Change:
            nonlocal life
            record = await self.get(project, repository)
            life = record.life
            layout = self.store.layout
            key = layout.repository(project, repository)
            deed = Deed(f"{_METHOD}.DeleteRepository", self.voice.resource(project, repository), DELETE)
            return Change(
                project,
                repository,
                checks=(FieldIs(key, "open", record.life),),
                writes=(DropField(key, "open"), Index(layout.deletions_of(project), f"{project}/{repository}")),
                events=act.witness(deed),
            )

        await self.steps.make(act.part("close"), decide)
        return life

    async def finish_deletion(self, project: str, repository: str, act: Act) -> None:
        """Go on with a deletion that was begun; everything that goes is announced."""
        closed = Guard(checks=self._closed(project, repository), above_rules=True)
        while images := await self.store.images(project, repository, "", _PAGE):
            for image in images:
                await self.emptying.empty(ImageName(project, repository, image), act, closed)
        await self._forget_blobs(project, repository)
        await self._remove(project, repository, act)

    async def unfinished(self, partitions: Sequence[str]) -> list[tuple[str, str]]:
        """Repositories of these partitions whose deletion was begun."""
        deletions = [MembersOf(self.store.layout.deletions(partition)) for partition in partitions]
        found = chain.from_iterable(await self.store.state.look(deletions))
        return [(project, repository) for project, _, repository in (member.partition("/") for member in found)]

    def _creation(self, project: str, repository: str, settings: Settings, act: Act) -> Change:
        now = self._now()
        settings = replace(settings, created=now, updated=now)
        record = RepositoryRecord(project, repository, settings, self.ids.new(), settings.text)
        layout = self.store.layout
        key = layout.repository(project, repository)
        deed = Deed(f"{_METHOD}.CreateRepository", self.voice.resource(project, repository), CREATE)
        return Change(
            project,
            repository,
            checks=(FieldIs(key, "settings", None),),
            writes=(
                PutField(key, "settings", record.text),
                _ruling(key, settings),
                quota_beside(key, settings),
                *rules_beside(layout, project, repository, settings),
                PutField(key, "open", record.life),
                Index(layout.repositories(project), repository),
                PutField(layout.sizes(project), repository, "0"),
                Index(layout.counted(project), repository),
            ),
            events=[*self.voice.repository(record, "created"), *act.witness(deed)],
        )

    async def _forget_blobs(self, project: str, repository: str) -> None:
        layout, state = self.store.layout, self.store.state
        for digest, size in (await state.record(layout.blobs(project, repository))).items():
            writes = self.holdings.unwrites(project, repository, digest, int(size))
            held = FieldIs(layout.blobs(project, repository), digest, size)
            with suppress(Moved):  # another replica was faster
                await self._quietly(project, repository, f"unuse/{digest}", writes, held)
        kept = (layout.blobs, layout.blob_list, layout.files)
        await self._quietly(project, repository, "unhold", [Drop(key(project, repository)) for key in kept])

    async def _quietly(self, project: str, repository: str, what: str, writes: list[Write], *more: Check) -> None:
        request = f"{what}/{self.ids.new()}"
        checks = (*self._closed(project, repository), *more)
        await self.steps.state.apply(Step(partition_of(project), request, checks, tuple(writes)))

    def _closed(self, project: str, repository: str) -> tuple[Check, ...]:
        """Without this a replica that slept would empty the repository that was made anew meanwhile."""
        layout = self.store.layout
        return (
            FieldIs(layout.repository(project, repository), "open", None),
            IsMember(layout.deletions_of(project), f"{project}/{repository}"),
        )

    async def _remove(self, project: str, repository: str, act: Act) -> None:
        async def decide() -> Change | None:
            record = await self.store.repository(project, repository)
            if record is None or record.life:
                return None
            layout = self.store.layout
            key = layout.repository(project, repository)
            full_name = self.voice.resource(project, repository)
            policy_set = await self.policies.of(full_name) is not None
            held = await self.store.state.field(layout.sizes(project), repository)
            drop_policy, policy_gone = self.policies.gone(full_name)
            return Change(
                project,
                repository,
                checks=(
                    FieldIs(key, "settings", record.text),
                    FieldIs(key, "open", None),
                    FieldIs(layout.sizes(project), repository, held),
                ),
                writes=(
                    drop_policy,
                    # Nothing is left of it, but where it was never counted whole.
                    Add(layout.sizes(project), ALL, -int(held or "0")),
                    DropField(layout.sizes(project), repository),
                    Unindex(layout.counted(project), repository),
                    DropField(layout.neared(project), repository),
                    Drop(key),
                    Drop(layout.ruled(project, repository)),
                    Unindex(layout.repositories(project), repository),
                    Unindex(layout.deletions_of(project), f"{project}/{repository}"),
                ),
                events=[*self.voice.repository(record, "deleted"), *([policy_gone] if policy_set else [])],
            )

        await self.steps.make(act.part("remove"), decide)

    def _now(self) -> str:
        return rfc3339(self.steps.clock.now())


def _ruling(key: str, settings: Settings) -> Write:
    """The rules for tags once more by themselves: every push and deletion reads them, and checks them in its step."""
    rules = settings.tag_rules.text
    return DropField(key, "tag_rules") if rules is None else PutField(key, "tag_rules", rules)
