"""A build's record: what was asked, where it stands, what came of it; written as Cloud Build's JSON."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from services.builder.buildfile import BuildRequest

QUEUED, WORKING = "QUEUED", "WORKING"
SUCCESS, FAILURE, INTERNAL_ERROR = "SUCCESS", "FAILURE", "INTERNAL_ERROR"
TIMEOUT, CANCELLED, EXPIRED = "TIMEOUT", "CANCELLED", "EXPIRED"

ENDED = frozenset((SUCCESS, FAILURE, INTERNAL_ERROR, TIMEOUT, CANCELLED, EXPIRED))


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StepRecord(_Part):
    """Where one step stands."""

    status: str = QUEUED
    exit_code: int = 0
    started: str = ""
    finished: str = ""
    image_digest: str = ""


class Record(_Part):
    """One build. It is replaced whole, by compare-and-set."""

    id: str
    project: str
    location: str
    object: str
    """Name of the object with the build as it was asked for, substitutions made."""
    status: str = QUEUED
    reason: str = ""
    created: str
    created_at: float
    """The same as a Unix timestamp, for queueTtl."""
    started: str = ""
    finished: str = ""
    attempt: int = 0
    worker: str = ""
    runtime: str = ""
    steps: tuple[StepRecord, ...] = ()
    images: dict[str, str] = {}
    """Pushed image to its digest."""
    log: str = ""
    provenance: str = ""
    tags: tuple[str, ...] = ()
    asked_by: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED

    @property
    def name(self) -> str:
        """The resource's name."""
        return f"projects/{self.project}/locations/{self.location}/builds/{self.id}"


def as_build(record: Record, request: BuildRequest, log_address: str) -> dict[str, Any]:
    """The `Build` resource of cloudbuild v1."""
    asked = request.model_dump(by_alias=True, exclude_defaults=True, mode="json")
    build: dict[str, Any] = {
        **asked,
        "name": record.name,
        "id": record.id,
        "projectId": record.project,
        "status": record.status,
        "createTime": record.created,
        "timeout": request.timeout,
        "queueTtl": request.queue_ttl,
        "logUrl": log_address,
        "steps": [_step(step, state) for step, state in zip(asked["steps"], record.steps, strict=True)],
        "options": {"logging": "CLOUD_LOGGING_ONLY", **asked.get("options", {})},
    }
    optional = {"startTime": record.started, "finishTime": record.finished, "statusDetail": record.reason}
    build.update({name: value for name, value in optional.items() if value})
    if record.status == SUCCESS:
        build["results"] = _results(record)
    if record.reason and record.status in {FAILURE, INTERNAL_ERROR, TIMEOUT}:
        build["failureInfo"] = {"type": _failure_type(record), "detail": record.reason}
    return build


def _step(step: dict[str, Any], state: StepRecord) -> dict[str, Any]:
    shown = {**step, "status": state.status}
    if state.exit_code:
        shown["exitCode"] = state.exit_code
    if state.started:
        shown["timing"] = {"startTime": state.started, **({"endTime": state.finished} if state.finished else {})}
    return shown


def _results(record: Record) -> dict[str, Any]:
    images = [{"name": name, "digest": digest} for name, digest in record.images.items()]
    return {"images": images, "buildStepImages": [step.image_digest for step in record.steps]}


def _failure_type(record: Record) -> str:
    if record.status == INTERNAL_ERROR:
        return "FAILURE_TYPE_UNSPECIFIED"
    return "PUSH_FAILED" if record.reason.startswith("push") else "USER_BUILD_STEP"
