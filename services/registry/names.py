"""Names of images, tags and references as clients write them, checked once here."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, TypeVar

from services.registry.errors import DigestInvalid, NameInvalid, TagInvalid
from shared.digest import Digest
from shared.names import PROJECT, REPOSITORY_ID

CONTAINER_REGISTRY = "gcr.io"
"""The repository that names of two components mean, as in Container Registry."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LONGEST = 255

N = TypeVar("N")


class Tag(str):
    """A well-formed tag. Holding one means it was checked."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check `text`; raises TagInvalid."""
        if not _TAG.fullmatch(text):
            raise TagInvalid(f"not a tag: {text[:160]!r}")
        return cls(text)


Reference = Tag | Digest
"""What a manifest is asked for by."""


@dataclass(frozen=True)
class ImageName:
    """An image: project, repository and the image's name inside the repository, slashes allowed."""

    project: str
    repository: str
    image: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `P/R/IMAGE`, or `P/IMAGE` for the repository `gcr.io`; raises NameInvalid."""
        if len(text) > _LONGEST:
            raise NameInvalid(f"a name has at most {_LONGEST} characters")
        return _parsed(cls, text)

    @property
    def path(self) -> str:
        """The name as the wire has it."""
        return f"{self.project}/{self.repository}/{self.image}"


@lru_cache(maxsize=4096)
def _parsed(kind: Callable[[str, str, str], N], text: str) -> N:
    """Kept, because each request asks several times and the same few images are asked for again and again."""
    project, _, rest = text.partition("/")
    repository, slash, image = rest.partition("/")
    if not slash:
        repository, image = CONTAINER_REGISTRY, rest
    if not (PROJECT.fullmatch(project) and REPOSITORY_ID.fullmatch(repository) and _IMAGE.fullmatch(image)):
        raise NameInvalid(f"{text!r} is not PROJECT/REPOSITORY/IMAGE, nor PROJECT/IMAGE")
    return kind(project, repository, image)


def is_image(text: str) -> bool:
    """Whether `text` may name an image inside a repository."""
    return len(text) <= _LONGEST and _IMAGE.fullmatch(text) is not None


def reference(text: str) -> Reference:
    """A digest where there is a colon, a tag otherwise; raises DigestInvalid, TagInvalid."""
    return digest(text) if ":" in text else Tag.parse(text)


def digest(text: str) -> Digest:
    """`text` as a digest; raises DigestInvalid."""
    try:
        return Digest.parse(text)
    except ValueError as error:
        raise DigestInvalid(str(error)) from error
