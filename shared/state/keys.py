"""How state keys are written: partition tag, service, kind, then what they are about."""

from dataclasses import dataclass
from functools import lru_cache

from shared.names import PARTITIONS, partition_of, path_token


@dataclass(frozen=True)
class Keys:
    """Writes the keys of one service: `{07}:registry:tags:acme:web:app`."""

    service: str

    def of(self, project: str, kind: str, *parts: str) -> str:
        """The key of a record of a project; the project itself is the first part."""
        return _of_project(self.service, project, kind, parts)

    def at(self, partition: str, kind: str, *parts: str) -> str:
        """The key of a record of a partition."""
        return _written(self.service, partition, kind, parts)

    def lane(self, partition: str, stream: str) -> str:
        """The outbox lane of one partition for one stream."""
        return self.at(partition, "lane", stream)

    def all_partitions(self) -> list[str]:
        """Every partition tag."""
        return [f"{number:02d}" for number in range(PARTITIONS)]


@lru_cache(maxsize=16_384)
def _of_project(service: str, project: str, kind: str, parts: tuple[str, ...]) -> str:
    """Kept: one push names the same keys again and again, to look, to check and to write."""
    return _joined(service, partition_of(project), kind, (project, *parts))


@lru_cache(maxsize=4096)
def _written(service: str, partition: str, kind: str, parts: tuple[str, ...]) -> str:
    return _joined(service, partition, kind, parts)


def _joined(service: str, partition: str, kind: str, parts: tuple[str, ...]) -> str:
    return ":".join((f"{{{partition}}}", service, kind, *map(path_token, parts)))
