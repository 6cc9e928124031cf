"""What the attestor remembers: attestors, policies, IAM policies, and what it heard of images."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from services.attestor.attestors import Attestor
from services.attestor.facts import Evidence, Presence, Scan, Tag, Version
from services.attestor.policy import Policy
from services.attestor.references import Place
from shared.names import partition_of
from shared.outbox import Outbox
from shared.state import (
    Change,
    Check,
    Drop,
    DropField,
    FieldIs,
    Fold,
    Index,
    Kept,
    Keys,
    MembersOf,
    Put,
    PutField,
    State,
    Step,
    Unindex,
    ValueIs,
    Write,
    learn,
)

EVIDENCE = "evidence "
PRESENCE = "image "
SCAN = "scan"


class Store:
    """The attestor's records over a state store."""

    def __init__(self, state: State, keys: Keys, outbox: Outbox) -> None:
        self._state = state
        self._keys = keys
        self._outbox = outbox

    # Attestors.

    async def attestor(self, project: str, attestor: str) -> Kept[Attestor] | None:
        """One attestor, by its id."""
        raw = await self._state.field(self._attestors(project), attestor)
        return None if raw is None else Kept(_attestor(raw), raw)

    async def attestors(self, project: str) -> dict[str, Kept[Attestor]]:
        """All attestors of a project, by id, in order."""
        found = await self._state.record(self._attestors(project))
        return {name: Kept(_attestor(found[name]), found[name]) for name in sorted(found)}

    async def named(self, names: Sequence[str]) -> dict[str, Attestor | None]:
        """Attestors by their full names, None for those that do not exist."""
        found: dict[str, Attestor | None] = {}
        for name in names:
            _, project, _, own = name.split("/")
            kept = await self.attestor(project, own)
            found[name] = kept.thing if kept else None
        return found

    async def put_attestor(self, after: Attestor, before: Kept[Attestor] | None, change: Change) -> None:
        """Write an attestor. Raises Moved when it is no longer as `before`."""
        key, field = self._attestors(after.project), after.name.rpartition("/")[2]
        check = FieldIs(key, field, before.raw if before else None)
        writes: list[Write] = [PutField(key, field, _text(after))]
        if after.auto_attest is not None:
            writes += self._look_again(after.project, change.request)
        await self._apply(after.project, (check,), tuple(writes), change)

    async def drop_attestor(self, before: Kept[Attestor], change: Change) -> None:
        """Delete an attestor. Raises Moved."""
        project, field = before.thing.project, before.thing.name.rpartition("/")[2]
        key = self._attestors(project)
        await self._apply(project, (FieldIs(key, field, before.raw),), (DropField(key, field),), change)

    # Looking again at what was scanned before an attestor was as it is now.

    async def due(self, partitions: Sequence[str]) -> list[tuple[str, str]]:
        """Projects whose scanned digests are to be looked at again, each with the request that wants it."""
        found: list[tuple[str, str]] = []
        due = await self._state.look([MembersOf(self._keys.at(partition, "due")) for partition in partitions])
        for project in chain.from_iterable(due):
            wanted = await self._state.value(self._keys.of(project, "look_again"))
            if wanted is not None:
                found.append((project, wanted))
        return found

    async def looked(self, project: str, wanted: str) -> None:
        """Projects are done when nobody wanted them again meanwhile. Raises Moved when somebody did."""
        key, due = self._keys.of(project, "look_again"), self._keys.at(partition_of(project), "due")
        writes = (Drop(key), Unindex(due, project))
        await self._state.apply(Step(partition_of(project), f"looked {wanted}", (ValueIs(key, wanted),), writes))

    async def scanned(self, project: str, after: str) -> list[str]:
        """Digests of a project that were scanned, a page of them."""
        return await self._state.members(self.scanned_key(project), after=after)

    def scanned_key(self, project: str) -> str:
        """The index of all digests that were scanned."""
        return self._keys.of(project, "scanned")

    def _look_again(self, project: str, request: str) -> list[Write]:
        due = self._keys.at(partition_of(project), "due")
        return [Put(self._keys.of(project, "look_again"), request), Index(due, project)]

    # The policy.

    async def policy(self, project: str) -> Kept[Policy] | None:
        """The policy that somebody set."""
        raw = await self._state.value(self._keys.of(project, "admission_policy"))
        return None if raw is None else Kept(_policy(raw), raw)

    async def put_policy(self, project: str, after: Policy, before: Kept[Policy] | None, change: Change) -> None:
        """Set the policy. Raises Moved."""
        key = self._keys.of(project, "admission_policy")
        check = ValueIs(key, before.raw if before else None)
        await self._apply(project, (check,), (Put(key, _text(after)),), change)

    # What was heard of images.

    async def tag(self, place: Place, tag: str) -> Tag | None:
        """What a tag points at."""
        raw = await self._state.field(self.tags_key(place), tag)
        return None if raw is None else _tag(raw)

    async def version(self, project: str, digest: str) -> Version:
        """All that is known of a digest."""
        found = await self._state.record(self.version_key(project, digest))
        return Version(
            digest=digest,
            presences={
                name.removeprefix(PRESENCE): _presence(raw) for name, raw in found.items() if name.startswith(PRESENCE)
            },
            scan=_scan(found[SCAN]) if SCAN in found else None,
            evidence={
                name.removeprefix(EVIDENCE): _evidence(raw) for name, raw in found.items() if name.startswith(EVIDENCE)
            },
        )

    async def evidence_by(self, key: str, project: str) -> dict[str, str]:
        """What callers of one project attested about the digest whose facts have that key, as stored, by field."""
        own = f"{EVIDENCE}projects/{project}/occurrences/"
        return {name: raw for name, raw in (await self._state.record(key)).items() if name.startswith(own)}

    async def learn(self, project: str, request: str, folds: Sequence[Fold]) -> None:
        """Write facts in one step, none of which undoes what another handler learned meanwhile."""
        await learn(self._state, partition_of(project), request, folds)

    async def write_facts(self, project: str, checks: Sequence[Check], writes: Sequence[Write], change: Change) -> None:
        """Write facts of one project. Raises Moved."""
        await self._apply(project, tuple(checks), tuple(writes), change)

    def attestor_is(self, kept: Kept[Attestor]) -> Check:
        """A check that the attestor is still as it was read."""
        name = kept.thing.name.rpartition("/")[2]
        return FieldIs(self._attestors(kept.thing.project), name, kept.raw)

    def tags_key(self, place: Place) -> str:
        """Where the tags of an image are kept."""
        return self._keys.of(place.project, "tags", place.location, place.repository, place.image)

    def version_key(self, project: str, digest: str) -> str:
        """Where the facts of a digest are kept."""
        return self._keys.of(project, "version", digest)

    def _attestors(self, project: str) -> str:
        return self._keys.of(project, "attestors")

    async def _apply(self, project: str, checks: tuple[Check, ...], writes: tuple[Write, ...], change: Change) -> None:
        drafts = self._outbox.drafts(change.events, change.cause)
        await self._state.apply(Step(partition_of(project), change.request, checks, writes, drafts))


# What is read at every admission is parsed once for each state of it; these are pure, and their results are frozen.


@lru_cache(maxsize=1024)
def _attestor(raw: str) -> Attestor:
    return Attestor.model_validate_json(raw)


@lru_cache(maxsize=256)
def _policy(raw: str) -> Policy:
    return Policy.model_validate_json(raw)


@lru_cache(maxsize=4096)
def _tag(raw: str) -> Tag:
    return Tag.model_validate_json(raw)


@lru_cache(maxsize=4096)
def _presence(raw: str) -> Presence:
    return Presence.model_validate_json(raw)


@lru_cache(maxsize=1024)
def _scan(raw: str) -> Scan:
    return Scan.model_validate_json(raw)


@lru_cache(maxsize=4096)
def _evidence(raw: str) -> Evidence:
    return Evidence.model_validate_json(raw)


def _text(thing: Attestor | Policy) -> str:
    return thing.model_dump_json(by_alias=True, exclude_defaults=True)
