"""A build's folder on the worker: the workspace that all steps share, volumes, and each step's scratch."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from services.builder.buildfile import BuildRequest, BuildStep
from services.builder.errors import BuildfileInvalid, SourceInvalid
from services.builder.images import unpack_into
from services.builder.sandbox import Mount, Users
from shared.blobs import BlobMissing, Blobs

WORKSPACE = "/workspace"


@dataclass(frozen=True)
class Workspace:
    """The folders of one attempt at one build; everything in it is removed when the attempt ends."""

    folder: Path
    users: Users

    @property
    def shared(self) -> Path:
        """What steps see as /workspace."""
        return self.folder / "workspace"

    def prepare(self) -> None:
        """Make the folders, empty."""
        self.users.remove(self.folder)
        for name in ("workspace", "home", "volumes", "steps"):
            (self.folder / name).mkdir(parents=True, mode=0o700 if name != "workspace" else 0o755)
        self.users.give(self.shared, self.folder / "home")

    def remove(self) -> None:
        """Remove it all."""
        self.users.remove(self.folder)

    def scratch(self, position: int) -> Path:
        """A fresh folder for one step."""
        return self.fresh(str(position))

    def fresh(self, name: str) -> Path:
        """A fresh folder of the worker's. Others may pass through it, within a folder where they may not."""
        made = self.folder / "steps" / name
        made.mkdir()
        made.chmod(0o755)
        return made

    def _volume(self, volume: Path) -> None:
        if not volume.exists():
            volume.mkdir()
            self.users.give(volume)

    def mounts(self, request: BuildRequest, step: BuildStep) -> tuple[Mount, ...]:
        """What a step sees besides its image. Raises BuildfileInvalid when two volumes have one path."""
        volumes = {volume.path: volume.name for volume in (*request.options.volumes, *step.volumes)}
        if len(volumes) < len(request.options.volumes) + len(step.volumes):
            raise BuildfileInvalid("two volumes of a step have the same path")
        for name in volumes.values():
            self._volume(self.folder / "volumes" / name)
        return (
            Mount(self.shared, WORKSPACE),
            Mount(self.folder / "home", "/builder/home"),
            *(Mount(self.folder / "volumes" / name, path) for path, name in volumes.items()),
        )


def directory_of(step: BuildStep) -> str:
    """Where in the container a step begins; Cloud Build's `dir`, relative to /workspace."""
    return step.dir if step.dir.startswith("/") else f"{WORKSPACE}/{step.dir}".rstrip("/")


def source_object(project: str, digest: str) -> str:
    """The object that holds a source archive; a build may only use its own project's."""
    return f"builder/sources/{project}/{digest}"


async def fetch_source(blobs: Blobs, project: str, request: BuildRequest, workspace: Workspace) -> str:
    """Unpack the build's source into the workspace; returns the object's name, or nothing. Raises SourceInvalid."""
    if request.source is None:
        return ""
    name = request.source.storage_source.object
    if name != source_object(project, name.rpartition("/")[2]):
        raise SourceInvalid(f"a source is an object that was uploaded to this project; got {name[:200]!r}")
    archive = workspace.folder / "source"
    try:
        with archive.open("wb") as file:
            async for piece in blobs.read(name):
                file.write(piece)
    except BlobMissing:
        raise SourceInvalid(f"there is no source {name[:200]!r}") from None
    complaint = await unpack_into(archive, workspace.shared, workspace.users)
    await asyncio.to_thread(archive.unlink)
    if complaint:
        raise SourceInvalid(f"the source is not a tar archive that can be unpacked: {complaint}")
    return name
