"""What must hold once all is at rest, worked out from what was acknowledged: the same as after a run without a storm.

The equivalence, where a storm may leave a trace that a calm run would not: times, ids and generations; what is kept of
images that are gone, but for their being gone; attestations of a judgement that advisories have overtaken since; how
often cleanup came round; decisions on admissions, which depend on what was known by then.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import orjson

from services.audit_log.segments import object_of
from services.audit_log.verification import verified
from services.registry.layout import ALL, Layout
from services.registry.names import ImageName
from services.scanner.places import Place
from shared.blobs.memory import MemoryBlobs
from shared.events import caused_id
from shared.names import blob_object, manifest_object
from shared.state import Keys
from tests.simulation.client import NAME, REPOSITORY, Client, Promised
from tests.simulation.goods import counts, number_of, vouches
from tests.simulation.intents import PROJECTS
from tests.simulation.loop import Breach
from tests.simulation.world import World

IMAGE = f"local/{REPOSITORY}/{NAME}"
ENTRY_TRIES = 30
"""How often a call may have written its entry before the step that holds."""


class Oracle:
    """Looks at the stores themselves."""

    def __init__(self, world: World, client: Client) -> None:
        self._world = world
        self._client = client

    def rests(self) -> bool:
        """Whether services have nothing left that they do by and by."""
        return not any(self._unrest(project) for project in PROJECTS)

    def _unrest(self, project: str) -> bool:
        store = self._world.store
        attestor = _keys("attestor")
        due = store.values.get(attestor.of(project, "look_again"))
        return bool(due) or bool(_Registry(self._world, project).untidy)

    async def judge(self) -> None:
        """Raise Breach for the first thing that does not hold."""
        envelopes = self._world.witness.envelopes()
        deleted = {
            (one["data"]["project"], one["data"]["digest"]) for one in envelopes if one["type"] == "image.deleted"
        }
        for project in PROJECTS:
            promised = self._client.promised[project]
            registry = _Registry(self._world, project)
            registry.judge(promised)
            once = [digest for digest in registry.tagged if (project, digest) not in deleted]
            _Consumers(self._world, project, promised, registry).judge(once)
        self._judge_decisions(envelopes)
        await self._judge_audit_log(envelopes)

    def _judge_decisions(self, envelopes: list[dict[str, Any]]) -> None:
        told = {(one["data"]["uid"], one["data"]["allowed"]) for one in envelopes if one["type"] == "admission.decided"}
        running = self._world.store.hashes
        for decision in self._client.decisions:
            answered = (decision.uid, decision.allowed)
            _expect(answered in told, f"{answered} was answered and not announced")
            if decision.allowed and decision.digest:
                known = running.get(_keys("cleanup").of(decision.project, "running", "local", REPOSITORY), {})
                _expect(
                    f"{NAME}@{decision.digest}" in known, f"cleanup does not know that {decision.digest} was let in"
                )

    # The audit log.

    async def _judge_audit_log(self, envelopes: list[dict[str, Any]]) -> None:
        checked = await verified(MemoryBlobs(self._world.clock.now, self._world.bucket))
        _expect(not checked.broken, f"the audit log is broken: {checked.broken}")
        records = list(self._records())
        said = {one["id"] for one in envelopes if one["type"].startswith("audit.")}
        written = [record["source"]["event"] for record in records]
        _expect(len(set(written)) == len(written), "the audit log has an entry twice")
        _expect(set(written) == said, f"the audit log lacks {said - set(written)}, has more {set(written) - said}")
        names = [record["entry"]["insertId"] for record in records]
        _expect(len(set(names)) == len(names), "two entries have one insertId")
        _judge_numbers(records)
        places = {record["entry"]["insertId"]: record["source"]["sequence"] for record in records}
        for project, promised in self._client.promised.items():
            _judge_order(project, promised, places)

    def _records(self) -> Iterator[dict[str, Any]]:
        objects = self._world.bucket.objects
        number = 0
        while found := objects.get(object_of(number)):
            yield from map(orjson.loads, found.content.splitlines()[1:-1])
            number += 1


def _judge_numbers(records: list[dict[str, Any]]) -> None:
    numbers: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for record in records:
        source = record["source"]
        numbers[source["producer"], source["topic"], source["project"]].append(source["sequence"])
    for source, found in numbers.items():
        _expect(sorted(found) == list(range(1, len(found) + 1)), f"the audit log has gaps: {source} {found}")


def _judge_order(project: str, promised: Promised, places: Mapping[str, int]) -> None:
    """Every acknowledged change has its entry, numbered in the order of the acknowledgements."""
    last: dict[str, int] = {}
    for service, call in promised.calls:
        ids = (caused_id(call, "activity", number) for number in range(1, ENTRY_TRIES))
        place = next((places[name] for name in ids if name in places), 0)
        _expect(place > 0, f"a change acknowledged by {service} in {project} has no entry")
        _expect(place > last.get(service, 0), f"entries of {service} in {project} are out of order")
        last[service] = place


@dataclass
class _Registry:
    """What the registry holds of one project."""

    world: World
    project: str

    def __post_init__(self) -> None:
        self.layout = Layout(_keys("registry"))
        self.name = ImageName(self.project, REPOSITORY, NAME)  # type: ignore[arg-type]

    @cached_property
    def tags(self) -> dict[str, str]:
        """Where tags point."""
        found = self.world.store.indexes.get(self.layout.tags(self.name), {})
        texts = {tag: self.world.store.values[self.layout.tag(self.name, tag)] for tag in found}
        return {tag: text.partition(" ")[0] for tag, text in texts.items()}

    @cached_property
    def tagged(self) -> dict[str, None]:
        """Digests that a tag points at."""
        return dict.fromkeys(self.tags.values())

    @cached_property
    def versions(self) -> dict[str, dict[str, Any]]:
        """Facts of every manifest."""
        found = self.world.store.indexes.get(self.layout.versions(self.name), {})
        hashes = self.world.store.hashes
        return {digest: orjson.loads(hashes[self.layout.version(self.name, digest)]["facts"]) for digest in found}

    @property
    def untidy(self) -> list[str]:
        """What cleanup has yet to take: what has no tag, refers to nothing that is there and was let in nowhere."""
        running = self.world.store.hashes.get(_keys("cleanup").of(self.project, "running", "local", REPOSITORY), {})
        versions = self.versions
        kept = {**self.tagged, **{member.rpartition("@")[2]: None for member in running}}
        return [digest for digest, facts in versions.items() if digest not in kept and facts["subject"] not in versions]

    def judge(self, promised: Promised) -> None:
        """All that was acknowledged is there, nothing else is, and the registry's indexes agree with each other."""
        at, hashes, indexes = self.layout, self.world.store.hashes, self.world.store.indexes
        _expect(self.tags == promised.tags, f"tags of {self.project}: {self.tags}, promised {promised.tags}")
        _expect(self.versions.keys() >= self.tagged.keys(), f"a tag of {self.project} points at nothing")
        count = hashes.get(at.image(self.name), {}).get("versions", "0")
        _expect(int(count) == len(self.versions), f"{self.project} counts {count} versions of {len(self.versions)}")
        held = hashes.get(at.blobs(self.project, REPOSITORY), {})
        holders: dict[str, dict[str, None]] = defaultdict(dict)
        for digest, facts in self.versions.items():
            _expect(
                manifest_object(self.project, digest) in self.world.bucket.objects, f"{digest} is not in the bucket"
            )
            for blob in facts["blobs"]:
                holders[blob][f"{NAME}@{digest}"] = None
                _expect(blob in held, f"{self.project} does not hold {blob}")
                _expect(blob_object(self.project, blob) in self.world.bucket.objects, f"{blob} is not in the bucket")
            tags = {tag for tag, pointed in self.tags.items() if pointed == digest}
            listed = indexes.get(at.tags_of(self.name, digest), {})
            _expect(tags == listed.keys(), f"tags of {digest}: {tags}, listed {list(listed)}")
        self._judge_bytes(held)
        for blob in held:
            listed = indexes.get(at.holders(self.project, REPOSITORY, blob), {})
            _expect(listed.keys() == holders[blob].keys(), f"holders of {blob}: {list(listed)}")

    def _judge_bytes(self, held: Mapping[str, str]) -> None:
        """What is held can be read, and is counted exactly."""
        sizes = self.world.store.hashes.get(self.layout.sizes(self.project), {})
        for blob, size in held.items():
            found = self.world.bucket.objects.get(blob_object(self.project, blob))
            _expect(found is not None and len(found.content) == int(size), f"{blob} is held and cannot be read")
        total = sum(map(int, held.values())) + sum(facts["size"] for facts in self.versions.values())
        counted = (int(sizes.get(REPOSITORY, "0")), int(sizes.get(ALL, "0")))
        _expect(counted == (total, total), f"{self.project} counts {counted} bytes and holds {total}")


