"""A Kubernetes AdmissionReview: which images it would run, and how it is answered."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.attestor.decision import Verdict
from services.attestor.policy import Workload
from services.attestor.references import Reference

API_VERSION: Final = "admission.k8s.io/v1"
BREAKGLASS_LABELS: Final = ("image-policy.k8s.io/break-glass", "imagepolicywebhook.image-policy.k8s.io/break-glass")
BREAKGLASS_ANNOTATION: Final = "alpha.image-policy.k8s.io/break-glass"
JUSTIFICATION: Final = "attestor.entrepot/break-glass-justification"
MOST_IMAGES: Final = 500

_POD_PATHS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): ("spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("extensions", "Deployment"): ("spec", "template"),
    ("extensions", "ReplicaSet"): ("spec", "template"),
    ("extensions", "DaemonSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
"""Where the pod (its metadata and spec) lies in each kind that bears one."""


class _Lenient(BaseModel):
    """Kubernetes adds fields with each release; those that are not needed here are not read."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class _Kind(_Lenient):
    group: str = ""
    version: str = ""
    kind: str = ""


class _User(_Lenient):
    username: str = ""


class Request(_Lenient):
    """The part of an AdmissionRequest that a decision needs."""

    uid: str = Field(min_length=1, max_length=256)
    kind: _Kind
    sub_resource: str = Field(default="", alias="subResource")
    name: str = Field(default="", max_length=512)
    namespace: str = Field(default="", max_length=512)
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    user_info: _User = Field(default=_User(), alias="userInfo")
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = Field(default=None, alias="oldObject")
    dry_run: bool | None = Field(default=None, alias="dryRun")


class Review(_Lenient):
    """What kube-apiserver sends."""

    api_version: Literal["admission.k8s.io/v1"] = Field(alias="apiVersion")
    kind: Literal["AdmissionReview"]
    request: Request


class _Container(_Lenient):
    name: str = ""
    image: str | None = None


class _ImageVolume(_Lenient):
    reference: str | None = None


class _Volume(_Lenient):
    image: _ImageVolume | None = None


class _PodSpec(_Lenient):
    init_containers: list[_Container] | None = Field(default=None, alias="initContainers")
    containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = Field(default=None, alias="ephemeralContainers")
    volumes: list[_Volume] | None = None
    service_account: str | None = Field(default=None, alias="serviceAccountName")


class _Metadata(_Lenient):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Pod(_Lenient):
    metadata: _Metadata | None = None
    spec: _PodSpec | None = None


class Unreadable(Exception):
    """The object is not one that Kubernetes could run; it is refused."""


@dataclass(frozen=True)
class Use:
    """One place in an object that names an image."""

    pointer: str
    """JSON pointer to it."""
    text: str


@dataclass(frozen=True)
class Pods:
    """What an object would run, and as whom."""

    uses: tuple[Use, ...]
    service_account: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def breakglass(self) -> bool:
        """Whether the pod asks to be let in whatever the policy says."""
        asked = [self.labels.get(label) for label in BREAKGLASS_LABELS]
        return "true" in (*asked, self.annotations.get(BREAKGLASS_ANNOTATION))

    @property
    def justification(self) -> str:
        """Why it asks."""
        return self.annotations.get(JUSTIFICATION, "").strip()[:500]


def images_to_check(request: Request) -> Pods | None:
    """What the request would newly run; None where there is nothing to check. Raises Unreadable.

    An update is checked for the images that it brings: what runs already must stay possible to label and to delete.
    """
    if request.operation not in {"CREATE", "UPDATE"} or request.sub_resource not in {"", "ephemeralcontainers"}:
        return None
    path = _POD_PATHS.get((request.kind.group, request.kind.kind))
    if path is None and request.sub_resource:
        raise Unreadable(f"containers are added by a {request.kind.kind or 'request without a kind'}, not by a Pod")
    if path is None:
        return None
    if request.object is None:
        raise Unreadable(f"the {request.kind.kind} itself is not in the request")
    pods = _pods(path, request.object)
    if request.operation == "CREATE" or request.old_object is None:
        return pods
    known = {use.text for use in _pods(path, request.old_object).uses}
    return Pods(
        tuple(use for use in pods.uses if use.text not in known), pods.service_account, pods.labels, pods.annotations
    )


