"""What one layer says, kept once for all images that have it."""

from typing import Self

import orjson
from pydantic import BaseModel, ConfigDict

from services.scanner.inventory.distribution import Distribution
from services.scanner.inventory.package import Package

ANALYSER = "1"
"""Version of what is found and how it is written; a new one reads every layer anew."""


class LayerFacts(BaseModel):
    """Files of a layer that describe packages, by path, and what the layer hides of those below it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, tuple[Package, ...]] = {}
    """By path without a leading slash. No packages: the file is there and names none."""
    distributions: dict[str, Distribution] = {}
    owned: dict[str, tuple[str, ...]] = {}
    """By the path of dpkg's list: the language package files that it owns."""
    hidden: tuple[str, ...] = ()
    """Paths that whiteouts remove from the layers below."""
    emptied: tuple[str, ...] = ()
    """Folders whose content in the layers below is hidden."""
    members: int = 0
    unpacked: int = 0
    unreadable: int = 0
    """Files that should describe packages and do not."""
    remembered: int = 0
    """How much all of this is, counted as `Limits.facts` counts."""

    def written(self) -> bytes:
        """The facts as they are stored."""
        return orjson.dumps(self.model_dump(mode="json", exclude_defaults=True))

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Facts from the store."""
        return cls.model_validate_json(content)


def facts_object(digest: str) -> str:
    """Where the facts of a layer lie."""
    algorithm, _, content = digest.partition(":")
    return f"scanner/layers/v{ANALYSER}/{algorithm}/{content[:2]}/{content}"
