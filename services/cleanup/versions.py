"""What is known of the versions of a repository."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from shared.tag_rules import digest_of


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    def stored(self) -> str:
        """The record as it is kept."""
        return self.model_dump_json(exclude_defaults=True)


class VersionRecord(_Record):
    """A version as it was heard of."""

    generation: int
    deleted: bool = False
    changed: float = 0.0
    """When the last event about it was said; tombstones go by it."""
    uploaded: str = ""
    size: int = 0
    subject: str = ""
    children: tuple[str, ...] = ()
    pulled: str = ""

    buried: int = 0
    """Generation of its last deletion; kept while a push behind that has yet to be heard of."""

    @property
    def awaits_push(self) -> bool:
        """Only what happened to its tags was heard of as yet: that may come before its push."""
        return not self.deleted and not self.uploaded


class TagRecord(_Record):
    """What a tag points at; an empty digest says that it was taken away."""

    generation: int
    digest: str = ""
    changed: float = 0.0


class Running(_Record):
    """That a version was let into a cluster."""

    when: float
    where: str


@dataclass(frozen=True)
class Name:
    """A version's name within its repository."""

    image: str
    digest: str


@dataclass(frozen=True)
class Version:
    """A version that is there, with all that a plan needs to know."""

    name: Name
    generation: int
    uploaded: float
    size: int = 0
    tags: tuple[str, ...] = ()
    subject: str = ""
    children: tuple[str, ...] = ()
    running: str = ""
    """Where it was let in lately; empty: nowhere."""
    pulled: str = ""
    """When it, or what it lists, was pulled last, exact to a minute; empty: not as far as is known."""
    orphaned: bool = False
    """What it refers to was there, and was deleted."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """What it refers to: as its manifest says, or as the form of its tags does, by which older clients sign."""
        return tuple(found for found in dict.fromkeys((self.subject, *map(digest_of, self.tags))) if found)

    @property
    def named(self) -> bool:
        """Whether somebody gave it a name, and not a client a tag that belongs to a digest."""
        return any(not digest_of(tag) for tag in self.tags)
