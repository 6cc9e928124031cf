"""Admitting: a review is answered from what is known already, each digest looked at once."""

import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from services.attestor.admission import (
    JUSTIFICATION,
    Outcome,
    Pods,
    Request,
    Unreadable,
    images_to_check,
    pins,
    told,
    workload,
)
from services.attestor.decision import Known, Verdict, decide
from services.attestor.policy import ALLOW_ALL, Policy, Workload
from services.attestor.references import Place, Reference, place_of
from services.attestor.store import Store
from shared.events.attestations import AdmissionDecided

May = Callable[[str], Awaitable[bool]]
"""Whether the caller may see what is known of a project's images."""

MOST_EVENT_BYTES = 40_000


@dataclass(frozen=True)
class Cluster:
    """Where the review comes from, as the webhook's address says."""

    project: str
    name: str
    pins: bool
    """Whether tags are replaced by digests; otherwise, in a validating webhook, they are refused."""


@dataclass(frozen=True)
class Rules:
    """How breakglass is granted."""

    breakglass: bool = True
    justified: bool = True


class Admitting:
    """Answers reviews."""

    def __init__(self, store: Store, registries: Mapping[str, str], rules: Rules) -> None:
        self._store = store
        self._registries = registries
        self._rules = rules

    async def outcome(self, request: Request, cluster: Cluster, may: May) -> Outcome:
        """The outcome of a review, from our own records alone."""
        try:
            pods = images_to_check(request)
        except Unreadable as error:
            return Outcome(allowed=False, reasons=(f"the object cannot be read: {error}",), code=422)
        if pods is None or not pods.uses:
            return Outcome(allowed=True)
        kept = await self._store.policy(cluster.project)
        policy = kept.thing if kept else ALLOW_ALL
        look = _Look(cluster, may, {cluster.project: True})
        found = await self._verdicts(policy, workload(request, pods, cluster.name), pods, look)
        return self._concluded(policy, pods, cluster, found)

    async def _verdicts(self, policy: Policy, who: Workload, pods: Pods, look: "_Look") -> "_Verdicts":
        """One verdict for each image, whether it is named once or by ten containers."""
        _, rule = policy.rule_for(who)
        attestors = await self._store.named(rule.require_attestations_by)
        found = _Verdicts({}, {}, {})
        for text in dict.fromkeys(use.text for use in pods.uses):
            try:
                reference = Reference.parse(text)
            except ValueError as error:
                found.by_image[text] = Verdict(text[:200], allowed=False, reason=str(error), rule="image reference")
                continue
            known = await self._known(reference, look)
            found.digests[text] = known.digest
            if known.place is not None and known.digest and known.details:
                found.running[f"{known.place.project}/{known.place.home}@{known.digest}"] = None
            image = reference.pinned(known.digest) if known.digest and look.cluster.pins else text
            if image not in found.by_image:
                verdict = decide(policy, who, known, attestors)
                found.by_image[image] = verdict if look.cluster.pins else _by_digest_only(verdict, known)
        return found

    async def _known(self, reference: Reference, look: "_Look") -> Known:
        place = place_of(reference, self._registries)
        if place is None:
            return Known(reference, None, reference.digest)
        shown = await look.shows(place.project)
        # Where a tag points is told only to those who may see it: a pinned image would tell it to anybody.
        digest = reference.digest or (await self._digest(place, reference.tag) if shown else "")
        version = await self._store.version(place.project, digest) if digest else None
        return Known(reference, place, digest, version, shown)

    async def _digest(self, place: Place, tag: str) -> str:
        points = await self._store.tag(place, tag)
        return points.digest if points else ""

    def _concluded(self, policy: Policy, pods: Pods, cluster: Cluster, found: "_Verdicts") -> Outcome:
        verdicts = list(found.by_image.values())
        refused = [verdict for verdict in verdicts if not verdict.allowed]
        blocking = [verdict for verdict in refused if not verdict.lets_in]
        breakglass = pods.breakglass and self._rules.breakglass
        reasons = tuple(told(verdict) for verdict in refused)
        unexplained = breakglass and self._rules.justified and not pods.justification
        allowed = not blocking or (breakglass and not unexplained)
        if unexplained and blocking:
            reasons += (f"breakglass needs a justification in the annotation {JUSTIFICATION}",)
        return Outcome(
            allowed=allowed,
            reasons=reasons,
            warnings=_warnings(refused, blocking) if allowed else (),
            pins=pins(pods, found.digests) if allowed and cluster.pins else (),
            notes=_notes(policy, pods, verdicts, breakglass=breakglass),
            images=tuple(verdict.image for verdict in verdicts),
            running=tuple(found.running) if allowed else (),
            breakglass=breakglass and allowed,
            dry_run=bool(refused) and not blocking,
        )


