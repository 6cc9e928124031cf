"""Step images on this worker: pulled once, unpacked once, found by digest, removed when others need the room."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from services.builder.errors import ImageUnavailable, LayerRefused
from services.builder.references import Reference
from services.builder.registry import RegistryClient
from services.builder.sandbox import Users
from services.builder.sandbox.children import last_words
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


@dataclass(frozen=True)
class Budget:
    """How much may stay unpacked. What builds use at this moment stays in any case."""

    size: int = 20 * 1024**3
    """Bytes."""
    count: int = 200


@dataclass
class _Use:
    """An image that somebody waits for or runs."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class ImageStore:
    """A folder of unpacked images. Two steps that want the same image wait for one pull.

    Beside an image lies a file with its size, whose time says when it was used last. What goes is renamed first, so
    that a folder which has an image's name is whole, whenever the worker is killed.
    """

    def __init__(
        self, folder: Path, registry: RegistryClient, ids: Ids, users: Users, budget: Budget | None = None
    ) -> None:
        """`folder` belongs to this worker alone."""
        self._folder = folder
        self._registry = registry
        self._ids = ids
        self._users = users
        self._budget = budget or Budget()
        self._uses: dict[str, _Use] = {}
        self._clearing = asyncio.Lock()

    @property
    def in_use(self) -> int:
        """How many images somebody waits for or runs."""
        return len(self._uses)

    @asynccontextmanager
    async def use(self, reference: Reference, project: str) -> AsyncGenerator[StepImage]:
        """The image, pulled if need be, for a build of a project. Raises ImageUnavailable or LayerRefused.

        Whether that project may have it is asked of the registry each time, also for what was unpacked before.
        """
        registry = self._registry.within(project)
        digest, manifest = await registry.manifest(reference)
        name = digest.hex
        use = self._uses.setdefault(name, _Use())
        use.users += 1
        try:
            home = self._folder / name
            async with use.lock:
                if not await asyncio.to_thread((home / "config.json").exists):
                    await self._pull(registry, reference, manifest, home)
            await asyncio.to_thread(os.utime, home / "size")
            await self.clear()
            yield await asyncio.to_thread(_step_image, reference, digest, home)
        finally:
            use.users -= 1
            if not use.users:
                del self._uses[name]

    async def clear(self) -> None:
        """Remove the images that were not used for the longest time, until the rest is within the budget."""
        async with self._clearing:
            kept = sorted(await asyncio.to_thread(self._listed))
            size, count = sum(size for _, size, _ in kept), len(kept)
            for _, bytes_of_it, name in kept:
                if size <= self._budget.size and count <= self._budget.count:
                    return
                if name not in self._uses:
                    gone = self._folder / f"{self._ids.new()}.partial"
                    await asyncio.to_thread((self._folder / name).rename, gone)
                    await asyncio.to_thread(self._users.remove, gone)
                    size, count = size - bytes_of_it, count - 1

    def _listed(self) -> list[tuple[float, int, str]]:
        """When each image was last used, how large it is, what it is called."""
        found: list[tuple[float, int, str]] = []
        for home in self._folder.iterdir():
            if not home.name.endswith(".partial"):
                file = home / "size"
                found.append((file.stat().st_mtime, int(file.read_text()), home.name))
        return found

    async def _pull(self, registry: RegistryClient, reference: Reference, manifest: dict[str, Any], home: Path) -> None:
        """Unpack beside, then rename: a folder with that name is whole."""
        fresh = self._folder / f"{self._ids.new()}.partial"
        await asyncio.to_thread((fresh / "root").mkdir, parents=True)
        self._users.give(fresh / "root")
        try:
            for layer in manifest["layers"]:
                await _add_layer(registry, reference, Digest.parse(str(layer["digest"])), fresh, self._users)
            config = await registry.blob(reference, Digest.parse(str(manifest["config"]["digest"])))
            await asyncio.to_thread((fresh / "config.json").write_bytes, config)
            size = await asyncio.to_thread(_size_of, fresh)
            await asyncio.to_thread((fresh / "size").write_text, str(size))
            await asyncio.to_thread(fresh.rename, home)
        except (KeyError, TypeError, ValueError) as malformed:
            raise ImageUnavailable(f"{reference}: the manifest is not an image's: {malformed}") from None
        finally:
            await asyncio.to_thread(self._users.remove, fresh)


def _size_of(folder: Path) -> int:
    """Bytes on the disk of everything in a folder; links are not followed."""
    total, waiting = 0, [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
    return total


async def _add_layer(registry: RegistryClient, reference: Reference, digest: Digest, fresh: Path, users: Users) -> None:
    packed = fresh / "layer"
    await registry.download(reference, digest, packed)
    complaint = await unpack_into(packed, fresh / "root", users)
    if complaint:
        raise LayerRefused(f"{reference}, layer {digest}: {complaint}")
    await asyncio.to_thread(packed.unlink)


async def unpack_into(layer: Path, root: Path, users: Users) -> str:
    """Unpack a layer in a process of its own, which ends with the wish for it; why it was refused, or nothing."""
    before, last = ([], [users.path]) if users.privileged else (users.enter(), [])
    with layer.open("rb") as content:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", *before),
            *(sys.executable, "-m", "services.builder.unpack", str(root), str(MAX_UNPACKED), *last),
            stdin=content,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        said = await last_words(process)
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
