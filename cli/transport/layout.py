"""An OCI image layout: a folder with `oci-layout`, `index.json` and `blobs/`, or the same in a tar file."""

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from cli.exits import Failed, Missing
from cli.transport.archive import extract
from cli.transport.content import LARGEST_MANIFEST, PIECE, Descriptor, Manifest, media_type_of
from shared.digest import Digest

REF_NAME = "org.opencontainers.image.ref.name"
_LAYOUT = {"imageLayoutVersion": "1.0.0"}


class Layout:
    """A layout in a folder, to copy from or to."""

    def __init__(self, folder: Path, reference: str) -> None:
        """`reference` is the image's name in it; where there is only one image it may be empty."""
        self._folder = folder
        self._reference = reference

    def manifest(self, digest: Digest | None) -> Manifest:
        """A manifest by digest, or the one that the index names."""
        entry = self._named() if digest is None else {}
        wanted = digest or self._digest(entry)
        path = self._blob(wanted)
        try:
            if path.stat().st_size > LARGEST_MANIFEST:
                raise Failed(f"{path} is too large for a manifest")
            content = path.read_bytes()
        except OSError as error:
            raise Missing(f"{wanted} is not in {self._folder}") from error
        if Digest.of(content, wanted.algorithm) != wanted:
            raise Failed(f"{path} has other bytes than its name says")
        return Manifest(media_type_of(content, str(entry.get("mediaType", ""))), content)

    @contextmanager
    def blob(self, wanted: Descriptor) -> Generator[Iterable[bytes]]:
        """A blob's bytes."""
        try:
            file = self._blob(wanted.digest).open("rb")
        except OSError as error:
            raise Missing(f"{wanted.digest} is not in {self._folder}") from error
        with file:
            yield iter(lambda: file.read(PIECE), b"")

    def has(self, wanted: Descriptor) -> bool:
        """Whether the blob is there, by name and size."""
        path = self._blob(wanted.digest)
        return path.exists() and path.stat().st_size == wanted.size

    def put_blob(self, described: Descriptor, pieces: Iterable[bytes]) -> None:
        """Write beside, then rename: a blob under its name is whole."""
        path = self._blob(described.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".incoming-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(pieces)
            Path(beside).chmod(0o644)
            Path(beside).replace(path)
        finally:
            Path(beside).unlink(missing_ok=True)

    def put_manifest(self, manifest: Manifest, *, topmost: bool) -> None:
        """Store the manifest as a blob; the topmost is entered in the index in place of what had its name."""
        described = Descriptor(manifest.media_type, manifest.digest, len(manifest.content))
        self.put_blob(described, [manifest.content])
        if topmost:
            self._enter(described)

    def finish(self) -> None:
        """The index was written with the topmost manifest."""

    def _enter(self, described: Descriptor) -> None:
        entry: dict[str, Any] = {
            "mediaType": described.media_type,
            "digest": described.digest,
            "size": described.size,
        }
        if self._reference:
            entry["annotations"] = {REF_NAME: self._reference}
        kept = [old for old in self._entries() if _name(old) != self._reference]
        (self._folder / "oci-layout").write_text(json.dumps(_LAYOUT))
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [*kept, entry],
        }
        fresh = self._folder / ".index.json.new"
        fresh.write_text(json.dumps(index))
        fresh.replace(self._folder / "index.json")

    def _named(self) -> dict[str, Any]:
        entries = self._entries()
        if not entries:
            raise Missing(f"{self._folder} is no OCI layout, or holds no image")
        fitting = [entry for entry in entries if self._reference in ("", _name(entry))]
        if len(fitting) == 1:
            return fitting[0]
        names = ", ".join(sorted(_name(entry) or str(entry.get("digest")) for entry in entries))
        if not self._reference:
            raise Missing(f"{self._folder} holds several images, so say which: {names}")
        count = "several images" if fitting else "no image"
        raise Missing(f"{self._folder} has {count} named {self._reference!r}; there are: {names}")

    def _digest(self, entry: dict[str, Any]) -> Digest:
        try:
            return Digest.parse(str(entry.get("digest")))
        except ValueError as error:
            raise Failed(f"{self._folder / 'index.json'} names an image without its digest") from error

    def _entries(self) -> list[dict[str, Any]]:
        path = self._folder / "index.json"
        if not path.exists():
            return []
        try:
            return objects(json.loads(path.read_bytes())["manifests"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise Failed(f"{path} is no index of a layout") from error

    def _blob(self, digest: Digest) -> Path:
        return self._folder / "blobs" / digest.algorithm / digest.hex


class ArchivedLayout(Layout):
    """A layout in a tar file: taken apart to be read, put together when everything is there."""

    def __init__(self, archive: Path, reference: str, between: Path, *, reading: bool) -> None:
        """`between` is an empty folder that the caller removes in the end."""
        super().__init__(between, reference)
        self._between = between
        self._archive = archive
        if reading:
            extract(archive, between)

    def finish(self) -> None:
        """Write the tar file in one piece; the same content gives the same bytes."""
        beside = self._archive.with_name(f".{self._archive.name}.new")
        with tarfile.open(beside, "w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(self._between.rglob("*")):
                archive.add(path, str(path.relative_to(self._between)), recursive=False, filter=plain)
        shutil.move(beside, self._archive)


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member without whose it was and when."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def objects(found: object) -> list[dict[str, Any]]:
    """A list of JSON objects; raises TypeError for anything else."""
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in cast("list[object]", found)):
        raise TypeError("not a list of objects")
    return cast("list[dict[str, Any]]", found)


def _name(entry: dict[str, Any]) -> str:
    annotations: object = entry.get("annotations")
    return str(cast("dict[str, Any]", annotations).get(REF_NAME, "")) if isinstance(annotations, dict) else ""