@dataclass(frozen=True)
class _Consumers:
    """What scanner, attestor and cleanup made of what the registry said of one project."""

    world: World
    project: str
    promised: Promised
    registry: _Registry

    def judge(self, once: list[str]) -> None:
        """`once` are living digests that were never deleted in between."""
        for digest in self.promised.digests:
            lives = digest in self.registry.versions
            self._judge_attestor(digest, lives=lives)
            self._judge_scanner(digest, lives=lives)
            self._judge_cleanup(digest, lives=lives)
        for digest, facts in self.registry.versions.items():
            if facts["subject"]:
                self._judge_cleanup(digest, lives=True)
        self._judge_tags()
        for digest in self.promised.digests:
            if digest in self.registry.versions:
                self._judge_attestations(digest, once=digest in once)

    def _judge_attestor(self, digest: str, *, lives: bool) -> None:
        facts = self._hash("attestor", "version", digest)
        presence = orjson.loads(facts.get(f"image {IMAGE}", "{}"))
        known = bool(presence) and not presence.get("deleted", False)
        _expect(known == lives, f"the attestor knows {digest} as {presence}, it lives: {lives}")
        if not lives:
            return
        found = orjson.loads(facts.get("scan", "{}")).get("counts", {})
        _expect(
            "scan" in facts and found == self._counts(digest), f"the attestor knows of {digest}: {facts.get('scan')}"
        )
        signed = self._signed(facts)
        now = {name for name in self.promised.attestors if vouches(name, self._counts(digest))}
        ever = {name for name in self.promised.attestors if vouches(name, counts(number_of(digest), 1))}
        _expect(now <= signed <= now | ever, f"{digest} is signed by {signed}, and {now} should")

    def _judge_scanner(self, digest: str, *, lives: bool) -> None:
        key = _keys("scanner").of(self.project, "image", self._place(digest).id)
        record = orjson.loads(self.world.store.values.get(key, "{}"))
        known = bool(record) and not record.get("deleted", False)
        _expect(known == lives, f"the scanner knows {digest} as {record}, it lives: {lives}")
        if lives:
            found = record.get("result", {}).get("counts", {})
            _expect(found == self._counts(digest), f"the scanner found {found} in {digest}")
            stands = record.get("result", {}).get("findings", "")
            _expect(not stands or stands in self.world.bucket.objects, f"the findings of {digest} were cleared")

    def _judge_cleanup(self, digest: str, *, lives: bool) -> None:
        record = orjson.loads(self._hash("cleanup", "versions", "local", REPOSITORY).get(f"{NAME}@{digest}", "{}"))
        known = bool(record) and not record.get("deleted", False)
        _expect(known == lives, f"cleanup knows {digest} as {record}, it lives: {lives}")

    def _judge_tags(self) -> None:
        attestor = self._hash("attestor", "tags", "local", REPOSITORY, NAME)
        cleanup = self._hash("cleanup", "tags", "local", REPOSITORY)
        for service, texts in (
            ("attestor", attestor),
            ("cleanup", {k.partition(":")[2]: v for k, v in cleanup.items()}),
        ):
            told = {tag: orjson.loads(text).get("digest", "") for tag, text in texts.items()}
            points = {tag: digest for tag, digest in told.items() if digest}
            _expect(points == self.registry.tags, f"{service} knows tags {points}, there are {self.registry.tags}")

    def _judge_attestations(self, digest: str, *, once: bool) -> None:
        """Each is listed by the scanner and hangs on the image; one of an earlier life may, if it came late."""
        signed = self._signed(self._hash("attestor", "version", digest))
        listed = self._hash("scanner", "attested", self._place(digest).id)
        names = {orjson.loads(text)["attestor"].rpartition("/")[2] for text in listed.values()}
        listed_right = names == signed if once else names >= signed
        _expect(listed_right, f"{digest} is signed by {signed}, and the scanner lists {names}")
        attached = [facts for facts in self.registry.versions.values() if facts["subject"] == digest]
        attached_right = len(attached) == len(signed) if once else len(attached) >= len(signed)
        _expect(attached_right, f"{digest} has {len(attached)} referrers of {len(signed)}")

    def _signed(self, facts: Mapping[str, str]) -> set[str]:
        """Who signed it in its present life."""
        life = orjson.loads(facts.get(f"image {IMAGE}", "{}")).get("buried", 0)
        made = {name: orjson.loads(text).get("life", 0) for name, text in facts.items() if name.startswith("evidence ")}
        return {name.split(" ")[1].rpartition("/")[2] for name, its in made.items() if its == life}

    def _counts(self, digest: str) -> Mapping[str, int]:
        return counts(number_of(digest), self.promised.edition)

    def _place(self, digest: str) -> Place:
        return Place(self.project, "local", REPOSITORY, NAME, digest)

    def _hash(self, service: str, *parts: str) -> dict[str, str]:
        return self.world.store.hashes.get(_keys(service).of(self.project, *parts), {})


@cache
def _keys(service: str) -> Keys:
    return Keys(service)


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - a condition
    if not holds:
        raise Breach(otherwise)
