"""Attesting by ourselves: what a scan found is held against each attestor's threshold, and what meets it is signed."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from services.attestor.attestors import Attestor
from services.attestor.facts import Evidence, Scan, Signature, Version, objection
from services.attestor.key_ring import KeyRing
from services.attestor.occurrences import Occurrence, occurrence_json
from services.attestor.payloads import DSSE_MEDIA_TYPE, VULNERABILITIES, dsse, simple_signing, vulnerability_statement
from services.attestor.references import Place
from services.attestor.signing import SigningKey
from services.attestor.store import EVIDENCE, PRESENCE, Store
from shared.blobs import BlobExists, Blobs
from shared.clock import Clock
from shared.events import Cause, Event, caused_id
from shared.events.attestations import AttestationCreated
from shared.events.audit import AuditSystem
from shared.events.images import ReferrerRequested
from shared.http.entries import Asked, Origin, log_entry
from shared.identity.caller import Caller
from shared.names import path_token
from shared.state import Change, FieldIs, Kept, Moved, PutField

TRIES = 8


@dataclass(frozen=True)
class Attesting:
    """What is signed: one digest in one life of an image, as one attestor, because of one scan."""

    attestor: Attestor
    place: Place
    digest: str
    scan: Scan
    life: int

    @property
    def natural_key(self) -> str:
        """The same for every run that would make this attestation."""
        return f"{self.attestor.name} {self.digest} {self.attestor.signing_key_id} {self.place.home} {self.life}"

    @property
    def field(self) -> str:
        """Under which name it is kept: each location has one of its own."""
        return f"{_earlier_field(self.attestor)} {self.place.location}"

    @property
    def object(self) -> str:
        """Name of the object with the attestation; its DSSE form lies beside it."""
        own = path_token(self.attestor.name.rpartition("/")[2])
        key = hashlib.sha256(self.natural_key.encode()).hexdigest()[:16]
        folder = self.digest.replace(":", "/")
        return f"attestor/attestations/{self.place.project}/{folder}/{own}-{key}.json"


class AutoAttestor:
    """Signs what meets the threshold, once for each attestor, digest, key and location; again when its image went."""

    def __init__(self, store: Store, blobs: Blobs, ring: KeyRing, clock: Clock, registries: Mapping[str, str]) -> None:
        """`registries` gives the location of each host name; the first of a location stands in what is signed."""
        self._store = store
        self._blobs = blobs
        self._ring = ring
        self._clock = clock
        self._registries = registries

    async def consider(self, project: str, digest: str, traceparent: str) -> int:
        """Sign the digest as every attestor whose threshold it meets; returns how many attestations were made.

        Called whenever something is learned that could make it possible, in whatever order that was said.
        """
        for _ in range(TRIES):
            try:
                return await self._consider(project, digest, traceparent)
            except Moved:
                continue
        raise Moved

    async def _consider(self, project: str, digest: str, traceparent: str) -> int:
        version = await self._store.version(project, digest)
        if version.scan is None:
            return 0
        made = 0
        for kept in (await self._store.attestors(project)).values():
            for home in version.homes:
                place, life = Place(project, *home.split("/", 2)), version.presences[home].buried
                due = Attesting(kept.thing, place, digest, version.scan, life)
                if self._is_wanted(due, version):
                    await self._attest(kept, due, version, traceparent)
                    made += 1
        return made

    def _is_wanted(self, due: Attesting, version: Version) -> bool:
        attestor = due.attestor
        if attestor.auto_attest is None or not attestor.signing_key_id or objection(due.scan, attestor.auto_attest):
            return False
        made = version.evidence.get(due.field)
        earlier = version.evidence.get(_earlier_field(attestor))
        there = due.place.location + "/"
        if made is None and earlier is not None and earlier.image.startswith(there):
            made = earlier
        return made is None or not version.hangs(made)

    async def _attest(self, kept: Kept[Attestor], due: Attesting, version: Version, traceparent: str) -> None:
        key = await self._ring.key(due.attestor.name, due.attestor.signing_key_id)
        evidence = await self._written(due, key)
        events = self._events(due)
        cause = Cause(id=caused_id(due.natural_key, "attestation", 0), traceparent=traceparent)
        facts = self._store.version_key(due.place.project, due.digest)
        before, presence = version.evidence.get(due.field), version.presences[due.place.home]
        checks = (
            self._store.attestor_is(kept),
            FieldIs(facts, EVIDENCE + due.field, before.stored() if before else None),
            FieldIs(facts, PRESENCE + due.place.home, presence.stored()),
        )
        write = PutField(facts, EVIDENCE + due.field, evidence.stored())
        change = Change(f"attest {cause.id}", cause, events)
        await self._store.write_facts(due.place.project, checks, (write,), change)

    async def _written(self, due: Attesting, key: SigningKey) -> Evidence:
        """The attestation and its DSSE form as objects. What a run before this one wrote is taken as it is."""
        reference = f"{self._host_of(due.place)}/{due.place.path}"
        payload = simple_signing(reference, due.digest)
        signature = Signature(key_id=key.id, signature=base64.b64encode(key.sign(payload)).decode())
        statement = vulnerability_statement(reference, due.digest, _predicate(due.scan))
        occurrence = occurrence_json(f"https://{reference}@{due.digest}", due.attestor.note, payload, signature)
        content = await self._kept(due.object, orjson.dumps(occurrence))
        await self._kept(_dsse_object(due.object), dsse(statement, key))
        evidence = Occurrence.read(content).evidence(due.object)
        return evidence.model_copy(update={"image": due.place.home, "life": due.life})

    def _host_of(self, place: Place) -> str:
        hosts = [host for host, location in self._registries.items() if location == place.location]
        return next(iter(hosts or self._registries))

    async def _kept(self, name: str, content: bytes) -> bytes:
        try:
            await self._blobs.put(name, content, if_absent=True)
        except BlobExists:
            return await self._blobs.content(name)
        return content

    def _events(self, due: Attesting) -> list[Event]:
        at = {"project": due.place.project, "location": due.place.location, "repository": due.place.repository}
        created = AttestationCreated(
            **at,
            attestor=due.attestor.name,
            image=due.place.image,
            digest=due.digest,
            note=due.attestor.note,
            object=due.object,
            key_id=due.attestor.signing_key_id,
            reason=str(due.scan)[:500],
        )
        referrer = ReferrerRequested(
            **at,
            image=due.place.image,
            subject_digest=due.digest,
            artifact_type=DSSE_MEDIA_TYPE,
            media_type=DSSE_MEDIA_TYPE,
            object=_dsse_object(due.object),
            annotations={
                "in-toto.io/predicate-type": VULNERABILITIES,
                "org.opencontainers.image.created": due.scan.scanned,
            },
        )
        return [created, referrer, self._system_entry(due, created)]

    def _system_entry(self, due: Attesting, created: AttestationCreated) -> AuditSystem:
        project = due.place.project
        asked = Asked(
            method="entrepot.attestor.v1.AutoAttest",
            resource=due.attestor.name,
            request={"image": f"{self._host_of(due.place)}/{due.place.path}@{due.digest}", "reason": created.reason},
        )
        origin = Origin("attestor", Caller("system:attestor"), "", "", "")
        insert_id = caused_id(due.natural_key, "system_event", 0)
        entry = log_entry("system_event", project, origin, asked, now=self._clock.now(), insert_id=insert_id)
        return AuditSystem(project=project, location=due.place.location, producer="attestor", entry=entry)


def _predicate(scan: Scan) -> dict[str, Any]:
    return {
        "scanner": {"uri": "entrepot:scanner", "db": {"version": scan.advisories}},
        "result": {"counts": scan.counts, "fixable": scan.fixable, "highestCvss": scan.highest_cvss},
        "metadata": {"scanFinishedOn": scan.scanned},
    }


def _dsse_object(name: str) -> str:
    return name.removesuffix(".json") + ".dsse.json"


def _earlier_field(attestor: Attestor) -> str:
    """Where attestations were kept while there was one for all locations."""
    return f"{attestor.name} {attestor.signing_key_id}"
