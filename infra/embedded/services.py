"""What each service's process is told, and how it is started in a child that shares what was imported before."""

import os
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.embedded import nats, valkey, weed
from infra.embedded.folder import DataFolder, secret, write
from infra.embedded.ports import S3, SERVICES, VALKEY, WORKERS

LOCATION = "local"
PROJECT = "demo"

_AGENTS = "builder"
"""Services that act with an account of their own."""


@dataclass(frozen=True)
class Place:
    """Where a suite lives."""

    folder: DataFolder
    base: int
    s3: bool = False
    run: str = ""
    """Tells this run of the suite from all others."""
    workers: int = 1
    """Processes of the registry, which share its port."""

    def address(self, service: str) -> str:
        """Where a service answers."""
        return f"http://127.0.0.1:{self.base + SERVICES[service]}"

    def worker_ports(self, service: str) -> list[int]:
        """Where each process of a service is met alone, where there are several."""
        several = self.workers > 1 and service == "registry"
        return [self.base + offset for offset in WORKERS[: self.workers]] if several else []

    @property
    def admin_key(self) -> Path:
        """The administrator's key file."""
        return self.folder.keys / "admin.json"


def environment(place: Place, service: str, worker: int = 0) -> dict[str, str]:
    """A service's settings. Secrets are named by file: neither environment nor arguments ever hold one."""
    settings = _common(place, service) | _bucket(place) | _own(place).get(service, {})
    if alone := place.worker_ports(service):
        settings |= {"REPLICA": str(worker), "OWN_PORT": str(alone[worker])}
    return {f"ENTREPOT_{name}": value for name, value in settings.items()}


def _common(place: Place, service: str) -> dict[str, str]:
    keys, base = place.folder.keys, place.base
    return {
        "HOST": "127.0.0.1",
        "PORT": str(base + SERVICES[service]),
        "PUBLIC_URL": place.address(service),
        "LOCATION": LOCATION,
        "DATA": str(place.folder.room("services")),
        "STATE_URL": f"valkey://127.0.0.1:{base + VALKEY}",
        "STATE_USER": service,
        "STATE_PASSWORD_FILE": str(valkey.password(place.folder, service)),
        "BUS_URL": nats.address(base),
        "BUS_USER": service,
        "BUS_PASSWORD_FILE": str(nats.passwords(place.folder) / f"{service}.password"),
        "ISSUER": place.address("identity"),
        "ROOT_KEY_FILE": str(keys / "root.pub"),
        "STOP_SECONDS": "10",
        "SUITE": place.run,
    }


def _bucket(place: Place) -> dict[str, str]:
    if not place.s3:
        return {"BUCKET": "directory", "BUCKET_DIRECTORY": str(place.folder.room("blobs"))}
    access, hidden = weed.keys(place.folder)
    return {
        "BUCKET": "s3",
        "BUCKET_ENDPOINT": f"127.0.0.1:{place.base + S3}",
        "BUCKET_NAME": weed.BUCKET,
        "BUCKET_ACCESS_KEY": access.read_text(),
        "BUCKET_SECRET_KEY_FILE": str(hidden),
        "BUCKET_SECURE": "false",
    }


def _own(place: Place) -> dict[str, dict[str, str]]:
    keys, registry = place.folder.keys, place.address("registry").removeprefix("http://")
    port = registry.rpartition(":")[2]
    return {
        "identity": {
            "IDENTITY_ROOT_KEY_FILE": str(keys / "root.pem"),
            "IDENTITY_ADMIN_KEY_FILE": str(place.admin_key),
            "IDENTITY_FIRST_PROJECT": PROJECT,
            "IDENTITY_AGENTS": _AGENTS,
            "IDENTITY_AGENT_KEYS": str(keys / "agents"),
        },
        "registry": {
            "REGISTRY_CREATE_ON_PUSH": "true",
            "REGISTRY_TOKEN_REALM": f"{place.address('identity')}/token",
            "REGISTRY_UPLOAD_KEY_FILE": str(keys / "registry-uploads"),
        },
        "builder": {
            "BUILDER_REGISTRY": registry,
            "BUILDER_KEY_FILE": str(keys / "agents" / "builder.json"),
        },
        # As the registry names images to gcloud, which brings findings and images together by these names.
        "scanner": {"SCANNER_REGISTRY_HOST": f"{LOCATION}-docker.pkg.dev"},
        "attestor": {
            "ATTESTOR_MASTER_KEY_FILE": str(keys / "attestor-master"),
            "ATTESTOR_REGISTRY_HOSTS": f"{registry},localhost:{port}",
        },
    }


def made_by_identity(place: Place) -> list[Path]:
    """The key files that identity writes at the first start."""
    agents = [place.folder.keys / "agents" / f"{agent}.json" for agent in _AGENTS.split()]
    return [place.admin_key, *agents]


def make_secrets(place: Place) -> None:
    """At the first start: the root key and its public half, and the services' own secrets."""
    keys = place.folder.keys
    for name in ("registry-uploads", "attestor-master"):
        secret(keys / name)
    (keys / "agents").mkdir(mode=0o700, exist_ok=True)
    if not (keys / "root.pem").exists() or not (keys / "root.pub").exists():
        _make_root(keys)


def _make_root(keys: Path) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only ever at the first start
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - the same

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write(keys / "root.pub", public)
    write(keys / "root.pem", private)


def run(service: str, settings: Mapping[str, str], parent: int) -> None:
    """Become the service: `python -m services.NAME`, but for the imports, which are there already."""
    for name in [name for name in os.environ if name.startswith("ENTREPOT_")]:
        del os.environ[name]
    os.environ.update(settings, ENTREPOT_PARENT_FD=str(parent))
    runpy.run_module(f"services.{service}", run_name="__main__", alter_sys=True)
