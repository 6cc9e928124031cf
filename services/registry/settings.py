"""What the registry is told, besides what every service is told: `ENTREPOT_REGISTRY_...`."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RegistrySettings(BaseModel):
    """The registry's own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    create_on_push: bool = False
    """Make a repository when somebody who may create it pushes to it."""
    image_host: str = ""
    """How image names begin in answers and notifications; empty: `LOCATION-docker.pkg.dev`, which gcloud parses."""
    token_realm: str = ""
    """Where clients fetch tokens; empty: the token endpoint beside this port, as the launcher arranges services."""
    token_service: str = ""
    """The `service` of the challenge; empty: the audience of tokens."""
    upload_key_file: Path | None = None
    """Secret that addresses of uploads are signed with, the same for all replicas; without one a restart ends them."""
    upload_seconds: int = Field(default=86_400, ge=60)
    """How long an upload may be under way."""
    manifest_bytes: int = Field(default=5 * 1024 * 1024, ge=4 * 1024 * 1024, le=8 * 1024 * 1024)
    """The largest manifest; the specification wants at least 4 MiB."""
    blob_bytes: int | None = Field(default=None, ge=1)
    """The largest blob; nothing: no limit."""
    mount_copy_bytes: int = Field(default=1024 * 1024 * 1024, ge=0)
    """The largest blob that a mount copies from another project; a larger one is uploaded by the client."""
    repository_quota_bytes: int | None = Field(default=None, ge=0, lt=10**15)
    """How many bytes a repository may hold, unless its label `entrepot-quota-bytes` says otherwise; nothing: no limit.
    """
    project_quota_bytes: int | None = Field(default=None, ge=0, lt=10**15)
    """How many bytes the repositories of a project may hold together, unless the project's label says otherwise."""
    collect: Literal["on", "dry-run", "off"] = "on"
    """Whether bytes that nothing holds any more are cleared, or only told."""
    collect_after_seconds: int = Field(default=3600, ge=1)
    """For how long what was deleted rests before its bytes go."""
    collect_mark_seconds: int = Field(default=900, ge=60)
    """How long bytes stay marked, and refuse to be taken again, where a replica died while it cleared them."""
    collect_every_seconds: float = Field(default=60.0, gt=0)
    """How often it is looked for what is due."""
    search_every_seconds: float = Field(default=86_400.0, gt=0)
    """How often the whole bucket is searched for bytes that nothing ever held."""
    redirect: bool = False
    """Send who reads a blob to the object store; a repository's label `entrepot-redirect` says otherwise."""
    redirect_seconds: int = Field(default=300, ge=10, le=3600)
    """How long such an address opens; what was begun goes on."""
    snapshot_seconds: float = Field(default=3600.0, ge=0)
    """How often the records are written down in the bucket, where something has changed; 0: never."""
    tags_page: int = Field(default=1000, ge=1, le=10_000)
    """Tags in a page where the client does not say how many."""
