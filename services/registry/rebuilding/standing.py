"""Standing facts: which repositories there are and what is allowed in them, as the stream of last words says it."""

from dataclasses import dataclass, replace

from services.registry.download_rules import rules_beside
from services.registry.names import ImageName
from services.registry.quotas import quota_beside
from services.registry.rebuilding.entering import Entering, Pen
from services.registry.rebuilding.replaying import Replaying
from services.registry.records import Settings
from services.registry.store import Store
from services.registry.voice import Voice
from shared.clock import Ids
from shared.events.images import RepositoryState
from shared.events.states import PolicyState
from shared.http.iam import Policies
from shared.state import Drop, DropField, Index, Put, PutField, Unindex, Write

_PAGE = 200


@dataclass(frozen=True)
class Standing:
    """Lets facts have the last word."""

    store: Store
    policies: Policies
    voice: Voice
    entering: Entering
    pen: Pen
    replaying: Replaying
    ids: Ids

    async def repository(self, fact: RepositoryState) -> None:
        """A repository is there with these settings, or is gone with all that was in it."""
        project, repository = fact.project, fact.repository
        if fact.deleted:
            await self.gone(project, repository)
            return
        layout = self.store.layout
        known = await self.store.repository(project, repository)
        settings = _settings(fact, known.settings if known else Settings())
        writes: list[Write] = [
            PutField(layout.repository(project, repository), "settings", settings.text),
            _ruling(layout.repository(project, repository), settings),
            quota_beside(layout.repository(project, repository), settings),
            *rules_beside(layout, project, repository, settings),
            Index(layout.repositories(project), repository),
        ]
        closed = await self.store.state.has_member(layout.deletions_of(project), f"{project}/{repository}")
        if not closed and not (known and known.life):
            writes.append(PutField(layout.repository(project, repository), "open", self.ids.new()))
        await self.pen.now(project, writes)

    async def policy(self, fact: PolicyState) -> None:
        """This is the policy of a repository."""
        key = self.policies.key(fact.full_name)
        await self.pen.now(fact.project, [Drop(key) if fact.deleted else Put(key, fact.model_dump_json())])

    async def gone(self, project: str, repository: str) -> None:
        """Nothing is left of a repository; its counter stays."""
        layout = self.store.layout
        while images := await self.store.images(project, repository, "", _PAGE):
            for image in images:
                await self._empty(ImageName(project, repository, image))
        while digests := await self.store.held(project, repository, "", _PAGE):
            writes = [write for digest in digests for write in self.entering.no_blob(project, repository, digest)]
            await self.pen.now(project, writes)
        last = [
            Drop(layout.repository(project, repository)),
            Drop(layout.ruled(project, repository)),
            Drop(layout.files(project, repository)),
            Unindex(layout.repositories(project), repository),
            Unindex(layout.deletions_of(project), f"{project}/{repository}"),
            Drop(self.policies.key(self.voice.resource(project, repository))),
        ]
        await self.pen.now(project, last)

    async def _empty(self, name: ImageName) -> None:
        while digests := await self.store.versions(name, "", _PAGE):
            for digest in digests:
                await self.replaying.delete(name, digest)
        await self.pen.now(name.project, self.entering.no_image(name))


def _ruling(key: str, settings: Settings) -> Write:
    rules = settings.tag_rules.text
    return DropField(key, "tag_rules") if rules is None else PutField(key, "tag_rules", rules)


def _settings(fact: RepositoryState, known: Settings) -> Settings:
    """What the fact tells; a setting that it does not have stays as it is known."""
    told = {name: getattr(fact, name) for name in Settings.__dataclass_fields__ if hasattr(fact, name)}
    return replace(known, **told)
