"""`python -m infra.compose.init`: the accounts of a first start, each part's secrets into a volume of its own.

Everything is made in the vault, which no other container mounts, and copied from there to whoever needs it. A second
start finds everything made, and writes only what an upgrade has changed.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.compose import bucket, gateway
from infra.embedded import services, valkey
from infra.embedded.folder import DataFolder, secret, write
from infra.embedded.ports import SERVICES
from infra.embedded.services import Place
from infra.nats.passwords import Passwords
from infra.nats.server import Listening, write_configuration
from infra.nats.topology import ADMINISTRATOR
from shared.clock import SystemIds

DATA = "/entrepot/data"
"""Where NATS, Valkey and the S3 server find their volume."""
KEYS = "/entrepot/keys"
"""Where each part finds its secrets."""

_STATE_BYTES = "768mb"

_VALKEY = f"""\
port 6379
bind * -::*
# It would refuse whoever is not on loopback, as the default user has no password; but that one may do nothing at all.
protected-mode no
dir {DATA}
aclfile {KEYS}/users.acl
appendonly yes
appendfsync always
save ""
maxmemory {_STATE_BYTES}
maxmemory-policy noeviction
"""

# The S3 server's parts speak to each other by gRPC, which knows no accounts: this certificate is their only key.
_GRPC = "".join(
    f'[grpc.{part}]\ncert = "{KEYS}/grpc.pem"\nkey = "{KEYS}/grpc.key"\n'
    for part in ("master", "volume", "filer", "s3", "client")
)
_SECURITY = f'[grpc]\nca = "{KEYS}/grpc.pem"\n{_GRPC}'


@dataclass(frozen=True)
class Vault:
    """Where all secrets are made and kept."""

    folder: DataFolder

    def bus_password(self, user: str) -> str:
        """A user's password on the bus."""
        return self._passwords().of(user)

    def state_password(self, user: str) -> str:
        """A user's password at the state store."""
        return valkey.password(self.folder, user).read_text()

    def bucket_secret(self, service: str) -> str:
        """A service's secret key at the S3 store."""
        return secret(self.folder.keys / "s3" / service)

    def key(self, name: str) -> str:
        """A secret of one of the services, or the root key."""
        return (self.folder.keys / name).read_text()

    def bus_configuration(self) -> str:
        """The bus server's file; of passwords it holds hashes."""
        path = self.folder.room("run") / "nats.conf"
        listening = Listening(store=Path(DATA), listen="0.0.0.0:4222", monitor="0.0.0.0:8222")
        write_configuration(path, listening, self._passwords())
        return path.read_text()

    def state_users(self) -> str:
        """The state server's list of users; of passwords it holds hashes."""
        return valkey.write_users(self.folder, list(SERVICES)).read_text()

    def certificate(self) -> tuple[str, str]:
        """What the S3 server's parts know each other by, and its key: made once, signed by itself."""
        certificate, key = self.folder.keys / "s3" / "grpc.pem", self.folder.keys / "s3" / "grpc.key"
        if not certificate.exists():
            made = _certificate()
            write(key, made[1])
            write(certificate, made[0])
        return certificate.read_text(), key.read_text()

    def _passwords(self) -> Passwords:
        return Passwords(self.folder.keys / "nats", SystemIds())


def contents(vault: Vault, *, tls: bool) -> Mapping[str, Mapping[str, str]]:
    """What each part is given, by file name."""
    certificate, key = vault.certificate()
    servers = {
        "nats": {"nats.conf": vault.bus_configuration()},
        "valkey": {"valkey.conf": _VALKEY, "users.acl": vault.state_users()},
        "s3": {
            "identities.json": bucket.identities(vault.bucket_secret),
            "security.toml": _SECURITY,
            "grpc.pem": certificate,
            "grpc.key": key,
        },
        "gateway": {"nginx.conf": gateway.configuration(tls=tls)},
        "provision": {
            f"{ADMINISTRATOR}.password": vault.bus_password(ADMINISTRATOR),
            "state.password": vault.state_password(valkey.LAUNCHER),
            "bucket.secret": vault.bucket_secret(bucket.PROVISIONER),
        },
    }
    return servers | {service: _of_service(vault, service) for service in SERVICES}


def _of_service(vault: Vault, service: str) -> Mapping[str, str]:
    own = {
        "identity": {"root.pem": "root.pem"},
        "registry": {"uploads": "registry-uploads"},
        "attestor": {"master": "attestor-master"},
    }
    given = {
        "root.pub": vault.key("root.pub"),
        "bus.password": vault.bus_password(service),
        "state.password": vault.state_password(service),
    }
    if service in bucket.RIGHTS:
        given["bucket.secret"] = vault.bucket_secret(service)
    return given | {name: vault.key(kept) for name, kept in own.get(service, {}).items()}


def deliver(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Write what differs, mode 0600; the names of what was written."""
    differing = [name for name, text in files.items() if _read(folder / name) != text]
    for name in differing:
        write(folder / name, files[name].encode())
    return differing


def init(vault: Path, parts: Path, *, tls: bool) -> dict[str, list[str]]:
    """Make what is missing and hand it out; what was written for which part."""
    folder = DataFolder.at(vault)
    services.make_secrets(Place(folder, gateway.FIRST_PORT))
    given = contents(Vault(folder), tls=tls)
    return {part: written for part, files in given.items() if (written := deliver(parts / part, files))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and say by name what was written: never what it holds."""
    parser = argparse.ArgumentParser(prog="python -m infra.compose.init", description=__doc__)
    parser.add_argument("--vault", type=Path, default=Path("/entrepot/vault"))
    parser.add_argument("--parts", type=Path, default=Path("/entrepot/parts"), help="a folder for each part in here")
    parser.add_argument("--tls", action="store_true", help="the gateway has a certificate")
    options = parser.parse_args(arguments)
    written = init(options.vault, options.parts, tls=options.tls)
    for part, names in written.items():
        print(f"{part}: wrote {', '.join(sorted(names))}")  # noqa: T201 - a command line tool
    if not written:
        print("nothing has changed")  # noqa: T201 - a command line tool
    return 0


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _certificate() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "entrepot-s3")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Nothing outside one container ever trusts it, so it need not end.
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


if __name__ == "__main__":
    sys.exit(main())
