"""How state keys are written: partition tag, service, kind, then what they are about."""

from functools import lru_cache
from typing import Protocol

from shared.names import PARTITIONS, partition_of, path_token


class Written(Protocol):
    """Writes a key."""

    def __call__(self, place: str, kind: str, /, *parts: str) -> str:
        """The key."""
        ...


class Keys:
    """Writes the keys of one service: `{07}:registry:tags:acme:web:app`.

    What was written lately is kept, by the cache itself: one push names the same dozens of keys again and again, to
    look, to check and to write.
    """

    of: Written
    """The key of a record of a project, which is the first part itself."""
    at: Written
    """The key of a record of a partition."""

    def __init__(self, service: str) -> None:
        self.service = service

        def of(project: str, kind: str, /, *parts: str) -> str:
            return at(partition_of(project), kind, project, *parts)

        def at(partition: str, kind: str, /, *parts: str) -> str:
            return ":".join((f"{{{partition}}}", service, kind, *map(path_token, parts)))

        self.of = lru_cache(maxsize=16_384)(of)
        self.at = lru_cache(maxsize=4096)(at)

    def lane(self, partition: str, stream: str) -> str:
        """The outbox lane of one partition for one stream."""
        return self.at(partition, "lane", stream)

    def all_partitions(self) -> list[str]:
        """Every partition tag."""
        return [f"{number:02d}" for number in range(PARTITIONS)]
