"""Whether state was lost: a registry that began on nothing would serve nothing, and take all bytes for unused."""

from dataclasses import dataclass

from services.registry.layout import Layout
from services.registry.rebuilding.shelf import FOLDER
from shared.blobs import Blobs
from shared.state import RecordOf, State

_MANIFESTS = "manifests/"


class StateLost(Exception):
    """The bucket holds more than state knows of, or a rebuild has not ended."""


@dataclass(frozen=True)
class Loss:
    """Looks before a replica starts."""

    state: State
    layout: Layout
    blobs: Blobs

    async def refuse(self) -> None:
        """Raise StateLost, with what to do about it."""
        begun = await self.state.field(self.layout.rebuilding(), "begun")
        if begun:
            raise StateLost(f"a rebuild of this state was begun at {begun} and has not ended: let it end, or repeat it")
        if await self._knows_nothing() and (found := await self._something()):
            raise StateLost(
                f"the state is empty, but the bucket holds {found}: "
                "bring the state back with `entrepot rebuild-state registry`"
            )

    async def _knows_nothing(self) -> bool:
        keys = self.layout.keys
        counters = [RecordOf(keys.at(partition, "sequences")) for partition in keys.all_partitions()]
        return not any(await self.state.look(counters))

    async def _something(self) -> str:
        for prefix in (FOLDER, _MANIFESTS):
            async for stat in self.blobs.names(prefix):
                return stat.name
        return ""
