"""The tar file of `docker save` and `docker load`: `manifest.json`, a config, and layers as plain tar files."""

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from cli.exits import Failed, Missing
from cli.transport.archive import content, opened
from cli.transport.content import (
    DOCKER_MANIFEST,
    LARGEST_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    PIECE,
    Descriptor,
    Manifest,
    checked,
)
from cli.transport.layout import objects, plain
from shared.digest import Digest


class DockerArchive:
    """An archive to copy from. Its layers are announced as the plain tar files they are: nothing is packed anew."""

    def __init__(self, path: Path, reference: str) -> None:
        """`reference` is `NAME:TAG`; where there is only one image it may be empty."""
        self._path = path
        self._reference = reference

    def manifest(self, digest: Digest | None) -> Manifest:
        """A manifest made from what the archive says."""
        made = self._manifest
        if digest is not None and digest != made.digest:
            raise Missing(f"{digest} is not in {self._path}")
        return made

    @contextmanager
    def blob(self, wanted: Descriptor) -> Generator[Iterable[bytes]]:
        """The config or a layer."""
        with opened(self._path) as archive, content(archive, self._members[wanted.digest]) as file:
            yield iter(lambda: file.read(PIECE), b"")

    @cached_property
    def _entry(self) -> dict[str, Any]:
        with opened(self._path) as archive, content(archive, "manifest.json") as file:
            entries = _entries(file.read(LARGEST_MANIFEST), self._path)
        fitting = [entry for entry in entries if self._reference in ("", *_tags(entry))]
        if len(fitting) == 1:
            return fitting[0]
        names = ", ".join(tag for entry in entries for tag in _tags(entry)) or "none"
        raise Missing(f"{self._path} has {len(fitting)} images named {self._reference!r}; there are: {names}")

    @cached_property
    def _members(self) -> dict[Digest, str]:
        names = [str(self._entry["Config"]), *map(str, self._entry["Layers"])]
        return dict(zip([described.digest for described in self._described], names, strict=True))

    @cached_property
    def _described(self) -> list[Descriptor]:
        with opened(self._path) as archive:
            config = _describe(archive, str(self._entry["Config"]), OCI_CONFIG)
            return [config, *(_describe(archive, str(name), OCI_LAYER) for name in self._entry["Layers"])]

    @cached_property
    def _manifest(self) -> Manifest:
        config, *layers = map(_as_json, self._described)
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
        return Manifest(OCI_MANIFEST, json.dumps(document, separators=(",", ":")).encode())


class DockerArchiveTarget:
    """An archive to copy to; written in one piece when everything is there."""

    def __init__(self, path: Path, reference: str, between: Path) -> None:
        """`reference` is the `NAME:TAG` that `docker load` gives it; `between` an empty folder."""
        self._path = path
        self._reference = reference
        self._between = between
        self._manifest: Manifest | None = None

    def has(self, wanted: Descriptor) -> bool:
        """Nothing is there before the end."""
        return self._kept(wanted.digest).exists()

    def put_blob(self, described: Descriptor, pieces: Iterable[bytes]) -> None:
        """Keep it beside until the end."""
        with self._kept(described.digest).open("wb") as file:
            file.writelines(pieces)

    def put_manifest(self, manifest: Manifest, *, topmost: bool) -> None:
        """Such an archive holds one manifest; raises Failed for an index."""
        del topmost
        if manifest.media_type not in (OCI_MANIFEST, DOCKER_MANIFEST):
            raise Failed("a docker archive holds one platform: choose it with --platform")
        self._manifest = manifest

    def finish(self) -> None:
        """Unpack the layers, check them against the config, and write the tar file."""
        if self._manifest is None:
            raise Failed("there is no manifest to write")
        config, *layers = self._manifest.blobs()
        layers = [Descriptor.parse(layer) for layer in self._manifest.document().get("layers", [])]
        config_content = self._kept(config.digest).read_bytes()
        diff_ids = cast("list[str]", _parsed(config_content, self._path).get("rootfs", {}).get("diff_ids", []))
        if len(diff_ids) != len(layers):
            raise Failed("the config names another number of layers than the manifest: this is no image to run")
        beside = self._path.with_name(f".{self._path.name}.new")
        with tarfile.open(beside, "w", format=tarfile.PAX_FORMAT) as archive:
            names = [self._add_layer(archive, *pair) for pair in zip(layers, diff_ids, strict=True)]
            _add(archive, f"{config.digest.hex}.json", config_content)
            tags = [self._reference] if self._reference else []
            entry = {"Config": f"{config.digest.hex}.json", "RepoTags": tags, "Layers": names}
            _add(archive, "manifest.json", json.dumps([entry]).encode())
        beside.replace(self._path)

    def _add_layer(self, archive: tarfile.TarFile, layer: Descriptor, diff_id: str) -> str:
        unpacked = self._kept(layer.digest).with_suffix(".tar")
        with self._kept(layer.digest).open("rb") as packed, unpacked.open("wb") as out:
            for piece in _unpacked(iter(lambda: packed.read(PIECE), b""), layer.media_type):
                out.write(piece)
        described = Descriptor(OCI_LAYER, Digest.parse(diff_id), unpacked.stat().st_size)
        with unpacked.open("rb") as file:
            for _ in checked(described, iter(lambda: file.read(PIECE), b"")):
                pass
        name = f"{described.digest.hex}.tar"
        if name not in archive.getnames():
            archive.add(unpacked, name, filter=plain)
        unpacked.unlink()
        return name

    def _kept(self, digest: Digest) -> Path:
        return self._between / digest.hex