def workload(request: Request, pods: Pods, cluster: str) -> Workload:
    """Who wants to run it."""
    return Workload(cluster, request.namespace, pods.service_account)


def _pods(path: Sequence[str], content: dict[str, Any]) -> Pods:
    pod = _pod_at(content, path)
    spec = pod.spec or _PodSpec()
    metadata = pod.metadata or _Metadata()
    uses = tuple(_uses("/" + "/".join((*path, "spec")), spec))
    if len(uses) > MOST_IMAGES:
        raise Unreadable(f"more than {MOST_IMAGES} images")
    return Pods(uses, spec.service_account or "default", metadata.labels or {}, metadata.annotations or {})


def _pod_at(content: dict[str, Any], path: Sequence[str]) -> _Pod:
    found: Any = content
    for depth, name in enumerate(path):
        inner = cast("dict[str, Any]", found).get(name)
        found = {} if inner is None else inner
        if not isinstance(found, dict):
            raise Unreadable(f"{'.'.join(path[: depth + 1])} is no object")
    try:
        return _Pod.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join((*path, *map(str, first["loc"])))
        raise Unreadable(f"{place}: {first['msg']}") from error


def _uses(where: str, spec: _PodSpec) -> Iterator[Use]:
    groups = (
        ("initContainers", spec.init_containers),
        ("containers", spec.containers),
        ("ephemeralContainers", spec.ephemeral_containers),
    )
    for name, containers in groups:
        for number, container in enumerate(containers or ()):
            yield Use(f"{where}/{name}/{number}/image", container.image or "")
    for number, volume in enumerate(spec.volumes or ()):
        if volume.image is not None:
            yield Use(f"{where}/volumes/{number}/image/reference", volume.image.reference or "")


# The answer.


@dataclass(frozen=True)
class Outcome:
    """What is answered to one review."""

    allowed: bool
    reasons: tuple[str, ...] = ()
    """Of what was refused, or would have been."""
    warnings: tuple[str, ...] = ()
    pins: tuple[tuple[Use, str], ...] = ()
    """Places whose image is replaced by one by digest."""
    notes: tuple[tuple[str, str], ...] = ()
    """Audit annotations."""
    images: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    """Those of our own that were let in, where the caller may speak for their project."""
    breakglass: bool = False
    dry_run: bool = False
    code: int = 403


def pins(pods: Pods, digests: dict[str, str]) -> tuple[tuple[Use, str], ...]:
    """The places that name a tag whose digest is known; `digests` by reference text."""
    known = [(use, digests[use.text]) for use in pods.uses if digests.get(use.text)]
    return tuple(
        (use, reference.pinned(digest)) for use, digest in known if not (reference := Reference.parse(use.text)).digest
    )


def told(verdict: Verdict) -> str:
    """A verdict as a person reads it."""
    return f"{verdict.image}: {verdict.reason} (rule: {verdict.rule})"


def answer(uid: str, outcome: Outcome) -> dict[str, Any]:
    """The AdmissionReview that kube-apiserver gets."""
    response: dict[str, Any] = {"uid": uid, "allowed": outcome.allowed}
    if not outcome.allowed:
        message = "\n".join(outcome.reasons)[:16_000]
        response["status"] = {"code": outcome.code, "reason": _REASONS[outcome.code], "message": message}
    elif outcome.pins:
        patch = [{"op": "replace", "path": use.pointer, "value": image} for use, image in outcome.pins]
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(patch)).decode()}
    if outcome.notes:
        response["auditAnnotations"] = {name: value[:1000] for name, value in outcome.notes}
    if outcome.warnings:
        response["warnings"] = [_short(warning) for warning in outcome.warnings[:20]]
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


_REASONS: Final = {403: "Forbidden", 422: "Invalid", 504: "Timeout"}


def _short(warning: str) -> str:
    """Kubernetes cuts warnings of more than 256 characters, and may drop those behind."""
    return warning if len(warning) <= 250 else warning[:249] + "…"
