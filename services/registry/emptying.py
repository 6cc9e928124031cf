"""Emptying an image: all its versions go, indexes before what they list, each announced."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.registry.acts import Act
from services.registry.deletion import Deletion, Guard
from services.registry.errors import ManifestUnknown, StillHeld
from services.registry.names import ImageName
from services.registry.store import Store
from shared.digest import Digest
from shared.http.errors import Aborted

_PAGE = 200
_ROUNDS = 64
"""How often the versions of an image are gone through: an index comes before what it lists, nesting is not deep."""


@dataclass(frozen=True)
class Emptying:
    """Takes all versions of an image away."""

    store: Store
    deletion: Deletion

    async def empty(self, name: ImageName, act: Act, guard: Guard) -> None:
        """Go through the versions until none is left; raises Aborted while others push as fast."""
        for _ in range(_ROUNDS):
            after = ""
            while digests := await self.store.versions(name, after, _PAGE):
                await self._round(name, digests, act, guard)
                after = digests[-1]
            if not await self.store.versions(name, "", 1):
                return
        raise Aborted(f"{name.image} is not empty: others keep pushing to it")

    async def _round(self, name: ImageName, digests: Sequence[str], act: Act, guard: Guard) -> None:
        for digest in digests:
            version = await self.store.version(name, digest)
            if version is None:
                continue
            # The generation tells this life of the version from one that comes back under the same cause.
            part = act.part(f"{name.image}@{digest}/{version.generation}")
            try:
                await self.deletion.delete(name, Digest(digest), part, guard)
            except StillHeld:
                continue  # its index goes in this round, and it in the next
            except ManifestUnknown:
                continue  # somebody was faster
