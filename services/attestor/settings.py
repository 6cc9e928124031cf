"""What the attestor is told beside what every service is told."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.attestor.client_certificates import members_of


class AttestorSettings(BaseModel):
    """Fields are read from `ENTREPOT_ATTESTOR_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    master_key_file: Path | None = None
    """File of mode 0600 with a master key of 64 hexadecimal digits a line, the present one first: seals signing keys.

    None: `attestor-master.key` in the data folder, made at the first start. Replicas need the same file.
    """
    registry_hosts: str = "localhost:5000,127.0.0.1:5000"
    """Names under which the registry is reached, separated by commas, the first for what is signed; `HOST=LOCATION`
    where the location is not this deployment's."""
    admit_project: str = "demo"
    """The project whose policy holds where a webhook's address names none."""
    client_members: str = ""
    """Whom the certificates of clients stand for, by common name: `kube-apiserver=serviceAccount:EMAIL`, with commas
    between several. Needs `tls_client_ca`."""
    admit_seconds: float = Field(default=5.0, gt=0, le=30)
    """How long a review may take at most; a shorter `timeout` in the request counts."""
    look_again_seconds: float = Field(default=5.0, gt=0)
    """How often it is looked whether a new threshold makes earlier scans count."""
    breakglass: bool = True
    """Whether pods may ask to be let in whatever the policy says; written down each time."""
    breakglass_justified: bool = True
    """Whether they must say why."""

    @field_validator("registry_hosts")
    @classmethod
    def _some_host(cls, text: str) -> str:
        if not any(part.strip() for part in text.split(",")):
            raise ValueError("at least one host")
        return text

    @field_validator("client_members")
    @classmethod
    def _some_members(cls, text: str) -> str:
        members_of(text)
        return text

    def registries(self, location: str) -> Mapping[str, str]:
        """The location that each host name means, in the order given."""
        parts = (part.strip().partition("=") for part in self.registry_hosts.split(",") if part.strip())
        return {host: own or location for host, _, own in parts}
