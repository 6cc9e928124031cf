"""Reads what an operator brings: an archive or one file of OSV records in JSON or YAML, told by its first bytes.

One document is in memory at a time. Archives are bounded like layers are: in bytes, members and ratio.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, Any

import orjson
import yaml

from services.scanner.advisories.record import RecordUnusable
from services.scanner.layers.limits import MIB, LayerRefused, Limits
from services.scanner.layers.unpacking import Unpacking
from services.scanner.layers.walking import Kind, Member, TarWalk

PIECE = 256 * 1024
LIMITS = Limits(unpacked=8 * 1024 * MIB, members=2_000_000, file=16 * MIB, read=8 * 1024 * MIB)
"""One record is some KiB; the largest databases are some GiB unpacked."""
ONE_FILE = 256 * MIB
"""A file that is no archive may hold many records."""

_ENDINGS = (".json", ".yaml", ".yml", ".jsonl", ".ndjson")
_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ImportRefused(ValueError):
    """What was brought cannot be read; the message says why. Nothing was changed."""


def documents(file: IO[bytes]) -> Iterator[object]:
    """All records of a seekable file, or a RecordUnusable for one that cannot be read. Raises ImportRefused."""
    start = file.read(512)
    file.seek(0)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return chain.from_iterable(_parsed(name, content) for name, content in _zipped(file))
    if start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")) or start[257:262] == b"ustar":
        return chain.from_iterable(_parsed(name, content) for name, content in _archived(file))
    return _single(file)


def _single(file: IO[bytes]) -> Iterator[object]:
    content = file.read(ONE_FILE + 1)
    if len(content) > ONE_FILE:
        raise ImportRefused(f"a single file may have {ONE_FILE} bytes; bring an archive")
    return iter(_parsed("file.json" if content.lstrip()[:1] in {b"{", b"["} else "file.yaml", content))


def _archived(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """The documents of a tar; compressed or not."""
    found: list[tuple[str, bytes]] = []
    walk = TarWalk(
        _is_document, lambda member, content: found.append((member.path.decode(errors="replace"), content)), LIMITS
    )
    unpacking = Unpacking(walk.feed, LIMITS)
    try:
        while piece := file.read(PIECE):
            unpacking.feed(piece)
            yield from found
            found.clear()
        unpacking.end()
        walk.end()
    except LayerRefused as error:
        raise ImportRefused(str(error)) from error
    yield from found


def _is_document(member: Member) -> bool:
    name = member.path.rpartition(b"/")[2].decode(errors="replace")
    return member.kind is Kind.FILE and not member.sparse and name.endswith(_ENDINGS) and not name.startswith(".")


def _zipped(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > LIMITS.members or sum(entry.file_size for entry in entries) > LIMITS.unpacked:
                raise ImportRefused("the archive is larger than the limits")
            for entry in entries:
                if entry.filename.endswith(_ENDINGS):
                    yield entry.filename, _bounded(archive, entry)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise ImportRefused(f"the archive cannot be read: {str(error)[:200]}") from error


def _bounded(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as opened:
        content = opened.read(LIMITS.file + 1)
    if len(content) > LIMITS.file:
        raise ImportRefused(f"{entry.filename[-200:]} is larger than {LIMITS.file} bytes")
    return content


def _parsed(name: str, content: bytes) -> Iterable[object]:
    try:
        if name.endswith((".yaml", ".yml")):
            return _flat(yaml.load_all(content, Loader=_YAML))
        if name.endswith((".jsonl", ".ndjson")):
            return _lines(content)
        return _flat([orjson.loads(content)])
    except orjson.JSONDecodeError as error:
        return _lines(content) if content.count(b"\n{") else [RecordUnusable(f"{name[-100:]}: {error}")]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return [RecordUnusable(f"{name[-100:]}: {str(error)[:200]}")]


def _lines(content: bytes) -> Iterator[object]:
    for line in content.splitlines():
        if line.strip():
            try:
                yield orjson.loads(line)
            except json.JSONDecodeError as error:
                yield RecordUnusable(str(error))


def _flat(found: Iterable[Any]) -> list[object]:
    """Records alone, in lists, or as a list under `vulns` as OSV's own service answers."""
    records: list[object] = []
    for one in found:
        inner: Any = one.get("vulns") if isinstance(one, dict) and "vulns" in one else one  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        records.extend(inner if isinstance(inner, list) else [inner])  # pyright: ignore[reportUnknownArgumentType]
    return records
