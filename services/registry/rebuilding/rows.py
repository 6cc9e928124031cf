"""The rows of a snapshot: what cannot be worked out from other rows. Indexes are made anew when it is loaded.

Hashes are kept as they lie in state, with fields that this version does not know.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from services.registry.names import ImageName


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class CountersRow(_Row):
    """Some counters of a partition."""

    kind: Literal["counters"] = "counters"
    partition: str
    which: Literal["generations", "sequences", "lanes"]
    numbers: dict[str, int]


class ProjectRow(_Row):
    """What is set for all repositories of a project."""

    kind: Literal["project"] = "project"
    project: str
    settings: dict[str, str]


class RepositoryRow(_Row):
    """A repository with its IAM policy."""

    kind: Literal["repository"] = "repository"
    project: str
    repository: str
    record: dict[str, str]
    deleting: bool = False
    policy: str = ""


class BlobsRow(_Row):
    """Some blobs that a repository holds, with their sizes, and what was noted of them."""

    kind: Literal["blobs"] = "blobs"
    project: str
    repository: str
    sizes: dict[str, str]
    notes: dict[str, str] = {}


class _OfImage(_Row):
    project: str
    repository: str
    image: str

    @property
    def name(self) -> ImageName:
        """The image."""
        return ImageName(self.project, self.repository, self.image)


class ImageRow(_OfImage):
    """An image's own record."""

    kind: Literal["image"] = "image"
    record: dict[str, str]


class VersionRow(_OfImage):
    """One manifest of an image."""

    kind: Literal["version"] = "version"
    digest: str
    record: dict[str, str]


class TagsRow(_OfImage):
    """Some tags of an image with what they point at. They come behind the image's versions."""

    kind: Literal["tags"] = "tags"
    pointers: dict[str, str]


class CascadeRow(_OfImage):
    """What is to follow a manifest that has gone."""

    kind: Literal["cascade"] = "cascade"
    digest: str
    record: dict[str, str]


Row = CountersRow | ProjectRow | RepositoryRow | BlobsRow | ImageRow | VersionRow | TagsRow | CascadeRow

_ROW: TypeAdapter[Row] = TypeAdapter(Annotated[Row, Field(discriminator="kind")])


def parse(line: bytes) -> Row:
    """Read a line that `written` wrote. Raises pydantic's ValidationError, a ValueError."""
    return _ROW.validate_json(line)


def written(row: Row) -> bytes:
    """A row as one line."""
    return row.model_dump_json().encode() + b"\n"
