"""What identity is told beside what every service is told: `ENTREPOT_IDENTITY_...`."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class IdentitySettings(BaseModel):
    """Identity's own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root_key_file: Path | None = None
    """The private root key, PEM, mode 0600; made at the first start where there is none. None: one for this process
    alone, which no other service trusts."""
    organization: str = Field(default="1", pattern=r"^[0-9]{1,20}$")
    """Number of the organisation that all projects lie in."""
    domain: str = Field(default="iam.entrepot", pattern=r"^[a-z0-9][a-z0-9.-]{0,60}$")
    """Accounts are called `NAME@PROJECT.` and this."""
    first_project: str = Field(default="demo", pattern=r"^[a-z][a-z0-9-]{0,28}[a-z0-9]$")
    admin_key_file: Path | None = None
    """Where the first start writes the administrator's key, mode 0600; None: `admin-key.json` in the data folder."""
    agents: str = ""
    """Services that get an account of their own at the first start, such as `builder scanner`."""
    agent_keys: Path | None = None
    """Folder for their key files; None: `keys` in the data folder."""
    audiences: str = ""
    """More addresses that assertions may be made out to, separated by spaces."""
    token_seconds: int = Field(default=3600, ge=60, le=3600)
    refresh_days: int = Field(default=30, ge=1, le=365)
    signing_days: float = Field(default=30.0, gt=0, le=365)
    """How long a token key signs; it counts for a token's lifetime longer."""
    container_registry_services: str = ""
    """Registry services (as the token request's `service` says) whose names are in Container Registry style."""

    def accepted_audiences(self, ours: frozenset[str]) -> frozenset[str]:
        """What the `aud` of an assertion may be: our token addresses, Google's, and those of the settings."""
        return ours | {*_GOOGLE, *self.audiences.split()}


_GOOGLE = (
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://accounts.google.com/o/oauth2/token",
)  # gcloud writes its own token address into the assertion, whatever the key file says
