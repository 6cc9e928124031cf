"""A plan put into words: the object that it is kept as, and the jobs that ask the owner of the images."""

from collections.abc import Sequence

import orjson

from services.cleanup.plan import Plan
from services.cleanup.runs import Run
from services.cleanup.store import Place
from services.cleanup.versions import Version
from shared.clock import rfc3339
from shared.events import Event
from shared.events.cleanups import CleanupPlanned, CleanupRequested, Doomed

JOB_BYTES = 48_000
MOST_TAGS = 300
"""Of a version that a job names; its owner keeps one that has a tag which is not named."""


def plan_json(found: Plan) -> bytes:
    """The plan as an object: what goes, in the order in which it is asked for, and what stays against some policy."""
    content = {
        "seen": found.seen,
        "delete": [version_json(version, reason) for version, reason in found.doomed],
        "keep": [version_json(version, reason) for version, reason in found.spared],
    }
    return orjson.dumps(content)


def version_json(version: Version, reason: str) -> dict[str, object]:
    """A version and what is said of it."""
    told: dict[str, object] = {
        "image": version.name.image,
        "digest": version.name.digest,
        "tags": list(version.tags),
        "uploadTime": rfc3339(version.uploaded),
        "sizeBytes": version.size,
        "generation": version.generation,
        "reason": reason,
    }
    return told | ({"pullTime": version.pulled} if version.pulled else {})


def names_in(content: bytes) -> list[tuple[str, str]]:
    """Image and digest of what a plan's object says goes."""
    return [(version["image"], version["digest"]) for version in orjson.loads(content)["delete"]]


def planned(place: Place, run: Run) -> CleanupPlanned:
    """What is said of a plan."""
    return CleanupPlanned(
        project=place.project,
        location=place.location,
        repository=place.repository,
        run=run.id,
        dry_run=run.dry_run,
        count=run.count,
        bytes=run.size_bytes,
        object=run.plan_object,
    )


def jobs(place: Place, run: Run, policies: str, doomed: Sequence[tuple[Version, str]]) -> list[Event]:
    """The versions in jobs, each small enough for an event; `policies` is their fingerprint, where they can change."""
    batches: list[list[Doomed]] = [[]]
    room = JOB_BYTES
    for version, reason in doomed:
        condemned = _doomed(version, reason)
        size = len(condemned.model_dump_json())
        if size > room and batches[-1]:
            batches.append([])
            room = JOB_BYTES
        batches[-1].append(condemned)
        room -= size
    return [
        CleanupRequested(
            project=place.project,
            location=place.location,
            owner="registry",
            repository=place.repository,
            run=run.id,
            policies=policies,
            versions=tuple(batch),
        )
        for batch in batches
        if batch
    ]


def _doomed(version: Version, reason: str) -> Doomed:
    name = version.name
    tags = version.tags[:MOST_TAGS]
    return Doomed(image=name.image, digest=name.digest, generation=version.generation, tags=tags, reason=reason)
