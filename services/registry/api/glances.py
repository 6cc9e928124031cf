"""Manifests in the lane: what was read lately is handed out without a task, once state has said what a tag is now."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from re import Pattern

from services.registry.api.asked import in_scope
from services.registry.api.manifests import headers_of
from services.registry.names import ImageName, reference
from services.registry.reading import Stored
from services.registry.registry import Registry
from services.registry.store import Place
from shared.digest import Digest
from shared.http.errors import ApiError
from shared.http.routes import Glance, Prepared
from shared.identity.caller import Caller


@dataclass(frozen=True)
class ManifestGlance:
    """One manifest's address."""

    registry: Registry
    name: ImageName
    place: Place
    resource: str
    counts: bool
    """Whether it is handed out: that is a pull, which the repository's rules may deny."""

    def reaches(self, caller: Caller) -> bool:
        """Whether the token is for this image."""
        return in_scope(caller, self.name, "pull")

    def look(self, told: Callable[[Prepared | None], None]) -> bool:
        """Ask what the tag is now."""
        repository = self.registry.repository(self.name)
        return repository.glimpse(self.place, lambda stored: told(self._prepared(stored)), downloads=self.counts)

    def _prepared(self, stored: Stored | None) -> Prepared | None:
        if stored is None:
            return None
        pulls = self.registry.pulls
        counted = partial(pulls.note if self.counts else pulls.look, self.name, stored.digest)
        return Prepared(_head(stored.digest, stored.media_type), stored.content, counted)


def manifest_glances(registry: Registry, verb: str, paths: Pattern[str]) -> Callable[[str], Glance | None]:
    """Reads addresses of manifests; `paths` has the groups `name` and `reference`."""

    def glance(path: str) -> Glance | None:
        found = paths.fullmatch(path)
        if found is None:
            return None
        try:
            name, asked = ImageName.parse(found["name"]), reference(found["reference"])
        except ApiError:
            return None  # to be refused in the registry's own words
        return ManifestGlance(
            registry, name, registry.store.place(name, asked), registry.resource(name), counts=verb == "GET"
        )

    return glance


@lru_cache(maxsize=4096)
def _head(digest: Digest, media_type: str) -> bytes:
    lines = headers_of(digest) | {"Content-Type": media_type}
    return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()
