"""Where an image is: its place in the registry, and the address by which Google's API names it."""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from shared.digest import Digest
from shared.events.images import ImageEvent
from shared.names import PROJECT, REPOSITORY_ID

_ADDRESS = re.compile(r"(?:https?://)?([^/@]+)/([^/@]+)/([^/@]+)(?:/([^@]+))?@(sha\d{3}:[0-9a-f]+)")


@dataclass(frozen=True, order=True)
class Place:
    """One digest under one image name."""

    project: str
    location: str
    repository: str
    image: str
    digest: str

    @classmethod
    def of(cls, event: ImageEvent, digest: str) -> Self:
        """The place that an event is about."""
        return cls(event.project, event.location, event.repository, event.image, digest)

    @classmethod
    def named(cls, project: str, text: str) -> Self:
        """The place that `text` was made of."""
        location, repository, rest = text.split("/", 2)
        image, _, digest = rest.partition("@")
        return cls(project, location, repository, image, digest)

    @property
    def text(self) -> str:
        """The place within its project; places sort by it."""
        return f"{self.location}/{self.repository}/{self.image}@{self.digest}"

    @property
    def id(self) -> str:
        """A short name for it, fit for resource names."""
        return hashlib.sha256(f"{self.project}/{self.text}".encode()).hexdigest()[:32]

    @property
    def path(self) -> str:
        """What its resource URI says behind the host, which is not the same for everybody."""
        return f"{self.project}/{self.repository}/{self.image}@{self.digest}"

    def address(self, host: str) -> str:
        """The resource URI: `https://HOST/P/R/IMAGE@DIGEST`."""
        return f"https://{host}/{self.path}"


def path_of(address: str) -> str:
    """What a resource URI says behind the host: the same for an image whatever name of the registry is used."""
    place = place_at(address, "")
    return place.path if place else address.rpartition("://")[2].partition("/")[2]


def place_at(address: str, location: str) -> Place | None:
    """The place that a resource URI names, whatever the host; two components mean the repository `gcr.io`."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return None
    _, project, repository, image, digest = found.groups("")
    if not image:
        repository, image = "gcr.io", repository
    try:
        checked = Digest.parse(digest)
    except ValueError:
        return None
    if not PROJECT.fullmatch(project) or not REPOSITORY_ID.fullmatch(repository):
        return None
    return Place(project, location, repository, image, checked)
