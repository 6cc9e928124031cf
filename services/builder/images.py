"""Step images on this worker: pulled once, unpacked once, found by digest."""

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from services.builder.errors import ImageUnavailable, LayerRefused
from services.builder.references import Reference
from services.builder.registry import RegistryClient
from shared.clock import Ids
from shared.digest import Digest

MAX_UNPACKED = 16 * 1024**3
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class StepImage:
    """An image that is ready to run."""

    reference: str
    digest: Digest
    root: Path
    environment: tuple[str, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    directory: str


class ImageStore:
    """A folder of unpacked images. Two steps that want the same image wait for one pull."""

    def __init__(self, folder: Path, registry: RegistryClient, ids: Ids) -> None:
        """`folder` belongs to this worker alone."""
        self._folder = folder
        self._registry = registry
        self._ids = ids
        self._pulling: dict[str, asyncio.Lock] = {}

    async def ready(self, reference: Reference, project: str) -> StepImage:
        """The image, pulled if need be, for a build of a project. Raises ImageUnavailable or LayerRefused.

        Whether that project may have it is asked of the registry each time, also for what was unpacked before.
        """
        registry = self._registry.within(project)
        digest, manifest = await registry.manifest(reference)
        async with self._pulling.setdefault(digest, asyncio.Lock()):
            home = self._folder / digest.hex
            if not await asyncio.to_thread((home / "config.json").exists):
                await self._pull(registry, reference, manifest, home)
        return _step_image(reference, digest, home)

    async def _pull(self, registry: RegistryClient, reference: Reference, manifest: dict[str, Any], home: Path) -> None:
        """Unpack beside, then rename: a folder with that name is whole."""
        fresh = self._folder / f"{self._ids.new()}.partial"
        await asyncio.to_thread((fresh / "root").mkdir, parents=True)
        try:
            for layer in manifest["layers"]:
                await _add_layer(registry, reference, Digest.parse(str(layer["digest"])), fresh)
            config = await registry.blob(reference, Digest.parse(str(manifest["config"]["digest"])))
            await asyncio.to_thread((fresh / "config.json").write_bytes, config)
            await asyncio.to_thread(fresh.rename, home)
        except (KeyError, TypeError, ValueError) as malformed:
            raise ImageUnavailable(f"{reference}: the manifest is not an image's: {malformed}") from None
        finally:
            await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)


async def _add_layer(registry: RegistryClient, reference: Reference, digest: Digest, fresh: Path) -> None:
    packed = fresh / "layer"
    await registry.download(reference, digest, packed)
    complaint = await unpack_into(packed, fresh / "root")
    if complaint:
        raise LayerRefused(f"{reference}, layer {digest}: {complaint}")
    await asyncio.to_thread(packed.unlink)


async def unpack_into(layer: Path, root: Path) -> str:
    """Unpack a layer in a process of its own; returns why it was refused, or nothing."""
    user = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    with layer.open("rb") as content:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", *user),
            *(sys.executable, "-m", "services.builder.unpack", str(root), str(MAX_UNPACKED)),
            stdin=content,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        _, said = await process.communicate()
    return said.decode(errors="replace").strip()[-500:] if process.returncode else ""


class _Config(BaseModel):
    """What an image's configuration says about running it; OCI image specification, config."""

    environment: list[str] | None = Field(default=None, alias="Env")
    entrypoint: list[str] | None = Field(default=None, alias="Entrypoint")
    command: list[str] | None = Field(default=None, alias="Cmd")
    directory: str | None = Field(default=None, alias="WorkingDir")


class _Image(BaseModel):
    config: _Config | None = None


def _step_image(reference: Reference, digest: Digest, home: Path) -> StepImage:
    try:
        config = _Image.model_validate_json((home / "config.json").read_bytes()).config or _Config()
    except ValidationError:
        raise ImageUnavailable(f"{reference}: the image's configuration is damaged") from None
    return StepImage(
        reference=str(reference),
        digest=digest,
        root=home / "root",
        environment=tuple(config.environment or (DEFAULT_PATH,)),
        entrypoint=tuple(config.entrypoint or ()),
        command=tuple(config.command or ()),
        directory=config.directory or "/",
    )
