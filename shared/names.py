"""Names of projects, locations, repositories and members, and their escaped form in subjects and keys."""

import re
import zlib
from functools import lru_cache
from urllib.parse import unquote

PARTITIONS = 64

PROJECT = re.compile(r"[a-z][a-z0-9-]{0,28}[a-z0-9]")
LOCATION = re.compile(r"[a-z][a-z0-9-]{0,62}")
REPOSITORY_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|gcr\.io")

_SUBJECT_SAFE = re.compile(r"[^\x21-\x7e]|[%.*>/ ]")
_PATH_UNSAFE = re.compile(r"[^A-Za-z0-9_.~@!,;=+$-]")


@lru_cache(maxsize=4096)
def partition_of(project: str) -> str:
    """The partition tag `00` to `63` of a project: everything one atomic step touches lies in one partition."""
    return f"{zlib.crc32(project.encode()) % PARTITIONS:02d}"


@lru_cache(maxsize=4096)
def subject_token(text: str) -> str:
    """`text` as one token of a bus subject; `_` where there is none."""
    if not text:
        return "_"
    if text == "_":
        return "%5F"
    return _SUBJECT_SAFE.sub(_escaped, text)


def from_subject_token(escaped: str) -> str:
    """The text that `subject_token` escaped."""
    return "" if escaped == "_" else unquote(escaped)


@lru_cache(maxsize=8192)
def path_token(text: str) -> str:
    """`text` as one segment of an object name or state key, with no slash, colon, brace or space left in it."""
    return _PATH_UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


def blob_object(project: str, digest: str) -> str:
    """The object that holds a blob: one for all repositories of a project, always at the same depth."""
    return _content_object("blobs", project, digest)


def manifest_object(project: str, digest: str) -> str:
    """The object that holds a manifest's exact bytes."""
    return _content_object("manifests", project, digest)


def _content_object(kind: str, project: str, digest: str) -> str:
    algorithm, _, content = digest.partition(":")
    return f"{kind}/{project}/{algorithm}/{content[:2]}/{content}"
