"""The workshop: whether this replica can run builds, found out at its start, and what it runs them with."""

import asyncio
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import structlog

from services.builder.account import BuildAccount, read_key
from services.builder.errors import NoRuntime
from services.builder.images import Budget, ImageStore
from services.builder.reach import Reach
from services.builder.registry import RegistryClient
from services.builder.runner import Worker
from services.builder.sandbox import Limits, Users
from services.builder.sandbox.cgroups import Cgroups
from services.builder.sandbox.network import Networks
from services.builder.sandbox.probe import find_sandbox, require_programs
from services.builder.settings import Settings
from services.builder.store import Builds
from services.builder.web import Web
from shared.blobs import Blobs
from shared.clock import Clock, Ids
from shared.journal import Journal

log = structlog.get_logger()

_CONFINED = (
    ". It runs in a container, and engines confine these too much for builds: run a builder on the machine itself "
    "(docs/operate/compose.md, Builds), or give the container what docs/services/builder.md lists"
)
_MARKS = (".dockerenv", "run/.containerenv", "var/run/secrets/kubernetes.io")
_TIMES = aiohttp.ClientTimeout(total=None, connect=10, sock_read=60)


@dataclass(frozen=True)
class Tools:
    """What a worker is made of, from the service's parts."""

    name: str
    folder: Path
    address: str
    builds: Builds
    blobs: Blobs
    journal: Journal
    clock: Clock
    ids: Ids


@dataclass
class Workshop:
    """Opened at the start of the process; until then, and without a runtime, no build is taken."""

    settings: Settings
    tools: Tools
    worker: Worker | None = None
    refusal: str = "the builder is still starting"
    """Why no build can run here; empty where one can."""
    _web: Web | None = field(default=None, init=False)
    _users: Users | None = field(default=None, init=False)

    async def open(self) -> None:
        """Look for a runtime and make the worker. Never fails: what is missing is said to whoever wants a build."""
        try:
            self.worker = await self._worker()
            self.refusal = ""
            log.info("builds can run", runtime=self.worker.sandbox.runtime)
        except NoRuntime as missing:
            self.refusal = refusal(str(missing), confined=await asyncio.to_thread(in_a_container))
            log.warning("builds cannot run", reason=self.refusal)

    async def close(self) -> None:
        """Let the connections, the control groups and the user namespace go."""
        if self.worker is not None:
            Cgroups.remove(self.worker.sandbox.cgroups.places)
        if self._web is not None:
            await self._web.close()
        if self._users is not None:
            self._users.close()

    async def _worker(self) -> Worker:
        settings, tools = self.settings, self.tools
        require_programs()
        reach = Reach.parse(settings.reach)
        users = self._users = await Users.open(settings.ids)
        await asyncio.to_thread(_emptied, tools.folder, users)
        cgroups = await asyncio.to_thread(Cgroups.open, _group(tools.folder))
        sandbox = await find_sandbox(tools.folder / "probe", users, cgroups, settings.runtimes.split(","))
        networks = await Networks.open(users, reach, outward=settings.network == "internet")
        for reason in filter(None, (cgroups.refusal, networks.refusal)):
            log.warning("steps run with less than was asked for", reason=reason)
        web = self._web = Web.open(reach, _TIMES)
        key = None if settings.key_file is None else await asyncio.to_thread(read_key, settings.key_file)
        account = None if key is None else BuildAccount(key, tools.clock, web.inside)
        registry = RegistryClient(web, settings.registry, account)
        budget = Budget(settings.image_bytes, settings.images)
        return Worker(
            name=tools.name,
            folder=tools.folder,
            builds=tools.builds,
            blobs=tools.blobs,
            journal=tools.journal,
            clock=tools.clock,
            sandbox=sandbox,
            networks=networks,
            images=ImageStore(_images(tools.folder, users), registry, tools.ids, users, budget),
            pulls=registry,
            account=account,
            registry=settings.registry,
            address=tools.address,
            limits=limits_of(settings, cgroups),
        )


def refusal(missing: str, *, confined: bool) -> str:
    """Why no build can run here and what to do, in words for whoever wants a build."""
    return f"No build runs on this builder: {missing}{_CONFINED if confined else ''}"


def in_a_container(root: Path = Path("/")) -> bool:
    """Whether an engine's marks are there."""
    return any((root / mark).exists() for mark in _MARKS)


def limits_of(settings: Settings, cgroups: Cgroups) -> Limits:
    """What a step may use. Raises NoRuntime where the operator wants a limit that cannot be set here."""
    if not cgroups.places and (settings.memory or settings.processors):
        raise NoRuntime(f"a limit of memory or processors is set, but {cgroups.refusal}")
    memory = settings.memory
    if memory is None:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return Limits(memory, settings.processes, settings.processors)


def _group(folder: Path) -> str:
    """Unlike that of any other worker on this machine."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def _images(folder: Path, users: Users) -> Path:
    """Unpacked images belong to whom the user namespace's root is."""
    return folder / "images" / str(users.owner)


def _emptied(folder: Path, users: Users) -> None:
    """Clear what an earlier process of this replica left half done; whole unpacked images stay."""
    for leftover in (folder / "builds", folder / "probe"):
        users.remove(leftover)
    images = _images(folder, users)
    for name in (folder / "builds", folder / "probe", images):
        name.mkdir(parents=True, exist_ok=True, mode=0o700)
    for other in (folder / "images").iterdir():
        if other != images:
            users.remove(other)
    for partial in images.glob("*.partial"):
        users.remove(partial)
