"""What the attestor says: attestations and admission decisions."""

from typing import ClassVar

from shared.events.event import Event


class AttestationCreated(Event):
    """An attestor vouches for a digest."""

    topic: ClassVar[str] = "attestation.created"

    attestor: str
    """`projects/P/attestors/A`."""
    repository: str
    image: str
    digest: str
    note: str = ""
    object: str
    """Name of the object with the signed envelope."""
    key_id: str
    reason: str = ""
    """What it was given for, such as the scan that met the policy's threshold."""

    def resource(self) -> str:
        """Announced by repository."""
        return self.repository


class AdmissionDecided(Event):
    """A deployment was let in, refused, or let in by breakglass."""

    topic: ClassVar[str] = "admission.decided"

    uid: str
    """The AdmissionReview's uid."""
    cluster: str = ""
    namespace: str = ""
    kind: str = ""
    name: str = ""
    operation: str = ""
    images: tuple[str, ...] = ()
    allowed: bool
    breakglass: bool = False
    dry_run: bool = False
    reasons: tuple[str, ...] = ()
    policy: str = ""
    """Etag of the policy that decided."""
    running: tuple[str, ...] = ()
    """What was let in of this deployment's own images, as `PROJECT/LOCATION/REPOSITORY/IMAGE@DIGEST`; only of projects
    in which the cluster may evaluate policies, and as many as fit."""

    def resource(self) -> str:
        """Announced by namespace."""
        return self.namespace
