"""Reads the layers of images from the bucket, each once for all images that have it."""

from collections.abc import Sequence

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


class Reader:
    """Manifests, layers and inventories of images."""

    def __init__(self, blobs: Blobs, cpu: Cpu, limits: Limits) -> None:
        self._blobs = blobs
        self._cpu = cpu
        self._limits = limits

    async def inventories(self, project: str, digest: str) -> list[Inventory]:
        """The inventory of an image; of an index, those of the images it lists.

        Raises BlobMissing when there is no such manifest, LayerRefused, Unsupported, and ValueError for a bad manifest.
        """
        manifest = await self._manifest(project, digest)
        if not manifest.is_index:
            return [await self._inventory(project, digest, manifest)]
        found: list[Inventory] = []
        for one in manifest.images():
            found.append(await self._inventory(project, one.digest, await self._listed(project, one)))
            self._refuse_too_much(sum(len(inventory.installed) for inventory in found))
        return found

    async def _listed(self, project: str, image: Descriptor) -> Manifest:
        try:
            return await self._manifest(project, image.digest)
        except BlobMissing as error:
            raise LayerRefused(f"the index lists {image.digest}, which is not there") from error

    async def _manifest(self, project: str, digest: str) -> Manifest:
        return Manifest.read(await self._blobs.content(manifest_object(project, digest), _MANIFEST_LIMIT))

    async def _inventory(self, project: str, digest: str, manifest: Manifest) -> Inventory:
        await self._require_layers(project, manifest)
        name = inventory_object(digest)
        try:
            stored = await self._blobs.content(name, _FACTS_LIMIT)
            return await self._cpu(lambda: Inventory.read(stored))
        except BlobMissing:
            layers = await self._layers(project, manifest)
        inventory, written = await self._cpu(lambda: _laid(layers))
        await self._blobs.put(name, written)
        return inventory

    async def _require_layers(self, project: str, manifest: Manifest) -> None:
        """What is known of a layer is told only where the layer is: facts are kept once for all projects."""
        for layer in manifest.archives():
            if layer.may_lie_elsewhere:
                try:
                    await self._blobs.stat(blob_object(project, layer.digest))
                except BlobMissing as error:
                    raise LayerRefused(f"the layer {layer.digest} is not there") from error

    async def _layers(self, project: str, manifest: Manifest) -> list[tuple[str, LayerFacts]]:
        found: list[tuple[str, LayerFacts]] = []
        remembered = 0
        for layer in manifest.archives():
            facts = await self._facts(project, layer)
            remembered += facts.remembered
            self._refuse_too_much(remembered)
            found.append((layer.digest, facts))
        return found

    def _refuse_too_much(self, remembered: int) -> None:
        if remembered > self._limits.facts:
            raise LayerRefused(f"the image says more than {self._limits.facts} things about packages")

    async def _facts(self, project: str, layer: Descriptor) -> LayerFacts:
        name = facts_object(layer.digest)
        try:
            stored = await self._blobs.content(name, _FACTS_LIMIT)
            return await self._cpu(lambda: LayerFacts.read(stored))
        except BlobMissing:
            facts = await self._analysed(project, layer)
        await self._blobs.put(name, await self._cpu(facts.written))
        return facts

    async def _analysed(self, project: str, layer: Descriptor) -> LayerFacts:
        analysis = LayerAnalysis(self._limits)
        gathered = bytearray()
        try:
            async for piece in self._blobs.read(blob_object(project, layer.digest)):
                gathered += piece
                if len(gathered) >= GATHERED:
                    full, gathered = bytes(gathered), bytearray()
                    await self._cpu(lambda full=full: analysis.feed(full))
        except BlobMissing as error:
            raise LayerRefused(f"the layer {layer.digest} is not there") from error
        return await self._cpu(lambda: _finished(analysis, bytes(gathered)))


def _finished(analysis: LayerAnalysis, rest: bytes) -> LayerFacts:
    analysis.feed(rest)
    return analysis.end()


def _laid(layers: Sequence[tuple[str, LayerFacts]]) -> tuple[Inventory, bytes]:
    inventory = inventory_of(layers)
    return inventory, inventory.written()
