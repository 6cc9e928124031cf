"""An image in a registry, spoken to by the OCI distribution protocol."""

import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn
from urllib.parse import quote, urlsplit

import urllib3

from cli.exits import Denied, Failed, Missing, NotAllowed
from cli.transport.addresses import Remote
from cli.transport.content import KINDS, LARGEST_MANIFEST, PIECE, Descriptor, Manifest, media_type_of
from cli.transport.door import Door
from shared.digest import Digest

_ACCEPT = ", ".join(KINDS)


class RegistryImage:
    """A repository in a registry and a name in it, to copy from or to."""

    def __init__(self, door: Door, image: Remote, mount_from: str = "", *, mount_any: bool = False) -> None:
        """`mount_from` is the repository of the same registry from which the image comes, if it does.

        `mount_any` asks the registry for what lies in whichever repository of its own.
        """
        self._door = door
        self._image = image
        self._path = f"/v2/{image.name}"
        self._pull = f"repository:{image.name}:pull"
        self._push = f"repository:{image.name}:pull,push"
        self._mount_any = mount_any
        self._mount_from = mount_from
        if mount_from:
            self._push += f" repository:{mount_from}:pull"

    def digest(self) -> Digest | None:
        """What the address names now, in the registry's word; None where it says nothing."""
        path = f"{self._path}/manifests/{self._image.reference}"
        answer = self._door.ask("HEAD", path, self._pull, {"Accept": _ACCEPT})
        if answer.status != 200:
            return None
        try:
            return Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
        except ValueError:
            return None

    def manifest(self, digest: Digest | None) -> Manifest:
        """A manifest by digest, or by the address's tag or digest; its bytes are checked where a digest was asked."""
        wanted = digest or self._image.reference
        answer = self._door.ask("GET", f"{self._path}/manifests/{wanted}", self._pull, {"Accept": _ACCEPT})
        if answer.status != 200:
            refuse(answer, f"{self._image.host}/{self._image.name} at {wanted}")
        if len(answer.data) > LARGEST_MANIFEST:
            raise Failed(f"the manifest {wanted} is too large")
        expected = digest or self._image.digest
        if expected and Digest.of(answer.data, expected.algorithm) != expected:
            raise Failed(f"the registry gave other bytes than {expected}")
        return Manifest(media_type_of(answer.data, answer.headers.get("Content-Type", "")), answer.data)

    @contextmanager
    def blob(self, wanted: Descriptor) -> Generator[Iterable[bytes]]:
        """A blob's bytes, as they arrive."""
        path = f"{self._path}/blobs/{wanted.digest}"
        answer = self._door.ask("GET", path, self._pull, preload_content=False)
        try:
            if answer.status != 200:
                refuse(answer, str(wanted.digest))
            yield _pieces(answer)
        finally:
            answer.close()

    def has(self, wanted: Descriptor) -> bool:
        """Whether the blob is there, or could be mounted from where the image comes."""
        if self._door.ask("HEAD", f"{self._path}/blobs/{wanted.digest}", self._push).status == 200:
            return True
        if not self._mount_from and not self._mount_any:
            return False
        origin = f"&from={quote(self._mount_from, safe='')}" if self._mount_from else ""
        query = f"mount={wanted.digest}{origin}"
        answer = self._door.ask("POST", f"{self._path}/blobs/uploads/?{query}", self._push)
        if answer.status == 202:
            self._door.ask("DELETE", answer.headers["Location"], self._push)
        return answer.status == 201

    def put_blob(self, described: Descriptor, pieces: Iterable[bytes]) -> None:
        """Upload a blob in one request, as it is read."""
        started = self._door.ask("POST", f"{self._path}/blobs/uploads/", self._push)
        if started.status != 202:
            refuse(started, f"upload to {self._image.name}")
        where = started.headers["Location"]
        end = f"{where}{'&' if urlsplit(where).query else '?'}digest={quote(described.digest)}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(described.size)}
        body = iter(pieces)
        answer = self._door.ask("PUT", end, self._push, headers, body=body, retries=False, redirect=False)
        if answer.status != 201:
            refuse(answer, str(described.digest))

    def put_manifest(self, manifest: Manifest, *, topmost: bool) -> None:
        """Store a manifest; the topmost under the address's tag, if it has one."""
        name = self._image.tag or ("" if self._image.digest else "latest")
        if topmost and self._image.digest and manifest.digest != self._image.digest:
            raise Failed(f"the image is {manifest.digest}, not {self._image.digest}")
        reference = name if topmost and name else manifest.digest
        path = f"{self._path}/manifests/{reference}"
        answer = self._door.ask(
            "PUT", path, self._push, {"Content-Type": manifest.media_type}, body=manifest.content, redirect=False
        )
        if answer.status != 201:
            refuse(answer, f"{self._image.name} at {reference}")
        said = answer.headers.get("Docker-Content-Digest", manifest.digest)
        if said != manifest.digest:
            raise Failed(f"the registry stored {said}, not {manifest.digest}")

    def finish(self) -> None:
        """The topmost manifest was the end."""


def refuse(answer: urllib3.BaseHTTPResponse, what: str) -> NoReturn:
    """Raise what the registry's answer means."""
    try:
        errors = json.loads(answer.data).get("errors", [])
        said = "; ".join(f"{error.get('code', '')}: {error.get('message', '')}" for error in errors)
        policy = any(error.get("code") == "DENIED" and answer.status != 401 for error in errors)
    except (ValueError, AttributeError, TypeError):
        said, policy = "", False
    sentence = f"{what}: the registry answered {answer.status} {said}".strip()
    if answer.status in (401, 403):
        raise (NotAllowed if answer.status == 401 or not policy else Denied)(sentence)
    raise (Missing if answer.status == 404 else Failed)(sentence)


def _pieces(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        yield from answer.stream(PIECE, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise Failed(f"the registry broke off: {error}") from error
