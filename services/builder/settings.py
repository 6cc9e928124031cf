"""What the builder is told besides what every service is told; read from `ENTREPOT_BUILDER_*`."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """The builder's own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = None
    """Where images are unpacked and builds run; None: `builder` in the data folder. Not shared by replicas."""
    runtimes: str = "crun,runc"
    """Container runtimes to try, in this order."""
    ids: str = ""
    """FIRST:COUNT of the ids on this machine that steps run as, where the worker is root; empty: see the page."""
    network: Literal["internet", "none"] = "internet"
    """What steps can reach: a network of the build's own with a way to public addresses, or nothing."""
    reach: str = ""
    """Private addresses and networks that builds may reach all the same, with commas between."""
    at_once: int = Field(default=2, ge=1, le=64)
    """Builds that run beside each other on this worker."""
    memory: int | None = Field(default=None, ge=0)
    """Bytes that one step may use; 0: no limit; None: half of the machine's, where the worker may set limits."""
    processes: int = Field(default=4096, ge=16)
    """Processes that one step may have, where the worker may set limits."""
    processors: float = Field(default=0, ge=0)
    """How many processors' time one step may use; 0: no limit."""
    image_bytes: int = Field(default=20 * 1024**3, ge=0)
    """Bytes of unpacked step images that stay between builds."""
    images: int = Field(default=200, ge=0)
    """How many unpacked step images stay between builds."""
    registry: str = "127.0.0.1:5000"
    """Host and port under which steps and `images:` name our registry."""
    key_file: Path | None = None
    """Key file of the build account; None: builds pull anonymously and cannot push."""
    source_bytes: int = Field(default=1024**3, ge=1024)
    """The largest source archive that is taken."""
