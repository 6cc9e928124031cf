"""What the scanner is told beside what every service is told."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.scanner.advisories.subscriptions import Subscription, subscriptions_of
from services.scanner.layers.limits import MIB, Limits


class ScannerSettings(BaseModel):
    """Fields are read from `ENTREPOT_SCANNER_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registry_host: str = "localhost:5000"
    """The name under which images are listed, in which `LOCATION` stands for theirs; asked for, they are found under
    any."""
    shared_advisories: str = ""
    """The project whose advisories hold for the images of all projects; empty: each project has its own alone."""
    at_once: int = Field(default=2, ge=1, le=64)
    """Images scanned beside each other by one replica."""
    import_bytes: int = Field(default=4 * 1024 * MIB, gt=0)
    """The largest import of advisories."""
    layer_unpacked: int = Field(default=32 * 1024 * MIB, gt=0)
    """Bytes that a layer may unpack to."""
    layer_members: int = Field(default=3_000_000, gt=0)
    """Files, folders and links that a layer may have."""
    layer_ratio: int = Field(default=250, gt=1)
    """How many times its size a layer may unpack to, once that is more than 1 GiB."""

    feeds: str = ""
    """Advisories that are fetched: `PROJECT/SOURCE=ADDRESS`, divided by blanks; without a project: who shares."""
    feed_seconds: float = Field(default=6 * 3600, ge=60)
    """How long between two visits to an address."""
    feed_visit_seconds: float = Field(default=900, gt=0)
    """How long a visit may take."""
    clear_seconds: float = Field(default=3 * 3600, gt=0)
    """How often objects are looked for that nothing stands on any more."""
    clear_unused_seconds: float = Field(default=6 * 3600, ge=0)
    """For how long an object must have been unused before it goes: events that name it may still be on their way."""
    image_layers: int = Field(default=1000, gt=0, le=4000)
    """Different layers that an image may have, or all images of an index together."""
    image_unpacked: int = Field(default=128 * 1024 * MIB, gt=0)
    """Bytes that all these layers may unpack to."""
    image_members: int = Field(default=10_000_000, gt=0)
    """Files, folders and links that all these layers may have."""

    @model_validator(mode="after")
    def _addresses(self) -> Self:
        subscriptions_of(self.feeds, self.shared_advisories)
        return self

    def subscriptions(self) -> tuple[Subscription, ...]:
        """The feeds that are fetched."""
        return subscriptions_of(self.feeds, self.shared_advisories)

    def limits(self) -> Limits:
        """The bounds on layers and images."""
        return Limits(
            unpacked=self.layer_unpacked,
            members=self.layer_members,
            ratio=self.layer_ratio,
            image_layers=self.image_layers,
            image_unpacked=self.image_unpacked,
            image_members=self.image_members,
        )