def _unpacked(pieces: Iterable[bytes], media_type: str) -> Iterator[bytes]:
    if media_type.endswith("zstd"):
        raise Failed("a layer is packed with zstd, which a docker archive does not hold")
    if not media_type.endswith("gzip"):
        yield from pieces
        return
    unpacking = zlib.decompressobj(wbits=31)
    for packed in pieces:
        rest = packed
        while rest:
            yield unpacking.decompress(rest, 4 * PIECE)
            rest = unpacking.unconsumed_tail
            if unpacking.eof:
                # gzip files may be several, one behind the other.
                rest = unpacking.unused_data
                unpacking = zlib.decompressobj(wbits=31)
    yield unpacking.flush()


def _describe(archive: tarfile.TarFile, name: str, media_type: str) -> Descriptor:
    """Digest and size of a member by reading it; a layer that is packed after all says so in its type."""
    running, size, start = hashlib.sha256(), 0, b""
    with content(archive, name) as file:
        for piece in iter(lambda: file.read(PIECE), b""):
            start = start or piece[:4]
            running.update(piece)
            size += len(piece)
    packing = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}.get(start[:2], "") if media_type == OCI_LAYER else ""
    return Descriptor(media_type + packing, Digest.parse(f"sha256:{running.hexdigest()}"), size)


def _entries(found: bytes, path: Path) -> list[dict[str, Any]]:
    """The images of an archive, each with a config, layers and tags; raises Failed."""
    try:
        entries = objects(_parsed(found, path))
        for entry in entries:
            _check_names([entry["Config"]], entry["Layers"], entry.get("RepoTags") or [])
    except (KeyError, TypeError) as error:
        raise Failed(f"{path} has no list of images that can be read") from error
    return entries


def _check_names(*lists: object) -> None:
    for found in lists:
        if not isinstance(found, list) or not all(isinstance(one, str) for one in cast("list[object]", found)):
            raise TypeError("not a list of names")


def _tags(entry: dict[str, Any]) -> list[str]:
    return cast("list[str]", entry.get("RepoTags") or [])


def _as_json(described: Descriptor) -> dict[str, Any]:
    return {"mediaType": described.media_type, "digest": described.digest, "size": described.size}


def _parsed(found: bytes, path: Path) -> Any:
    try:
        return json.loads(found)
    except (ValueError, RecursionError) as error:
        raise Failed(f"{path} holds JSON that cannot be read") from error


def _add(archive: tarfile.TarFile, name: str, found: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(found)
    archive.addfile(plain(member), io.BytesIO(found))
