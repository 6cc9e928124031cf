"""The decision about one image: pure, from the policy and what is known, with reasons that a person can act on."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.attestor.attestors import Attestor
from services.attestor.facts import Version
from services.attestor.policy import SYSTEM_POLICY, AdmissionRule, Policy, Workload
from services.attestor.references import Place, Reference
from services.attestor.verification import MOST_EVIDENCE, Finding, examined


@dataclass(frozen=True)
class Known:
    """What is known of one image when it is decided about."""

    reference: Reference
    place: Place | None
    """None: not an image of our registry."""
    digest: str = ""
    """What the reference means; empty when that is not known."""
    version: Version | None = None
    details: bool = True
    """Whether the caller may learn what the scan found."""


@dataclass(frozen=True)
class Verdict:
    """Whether one image may run, and why."""

    image: str
    """By digest, where that is known."""
    allowed: bool
    reason: str
    rule: str
    dry_run: bool = False
    """Refused by a rule that is not enforced: it may run, and the refusal is written down."""

    @property
    def lets_in(self) -> bool:
        """Whether the image is let in in the end."""
        return self.allowed or self.dry_run


def decide(policy: Policy, workload: Workload, known: Known, attestors: Mapping[str, Attestor | None]) -> Verdict:
    """The verdict; `attestors` holds those that the policy's rules name, None for one that does not exist."""
    image = known.reference.pinned(known.digest) if known.digest else str(known.reference)
    pattern = _allow_listed(policy, known.reference)
    if pattern:
        return Verdict(image, allowed=True, reason=f"the allow list has {pattern}", rule="allow list")
    name, rule = policy.rule_for(workload)
    reason = _objection(rule, known, attestors)
    if not reason:
        return Verdict(image, allowed=True, reason=_approval(rule), rule=name)
    return Verdict(image, allowed=False, reason=reason, rule=name, dry_run=not rule.enforced)


def _allow_listed(policy: Policy, reference: Reference) -> str:
    if policy.global_policy_evaluation_mode == "ENABLE" and (pattern := SYSTEM_POLICY.allow_lists(reference)):
        return pattern
    return policy.allow_lists(reference)


def _approval(rule: AdmissionRule) -> str:
    if rule.evaluation_mode == "ALWAYS_ALLOW":
        return "the rule allows every image"
    return f"attested by {', '.join(rule.require_attestations_by)}"


def _objection(rule: AdmissionRule, known: Known, attestors: Mapping[str, Attestor | None]) -> str:
    if rule.evaluation_mode == "ALWAYS_ALLOW":
        return ""
    if rule.evaluation_mode == "ALWAYS_DENY":
        return "the rule denies every image"
    if stranger := _unknown(known):
        return stranger
    evidence = known.version.counting if known.version else ()
    missing: dict[str, str] = {}
    for name in rule.require_attestations_by:
        attestor = attestors.get(name)
        found = examined(attestor, known.digest, evidence) if attestor else Finding(attested=False)
        if attestor is None:
            missing[name] = f"{name} does not exist"
        elif not found.attested:
            missing[name] = f"{name} has {found.unseen} older than the newest {MOST_EVIDENCE}" if found.unseen else ""
    if not missing:
        return ""
    return "; ".join((f"no attestation by {', '.join(missing)}", *filter(None, missing.values()), _scan(known)))


def _unknown(known: Known) -> str:
    if known.place is None:
        return "not an image of this registry, and nobody here vouches for it"
    if not known.digest:
        return f"no such tag is known: {known.reference.tag}"
    presence = known.version.presence(known.place) if known.version else None
    if presence is None:
        return "no such digest is known"
    return "the image was deleted" if presence.deleted else ""


def _scan(known: Known) -> str:
    if not known.details:
        return "you may not see what its scan found"
    scan = known.version.scan if known.version else None
    return str(scan) if scan else "it is not scanned yet"
