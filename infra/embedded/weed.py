"""An S3 server for those who want the bucket over the network: SeaweedFS in one process, on loopback only."""

import http.client
import os
from pathlib import Path

from infra.embedded.folder import DataFolder, secret
from infra.embedded.ports import S3, S3_INSIDE

BUCKET = "entrepot"

# It must not run as it comes: it listens on all addresses, calls home, and has a console and two more services.
_QUIET = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-master.telemetry=false",
    "-admin.ui=false",
    "-webdav=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.allowDeleteBucketNotEmpty=false",
)
_PARTS = ("master", "volume", "filer", "admin")


def keys(folder: DataFolder) -> tuple[Path, Path]:
    """The files with the access key and the secret key; made on the first call."""
    access, hidden = folder.keys / "s3" / "access", folder.keys / "s3" / "secret"
    secret(access, 10)
    secret(hidden)
    return access, hidden


def arguments(folder: DataFolder, base: int) -> list[str]:
    """All ports are set, each with its twin for the parts among themselves; left alone they are fixed numbers."""
    inside = iter(S3_INSIDE)
    ports = [f"-s3.port={base + S3}", f"-s3.port.grpc={base + next(inside)}"]
    for part in _PARTS:
        ports += [f"-{part}.port={base + next(inside)}", f"-{part}.port.grpc={base + next(inside)}"]
    return ["mini", f"-dir={folder.room('s3')}", *_QUIET, *ports]


def run(program: Path, folder: DataFolder, base: int) -> None:
    """Become the server. It takes its root keys from the environment and from nowhere else."""
    access, hidden = (path.read_text() for path in keys(folder))
    environment = {"PATH": os.defpath, "HOME": str(folder.room("s3"))}
    environment |= {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": hidden}
    os.chdir(folder.room("s3"))
    os.execve(program, [str(program), *arguments(folder, base)], environment)  # noqa: S606 - becomes the server


def answers(base: int) -> bool:
    """Whether it takes requests."""
    line = http.client.HTTPConnection("127.0.0.1", base + S3, timeout=2)
    try:
        line.request("GET", "/healthz")
        return line.getresponse().status == 200
    except OSError:
        return False
    finally:
        line.close()