@dataclass
class _Look:
    """One review under way."""

    cluster: Cluster
    may: May
    shown: dict[str, bool]

    async def shows(self, project: str) -> bool:
        """Whether the caller may see what is known of a project's images; asked once for each project."""
        if project not in self.shown:
            self.shown[project] = await self.may(project)
        return self.shown[project]


@dataclass(frozen=True)
class _Verdicts:
    by_image: dict[str, Verdict]
    digests: dict[str, str]
    """By the text of the reference; empty for what is not known."""
    running: dict[str, None]
    """Our own images among them, by place and digest."""


def _by_digest_only(verdict: Verdict, known: Known) -> Verdict:
    """Behind the mutating webhook everything of ours is by digest; what is not came past it."""
    if known.reference.digest or known.place is None or verdict.rule == "allow list" or not verdict.allowed:
        return verdict
    if verdict.reason == "the rule allows every image":
        return verdict
    return Verdict(verdict.image, allowed=False, reason="named by tag, not by digest", rule=verdict.rule)


def _warnings(refused: list[Verdict], blocking: list[Verdict]) -> tuple[str, ...]:
    why = "let in by breakglass" if blocking else "would be refused, the rule is a dry run"
    return tuple(f"{why}: {told(verdict)}" for verdict in refused)


def _notes(policy: Policy, pods: Pods, verdicts: list[Verdict], *, breakglass: bool) -> tuple[tuple[str, str], ...]:
    notes = [("policy", policy.etag or "default")]
    notes += [(f"image-{number}", told(verdict)) for number, verdict in enumerate(verdicts[:10])]
    if breakglass:
        notes.append(("break-glass", pods.justification or "true"))
    return tuple(notes)


def decided(request: Request, cluster: Cluster, outcome: Outcome) -> AdmissionDecided:
    """What is said about a decision, no longer than an event may be."""
    policy = dict(outcome.notes).get("policy", "")
    justification = dict(outcome.notes).get("break-glass", "")
    reasons = outcome.reasons + ((f"breakglass: {justification}",) if outcome.breakglass else ())
    return AdmissionDecided(
        project=cluster.project,
        uid=request.uid,
        cluster=cluster.name,
        namespace=request.namespace,
        kind=request.kind.kind[:100],
        name=request.name,
        operation=request.operation,
        images=_within(outcome.images, MOST_EVENT_BYTES // 2),
        allowed=outcome.allowed,
        breakglass=outcome.breakglass,
        dry_run=outcome.dry_run,
        reasons=_within(reasons, MOST_EVENT_BYTES // 2),
        policy=policy,
        running=_fitting(outcome.running, MOST_EVENT_BYTES // 2),
    )


def _fitting(names: tuple[str, ...], limit: int) -> tuple[str, ...]:
    """As many as fit."""
    sizes = itertools.accumulate(len(name) + 3 for name in names)
    return tuple(name for name, size in zip(names, sizes, strict=True) if size <= limit)


def _within(texts: tuple[str, ...], limit: int) -> tuple[str, ...]:
    """As many as fit, and how many were left out."""
    kept: list[str] = []
    for number, text in enumerate(texts):
        limit -= 2 * len(text[:2000].encode()) + 8
        if limit < 0:
            return (*kept, f"and {len(texts) - number} more")
        kept.append(text[:2000])
    return tuple(kept)
