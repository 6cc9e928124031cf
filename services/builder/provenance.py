"""The provenance of a build: an in-toto statement with a SLSA v1 predicate, in the shape Cloud Build writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.builder.buildfile import BuildRequest
from services.builder.record import Record

BUILD_TYPE = "https://entrepot.dev/build-types/steps/v1"


@dataclass(frozen=True)
class Origin:
    """Where and how the build was run."""

    builder: str
    """An address that names this deployment's builder."""
    source: str
    """Name of the object with the source; its last part is the SHA-256. Empty: none."""
    network: str
    """`internet` or `none`: whether steps could reach anything."""


def statement(record: Record, request: BuildRequest, origin: Origin, finished: str) -> dict[str, Any]:
    """What was built, from what, by whom; unsigned: signing is the attestor's."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [_subject(name, digest) for name, digest in record.images.items()],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "buildConfig": {"steps": _steps(request)},
                    "substitutions": dict(request.substitutions),
                },
                "internalParameters": {
                    "systemSubstitutions": {"PROJECT_ID": record.project, "BUILD_ID": record.id},
                    "runtime": record.runtime,
                    "network": origin.network,
                },
                "resolvedDependencies": _dependencies(record, request, origin.source),
            },
            "runDetails": {
                "builder": {"id": origin.builder},
                "metadata": {
                    "invocationId": f"{origin.builder}/v1/{record.name}",
                    "startedOn": record.started,
                    "finishedOn": finished,
                },
            },
        },
    }


def _subject(name: str, digest: str) -> dict[str, Any]:
    return {"name": f"https://{name}", "digest": _digest(digest)}


def _steps(request: BuildRequest) -> list[dict[str, Any]]:
    return [step.model_dump(by_alias=True, exclude_defaults=True, mode="json") for step in request.steps]


def _dependencies(record: Record, request: BuildRequest, source: str) -> list[Mapping[str, Any]]:
    images = {
        step.name: state.image_digest
        for step, state in zip(request.steps, record.steps, strict=True)
        if state.image_digest
    }
    found: list[Mapping[str, Any]] = [
        {"uri": f"{name}@{digest}", "digest": _digest(digest)} for name, digest in images.items()
    ]
    if source:
        found.insert(0, {"uri": source, "digest": {"sha256": source.rpartition("/")[2]}})
    return found


def _digest(digest: str) -> dict[str, str]:
    algorithm, _, content = digest.partition(":")
    return {algorithm: content}
