"""Sending readers of blobs to the object store itself: by an address that is signed for a short while."""

from dataclasses import dataclass

from services.registry.holdings import Held
from services.registry.names import ImageName
from services.registry.store import Store
from shared.blobs import Blobs

LABEL = "entrepot-redirect"
"""The repository's label that says `on` or `off`, whatever holds for the deployment."""

SWITCH = {"on": True, "off": False}


@dataclass(frozen=True)
class Redirects:
    """Knows which repositories' blobs the store hands out."""

    store: Store
    blobs: Blobs
    usual: bool
    """Of a repository without the label."""
    seconds: int
    """Within which the reading must begin."""

    async def address(self, name: ImageName, held: Held) -> str | None:
        """Where the store hands out the blob; None where the registry does that itself.

        Whether the caller may read it is decided before: the address asks nobody who they are.
        """
        if not self.blobs.presigns or not await self._wanted(name):
            return None
        return await self.blobs.presigned(held.object, self.seconds)

    async def _wanted(self, name: ImageName) -> bool:
        record = await self.store.repository(name.project, name.repository)
        label = record.settings.labels.get(LABEL, "") if record else ""
        return SWITCH.get(label, self.usual)
