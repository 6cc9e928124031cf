"""The table of topics: which event, who says it, who hears it, and on which stream it lies.

Everything that must agree about topics is made from this table: streams and durables, permissions, the published
contracts and their page. A service that hears or says something new begins here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.events.attestations import AdmissionDecided, AttestationCreated
from shared.events.audit import AuditAccess, AuditActivity, AuditDenied, AuditSystem, LogExported
from shared.events.builds import (
    BuildCancelled,
    BuildFinished,
    BuildLog,
    BuildRequested,
    BuildStarted,
    BuildStepFinished,
)
from shared.events.cleanups import CleanupCompleted, CleanupPlanned, CleanupRequested
from shared.events.event import Event
from shared.events.images import (
    GcrNotification,
    ImageDeleted,
    ImagePulled,
    ImagePushed,
    ImageUntagged,
    QuotaNear,
    ReferrerAttached,
    ReferrerRequested,
    RepositoryChanged,
    RepositoryState,
)
from shared.events.scans import (
    AdvisoryUpdated,
    NoteChanged,
    OccurrenceChanged,
    ScanCompleted,
    ScanRequested,
    VulnerabilityClosed,
    VulnerabilityOpened,
)
from shared.events.states import (
    AccountState,
    GroupState,
    KeyState,
    PerimeterState,
    PolicyState,
    ProjectState,
    RoleState,
)
from shared.names import subject_token

SERVICES = ("identity", "registry", "builder", "scanner", "attestor", "cleanup", "audit_log")


@dataclass(frozen=True)
class Topic:
    """One topic and its parties."""

    event: type[Event]
    said_by: Sequence[str]
    work: Sequence[str] = ()
    """Services whose replicas share the topic through one durable."""
    views: Sequence[str] = ()
    """Services of which every replica hears the whole topic."""
    addressed: bool = False
    """The first token behind the topic names the service that it is for; each hears only its own."""
    by_location: bool = False
    """Where there are several locations, each has deployments of its own that hear it, and a durable of its own."""

    @property
    def name(self) -> str:
        """Such as `image.pushed`."""
        return self.event.topic

    @property
    def subjects(self) -> str:
        """Every subject of the topic."""
        return f"{self.name}.>"

    def said_as(self, service: str) -> str:
        """The subjects on which `service` says it."""
        if not self.event.in_own_name:
            return self.subjects
        rest = "*" if self.event.stream == "AUDIT" else "*.*.*"
        return f"{self.name}.{subject_token(service)}.{rest}"

    def heard_by(self, service: str, location: str = "") -> str:
        """The subjects that `service` takes as work, in that location alone where it is said by location."""
        begins = f"{self.name}.{subject_token(service)}" if self.addressed else self.name
        return f"{begins}.*.{subject_token(location)}.*" if location and self.by_location else f"{begins}.>"


_ALL = SERVICES

TOPICS: Sequence[Topic] = (
    Topic(ImagePushed, said_by=["registry"], work=["scanner", "attestor", "cleanup"]),
    Topic(ImageUntagged, said_by=["registry"], work=["attestor", "cleanup"]),
    Topic(ImageDeleted, said_by=["registry"], work=["scanner", "attestor", "cleanup"]),
    Topic(ImagePulled, said_by=["registry"], work=["cleanup"]),
    Topic(GcrNotification, said_by=["registry"]),
    Topic(ReferrerRequested, said_by=["attestor"], work=["registry"], by_location=True),
    Topic(ReferrerAttached, said_by=["registry"], work=["cleanup"]),
    Topic(RepositoryChanged, said_by=["registry"]),
    Topic(QuotaNear, said_by=["registry"]),
    Topic(ScanRequested, said_by=["scanner"], work=["scanner"]),
    Topic(ScanCompleted, said_by=["scanner"], work=["attestor"]),
    Topic(VulnerabilityOpened, said_by=["scanner"]),
    Topic(VulnerabilityClosed, said_by=["scanner"]),
    Topic(NoteChanged, said_by=["scanner"]),
    Topic(OccurrenceChanged, said_by=["scanner"], work=["attestor"]),
    Topic(AdvisoryUpdated, said_by=["scanner"], work=["scanner"]),
    Topic(AttestationCreated, said_by=["attestor"], work=["scanner"]),
    Topic(AdmissionDecided, said_by=["attestor"], work=["cleanup"]),
    Topic(BuildRequested, said_by=["builder"], work=["builder"]),
    Topic(BuildStarted, said_by=["builder"]),
    Topic(BuildStepFinished, said_by=["builder"]),
    Topic(BuildFinished, said_by=["builder"]),
    Topic(BuildCancelled, said_by=["builder"], views=["builder"]),
    Topic(BuildLog, said_by=["builder"], views=["builder"]),
    Topic(CleanupPlanned, said_by=["cleanup"]),
    Topic(CleanupCompleted, said_by=["cleanup"]),
    Topic(CleanupRequested, said_by=["cleanup"], work=["registry"], addressed=True, by_location=True),
    Topic(ProjectState, said_by=["identity"], views=_ALL),
    Topic(AccountState, said_by=["identity"], views=_ALL),
    Topic(GroupState, said_by=["identity"], views=_ALL),
    Topic(RoleState, said_by=["identity"], views=_ALL),
    Topic(KeyState, said_by=["identity"], views=_ALL),
    Topic(PerimeterState, said_by=["identity"], views=_ALL),
    Topic(PolicyState, said_by=["identity", "registry", "scanner", "attestor"], views=_ALL),
    Topic(RepositoryState, said_by=["registry"], views=_ALL),
    Topic(AuditActivity, said_by=_ALL, work=["audit_log"]),
    Topic(AuditAccess, said_by=_ALL, work=["audit_log"]),
    Topic(AuditSystem, said_by=_ALL, work=["audit_log"]),
    Topic(AuditDenied, said_by=_ALL, work=["audit_log"]),
    Topic(LogExported, said_by=["audit_log"]),
)

BY_NAME = {topic.name: topic for topic in TOPICS}

_LONGEST = max(name.count(".") + 1 for name in BY_NAME)


def topic_of(subject: str) -> Topic | None:
    """The topic a subject belongs to, and None where it belongs to none."""
    tokens = subject.split(".")
    for length in range(min(_LONGEST, len(tokens) - 1), 0, -1):
        found = BY_NAME.get(".".join(tokens[:length]))
        if found is not None:
            return found
    return None


def durable_of(service: str, event: type[Event], location: str = "") -> str:
    """The name of the durable through which a service's replicas share a topic, those of a location by themselves."""
    name = f"{service}-{event.topic.replace('.', '-')}"
    topic = BY_NAME.get(event.topic)
    return f"{name}-{location}" if location and topic is not None and topic.by_location else name
