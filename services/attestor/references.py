"""Image references as Kubernetes writes them, and where in our registry they point."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from shared.digest import Digest
from shared.names import PROJECT, REPOSITORY_ID

_HOST = re.compile(
    r"localhost(?::\d{1,5})?|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d{1,5})?|[A-Za-z0-9-]+:\d{1,5}|\[[0-9a-f:]+\](?::\d{1,5})?"
)
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)

MOST_CHARACTERS = 512
DEFAULT_HOST = "docker.io"


@dataclass(frozen=True)
class Reference:
    """An image reference, checked: a host, a path, and a tag or a digest or both."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @staticmethod
    def parse(text: str) -> "Reference":
        """Read what a container's `image` says; raises ValueError.

        As for docker, a name without a host is on Docker Hub, and one with neither tag nor digest means `latest`.
        """
        return _parsed(text)

    @property
    def name(self) -> str:
        """Host and path."""
        return f"{self.host}/{self.path}"

    def __str__(self) -> str:
        """The reference in its full form."""
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def pinned(self, digest: str) -> str:
        """The same image by digest alone."""
        return f"{self.name}@{digest}"


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Reference:
    """Pure, and remembered: a review reads each of its images several times, and the next one the same."""
    if not text or len(text) > MOST_CHARACTERS:
        raise ValueError(f"an image reference has 1 to {MOST_CHARACTERS} characters")
    name, at, digest = text.partition("@")
    checked = Digest.parse(digest) if at else ""
    name, tag = _without_tag(name)
    host, path = _host_and_path(name)
    if not all(_PART.fullmatch(part) for part in path.split("/")):
        raise ValueError(f"not an image name: {text!r}")
    if tag and not _TAG.fullmatch(tag):
        raise ValueError(f"not a tag: {tag!r}")
    return Reference(host, path, tag or ("" if checked else "latest"), checked)


def _without_tag(name: str) -> tuple[str, str]:
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, ""
    if not tag:
        raise ValueError(f"an empty tag: {name!r}")
    return head, tag


def _host_and_path(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and _HOST.fullmatch(first):
        return ("docker.io" if first == "index.docker.io" else first), rest
    return DEFAULT_HOST, name if slash else f"library/{name}"


@dataclass(frozen=True)
class Place:
    """Where an image lies in our registry."""

    project: str
    location: str
    repository: str
    image: str

    @property
    def path(self) -> str:
        """The path of its image references."""
        return f"{self.project}/{self.repository}/{self.image}"

    @property
    def home(self) -> str:
        """Its name within the project, by which it is kept."""
        return f"{self.location}/{self.repository}/{self.image}"


def place_of(reference: Reference, registries: Mapping[str, str]) -> Place | None:
    """The place in our registry, or None for a foreign image; `registries` gives the location of each host name.

    Two components mean the project's repository `gcr.io`.
    """
    location = registries.get(reference.host)
    if location is None:
        return None
    project, _, rest = reference.path.partition("/")
    repository, slash, image = rest.partition("/")
    if not slash:
        repository, image = "gcr.io", rest
    if not image or not PROJECT.fullmatch(project) or not REPOSITORY_ID.fullmatch(repository):
        return None
    return Place(project, location, repository, image)
