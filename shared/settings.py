"""Settings come from the environment, secrets from files that nobody else may read; a wrong value stops the start."""

import re
import stat
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.names import LOCATION

PREFIX = "ENTREPOT_"

_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?")

M = TypeVar("M", bound=BaseModel)


class SettingsWrong(ValueError):
    """A setting is missing or has a value that cannot be; the message says which and why, for whoever starts this."""


class Settings(BaseModel):
    """What every service's process is told. The field `bus_url` is read from `ENTREPOT_BUS_URL`, and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    """0: any free port; it stands in the log."""
    own_port: int = Field(default=0, ge=0, le=65535)
    """A port of this process alone, where several replicas on one machine share `port`; 0: it is not shared."""
    public_url: str = ""
    """How clients reach this service, where that differs from host and port."""
    trusted_proxies: str = ""
    """Networks of gateways whose X-Forwarded-For is believed, separated by commas."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """Certificates that clients' own are signed by, where a service takes such; clients without one are served too."""
    loop: Literal["uvloop", "asyncio"] | None = None
    """None: what the service itself prefers."""
    location: str = Field(default="local", pattern=r"^[a-z][a-z0-9-]{0,62}$")
    locations: str = ""
    """Where registries are in several locations, all of them with the host names by which clients reach them, with
    blanks between: `east=east.example.org west=west.example.org`."""
    data: Path = Path(".entrepot")
    """Folder for what this process keeps on disk: the journal, and the bucket of kind `directory`."""
    suite: str = Field(default="", pattern=r"^[0-9a-z]{0,64}$")
    """Which run of a suite this process belongs to: told at `/readyz`, so that no other suite's is taken for it."""
    replica: str = Field(default="0", pattern=r"^[A-Za-z0-9-]{1,63}$")
    """Tells the replicas of a service apart that share a data folder."""

    state_url: str = ""
    """`valkey://HOST:PORT`; empty: in memory, gone when the process ends."""
    state_user: str = ""
    state_password_file: Path | None = None
    state_replicas: int = Field(default=0, ge=0)
    """How many replicas of the state store must have a change before it counts as done."""
    state_accept_loss: bool = False
    """Start on a state store that may lose data."""
    lane_entries: int = Field(default=100_000, ge=1)
    """What may wait for the bus, for each kind of event and 64th of the projects; then changes are refused."""

    bus_url: str = ""
    """`nats://HOST:PORT`, several separated by commas; empty: in memory."""
    bus_user: str = ""
    bus_password_file: Path | None = None
    bus_monitor: str = ""
    """The server's monitor, such as `http://127.0.0.1:8222`, asked at the start whether it syncs what it stores."""
    bus_ca_file: Path | None = None
    """Certificates that the bus's server is trusted by, where it speaks TLS."""
    bus_accept_loss: bool = False
    """Start on a bus that may lose what it acknowledged."""

    bucket: Literal["memory", "directory", "s3"] = "memory"
    bucket_directory: Path | None = None
    bucket_endpoint: str = ""
    bucket_name: str = ""
    bucket_access_key: str = ""
    bucket_secret_key_file: Path | None = None
    bucket_region: str = "us-east-1"
    bucket_secure: bool = True
    bucket_public_endpoint: str = ""
    buckets_file: Path | None = None
    """JSON: the buckets that registries of other locations keep their bytes in, for services that read them there."""

    issuer: str = "https://entrepot.local"
    """Who issues access tokens, as their `iss` says."""
    audience: str = "entrepot"
    root_key_file: Path | None = None
    """The public root key or keys, PEM: they vouch for the keys that tokens are signed with."""

    calls_at_once: int = Field(default=64, ge=1)
    """Calls of one caller that run beside each other; further ones wait. Of streamed bodies `calls_streamed`."""
    calls_streamed: int = Field(default=512, ge=1)
    calls_waiting: int = Field(default=1024, ge=0)
    """Calls of one caller that may wait; what comes beyond is answered 429 with Retry-After."""
    calls_wait_seconds: float = Field(default=30.0, gt=0)
    """How long a call may wait before it is answered so."""
    calls_per_second: float = Field(default=0.0, ge=0)
    """Calls of one caller that are begun in a second, in the long run; 0: as many as there are."""
    calls_per_second_anonymous: float = Field(default=1000.0, ge=0)
    """The same for calls without a token from one address: behind a gateway, name it in `trusted_proxies`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str = ""
    """Where traces go; empty: nowhere."""
    stop_seconds: float = Field(default=20.0, gt=0)
    """How long calls under way may take at the end."""
    drain_seconds: float = Field(default=0.0, ge=0)
    """How long to go on serving, not ready, before the end: for gateways to notice."""

    @field_validator("locations")
    @classmethod
    def _hosts(cls, text: str) -> str:
        hosts_of(text)
        return text

    @property
    def hosts(self) -> Mapping[str, str]:
        """The host name of each location; empty where there is but one location."""
        return hosts_of(self.locations)

    @property
    def one_of_several(self) -> str:
        """This deployment's location where there are several; else empty."""
        return self.location if self.locations else ""

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, text: str) -> str:
        for network in filter(None, map(str.strip, text.split(","))):
            ip_network(network)
        return text

    @model_validator(mode="after")
    def _whole(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        if self.bucket == "directory" and self.bucket_directory is None:
            raise ValueError("bucket=directory needs bucket_directory")
        if self.bucket == "s3" and not (self.bucket_endpoint and self.bucket_name):
            raise ValueError("bucket=s3 needs bucket_endpoint and bucket_name")
        return self


def hosts_of(text: str) -> Mapping[str, str]:
    """Host names by location, from `LOCATION=HOST` with blanks between. Raises ValueError."""
    found: dict[str, str] = {}
    for part in text.split():
        location, _, host = part.partition("=")
        if not LOCATION.fullmatch(location) or not _HOST.fullmatch(host) or location in found:
            raise ValueError("locations are written LOCATION=HOST, each once, with blanks between")
        found[location] = host
    if len(set(found.values())) < len(found):
        raise ValueError("each location has a host name of its own")
    return found


def read(model: type[M], environment: Mapping[str, str], prefix: str = PREFIX) -> M:
    """The settings of that model in the environment; raises SettingsWrong."""
    given = {
        name: environment[prefix + name.upper()]
        for name in model.model_fields
        if environment.get(prefix + name.upper(), "") != ""
    }
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise SettingsWrong("; ".join(_complaint(prefix, dict(found)) for found in error.errors())) from None


def secret(path: Path) -> str:
    """The text of a secret file, without the line's end. Raises SettingsWrong where others may read it."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsWrong(f"the secret file {path} cannot be read: {type(error).__name__}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise SettingsWrong(f"the secret file {path} can be read by others: chmod 600 {path}")
    return text.strip("\r\n")


def secret_or_nothing(path: Path | None) -> str:
    """The text of a secret file; empty where no file is named."""
    return "" if path is None else secret(path)


def _complaint(prefix: str, found: dict[str, Any]) -> str:
    """One sentence on one setting. Its value stays out: it may be a secret in the wrong place."""
    name = "_".join(str(part) for part in found["loc"]).upper()
    return f"{prefix}{name}: {found['msg']}" if name else str(found["msg"])
