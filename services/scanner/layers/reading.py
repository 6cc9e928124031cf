"""Reads the layers of images from the bucket, each once for all images that have it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from services.scanner.inventory.image import Inventory, inventory_object, inventory_of
from services.scanner.layers.analysis import LayerAnalysis
from services.scanner.layers.facts import LayerFacts, facts_object
from services.scanner.layers.limits import LayerRefused, Limits
from services.scanner.manifests import Descriptor, Manifest
from shared.blobs import BlobMissing, Blobs
from shared.clock import Cpu
from shared.names import blob_object, manifest_object

GATHERED = 1024 * 1024
"""Packed bytes analysed by one computation: enough that handing them over costs little."""
_FACTS_LIMIT = 256 * 1024 * 1024
_MANIFEST_LIMIT = 16 * 1024 * 1024

Holds = Callable[[str], Awaitable[bool]]
"""Whether the repository that an image is in is known to hold a layer, by its digest."""


@dataclass
class Contents:
    """What an image, or all images of an index, turned out to hold."""

    inventories: list[Inventory] = field(default_factory=list[Inventory])
    images: list[str] = field(default_factory=list[str])
    """Digests of the images."""
    layers: dict[str, None] = field(default_factory=dict[str, None])
    """Digests of the layers that their repository must hold, each once."""
    unpacked: int = 0
    """Bytes of all layers, each as often as an image has it."""
    members: int = 0


@dataclass(frozen=True)
class Reader:
    """Manifests, layers and inventories of images."""

    blobs: Blobs
    cpu: Cpu
    limits: Limits
    images: Blobs | None = None
    """Where the registry keeps the bytes of images, if that is another bucket than ours."""

    def at(self, images: Blobs | None) -> Self:
        """The same for images whose bytes are in another bucket."""
        return self if images is None else replace(self, images=images)

    async def contents(self, project: str, digest: str, holds: Holds) -> Contents:
        """What is in an image; in an index, in all images that it lists.

        Raises BlobMissing when there is no such manifest, LayerRefused, Unsupported, and ValueError for a bad manifest.
        """
        manifest = await self._manifest(project, digest)
        found = Contents()
        if not manifest.is_index:
            await self._add(found, project, digest, manifest, holds)
            return found
        for one in manifest.images():
            await self._add(found, project, one.digest, await self._listed(project, one), holds)
            self._refuse_too_much(sum(len(inventory.installed) for inventory in found.inventories))
        return found

    async def _listed(self, project: str, image: Descriptor) -> Manifest:
        try:
            return await self._manifest(project, image.digest)
        except BlobMissing as error:
            raise LayerRefused(f"the index lists {image.digest}, which is not there") from error

    async def _manifest(self, project: str, digest: str) -> Manifest:
        return Manifest.read(
            await (self.images or self.blobs).content(manifest_object(project, digest), _MANIFEST_LIMIT)
        )

    async def _add(self, found: Contents, project: str, digest: str, manifest: Manifest, holds: Holds) -> None:
        archives = manifest.archives()
        await self._require_layers(archives, holds)
        found.layers.update(dict.fromkeys(layer.digest for layer in archives if not layer.may_lie_elsewhere))
        if max(len(found.layers), len(archives)) > self.limits.image_layers:
            raise LayerRefused(f"the image has more than {self.limits.image_layers} layers")
        name = inventory_object(digest)
        try:
            stored = await self.blobs.content(name, _FACTS_LIMIT)
            inventory = await self.cpu(lambda: Inventory.read(stored))
        except BlobMissing:
            layers = await self._layers(project, archives, found)
            inventory, written = await self.cpu(lambda: _laid(layers))
            await self.blobs.put(name, written)
        found.inventories.append(inventory)
        found.images.append(digest)
        found.unpacked += inventory.unpacked
        found.members += inventory.members
        self._refuse_too_large(found)

    async def _require_layers(self, archives: Sequence[Descriptor], holds: Holds) -> None:
        """What is known of a layer is told only where the layer is: facts are kept once for all that have it.

        The registry takes an image only where the repository holds its layers, save those that may lie elsewhere. Of
        these another image of the same repository must be known that has them for its own.
        """
        for layer in archives:
            if layer.may_lie_elsewhere and not await holds(layer.digest):
                raise LayerRefused(f"the layer {layer.digest} is not there")

    async def _layers(
        self, project: str, archives: Sequence[Descriptor], before: Contents
    ) -> list[tuple[str, LayerFacts]]:
        found: list[tuple[str, LayerFacts]] = []
        spent = Contents(unpacked=before.unpacked, members=before.members)
        remembered = 0
        for layer in archives:
            facts = await self._facts(project, layer, spent)
            remembered += facts.remembered
            self._refuse_too_much(remembered)
            spent.unpacked += facts.unpacked
            spent.members += facts.members
            self._refuse_too_large(spent)
            found.append((layer.digest, facts))
        return found

    def _refuse_too_much(self, remembered: int) -> None:
        if remembered > self.limits.facts:
            raise LayerRefused(f"the image says more than {self.limits.facts} things about packages")

    def _refuse_too_large(self, spent: Contents) -> None:
        if spent.unpacked > self.limits.image_unpacked:
            raise LayerRefused(
                f"the layers of the image together unpack to more than {self.limits.image_unpacked} bytes"
            )
        if spent.members > self.limits.image_members:
            raise LayerRefused(f"the layers of the image together have more than {self.limits.image_members} members")

    async def _facts(self, project: str, layer: Descriptor, spent: Contents) -> LayerFacts:
        name = facts_object(layer.digest)
        try:
            stored = await self.blobs.content(name, _FACTS_LIMIT)
            return await self.cpu(lambda: LayerFacts.read(stored))
        except BlobMissing:
            facts = await self._analysed(project, layer, spent)
        await self.blobs.put(name, await self.cpu(facts.written))
        return facts

    async def _analysed(self, project: str, layer: Descriptor, spent: Contents) -> LayerFacts:
        analysis = LayerAnalysis(self._left(spent))
        try:
            return await self._read(project, layer, analysis)
        except LayerRefused:
            # Where the image as a whole had less left than a layer may take, that is what is said.
            self._refuse_too_large(
                Contents(unpacked=spent.unpacked + analysis.unpacked, members=spent.members + analysis.members)
            )
            raise

    def _left(self, spent: Contents) -> Limits:
        """What one more layer may take."""
        limits = self.limits
        return replace(
            limits,
            unpacked=min(limits.unpacked, limits.image_unpacked - spent.unpacked),
            members=min(limits.members, limits.image_members - spent.members),
        )

    async def _read(self, project: str, layer: Descriptor, analysis: LayerAnalysis) -> LayerFacts:
        gathered = bytearray()
        try:
            async for piece in (self.images or self.blobs).read(blob_object(project, layer.digest)):
                gathered += piece
                if len(gathered) >= GATHERED:
                    full, gathered = bytes(gathered), bytearray()
                    await self.cpu(lambda full=full: analysis.feed(full))
        except BlobMissing as error:
            raise LayerRefused(f"the layer {layer.digest} is not there") from error
        return await self.cpu(lambda: _finished(analysis, bytes(gathered)))


def _finished(analysis: LayerAnalysis, rest: bytes) -> LayerFacts:
    analysis.feed(rest)
    return analysis.end()


def _laid(layers: Sequence[tuple[str, LayerFacts]]) -> tuple[Inventory, bytes]:
    inventory = inventory_of(layers)
    return inventory, inventory.written()
