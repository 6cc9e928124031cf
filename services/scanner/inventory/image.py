"""The packages of an image: its layers' facts laid over each other as a runtime lays the layers."""

import re
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from pydantic import BaseModel, ConfigDict

from services.scanner.inventory.distribution import FILES as DISTRIBUTION_FILES
from services.scanner.inventory.distribution import Distribution
from services.scanner.inventory.package import Package
from services.scanner.layers.facts import ANALYSER, LayerFacts

_MERGED = re.compile(r"^(?=(?:lib|lib64|bin|sbin)/)")
"""Debian's lists name folders of the root that are links into /usr."""


class Installed(BaseModel):
    """A package in an image: where it stands, since which layer, and whether the distribution brought it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: Package
    path: str
    layer: str
    """Digest of the first layer that has this name and version."""
    layer_index: int = 0
    owned: bool = False
    """A language package whose files belong to a package of the distribution, which mends it in its own versions."""


class Inventory(BaseModel):
    """All packages of an image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    distribution: Distribution = Distribution()
    installed: tuple[Installed, ...] = ()
    layers: int = 0
    unpacked: int = 0
    """Bytes of all layers after decompression."""
    members: int = 0
    unreadable: int = 0

    def written(self) -> bytes:
        """The inventory as it is stored."""
        return orjson.dumps(self.model_dump(mode="json", exclude_defaults=True))

    @classmethod
    def read(cls, content: bytes) -> Self:
        """An inventory from the store."""
        return cls.model_validate_json(content)


def inventory_object(digest: str) -> str:
    """Where the inventory of an image lies."""
    algorithm, _, content = digest.partition(":")
    return f"scanner/inventories/v{ANALYSER}/{algorithm}/{content[:2]}/{content}"


@dataclass
class _Overlay:
    """What is visible of the layers so far."""

    files: dict[str, tuple[Package, ...]] = field(default_factory=dict[str, tuple[Package, ...]])
    distributions: dict[str, Distribution] = field(default_factory=dict[str, Distribution])
    owned: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    first: dict[tuple[str, str, str], int] = field(default_factory=dict[tuple[str, str, str], int])

    def lay(self, number: int, facts: LayerFacts) -> None:
        """Lay one more layer over the others."""
        for lower in (self.files, self.distributions, self.owned):
            _hide(lower, facts)
        self.files.update(facts.files)
        self.distributions.update(facts.distributions)
        self.owned.update(facts.owned)
        for packages in facts.files.values():
            for package in packages:
                self.first.setdefault(_identity(package), number)

    def distribution(self) -> Distribution:
        found = (self.distributions[path] for path in DISTRIBUTION_FILES if path in self.distributions)
        return next(found, Distribution())

    def installed(self, digests: Sequence[str]) -> Iterable[Installed]:
        brought = {_MERGED.sub("usr/", path) for paths in self.owned.values() for path in paths}
        for path, packages in sorted(self.files.items()):
            owned = _MERGED.sub("usr/", path) in brought
            for package in packages:
                number = self.first[_identity(package)]
                yield Installed(
                    package=package,
                    path=path,
                    layer=digests[number],
                    layer_index=number,
                    owned=owned and package.kind != "deb",
                )


def inventory_of(layers: Sequence[tuple[str, LayerFacts]]) -> Inventory:
    """The packages that are left when all layers, each with its digest, lowest first, are laid over each other."""
    overlay = _Overlay()
    for number, (_, facts) in enumerate(layers):
        overlay.lay(number, facts)
    return Inventory(
        distribution=overlay.distribution(),
        installed=tuple(overlay.installed([digest for digest, _ in layers])),
        layers=len(layers),
        unpacked=sum(facts.unpacked for _, facts in layers),
        members=sum(facts.members for _, facts in layers),
        unreadable=sum(facts.unreadable for _, facts in layers),
    )


def _identity(package: Package) -> tuple[str, str, str]:
    return package.kind, package.name, package.version


def _hide(lower: MutableMapping[str, Any], facts: LayerFacts) -> None:
    """Take away what a layer's whiteouts hide; a hidden folder hides all below it, an emptied one stays itself."""
    hidden, emptied = frozenset(facts.hidden), frozenset(facts.emptied)
    if not hidden and not emptied:
        return
    for path in [path for path in lower if _is_hidden(path, hidden, emptied)]:
        del lower[path]


def _is_hidden(path: str, hidden: frozenset[str], emptied: frozenset[str]) -> bool:
    if path in hidden or "" in emptied:
        return True
    above = path
    while above:
        above = above.rpartition("/")[0]
        if above in hidden or above in emptied:
            return True
    return False
