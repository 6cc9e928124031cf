"""The workshop: whether this replica can run builds, found out at its start, and what it runs them with."""

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import structlog

from services.builder.account import BuildAccount, KeyFile
from services.builder.errors import NoRuntime
from services.builder.images import ImageStore
from services.builder.registry import RegistryClient
from services.builder.runner import Worker
from services.builder.sandbox.probe import find_sandbox
from services.builder.settings import Settings
from services.builder.steps import Limits
from services.builder.store import Builds
from shared.blobs import Blobs
from shared.clock import Clock, Ids
from shared.journal import Journal

log = structlog.get_logger()

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
    _session: aiohttp.ClientSession | None = field(default=None, init=False)

    async def open(self) -> None:
        """Look for a runtime and make the worker. Never fails: what is missing is said to whoever wants a build."""
        self._session = aiohttp.ClientSession(timeout=_TIMES)
        try:
            self.worker = await self._worker(self._session)
            self.refusal = ""
            log.info("builds can run", runtime=self.worker.sandbox.runtime)
        except NoRuntime as missing:
            self.refusal = str(missing)
            log.warning("builds cannot run", reason=self.refusal)

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()

    async def _worker(self, session: aiohttp.ClientSession) -> Worker:
        settings, tools = self.settings, self.tools
        await asyncio.to_thread(_emptied, tools.folder)
        sandbox = await find_sandbox(tools.folder / "probe", settings.runtimes.split(","))
        key = None if settings.key_file is None else await asyncio.to_thread(KeyFile.read, settings.key_file)
        account = None if key is None else BuildAccount(key, tools.clock, session)
        registry = RegistryClient(session, settings.registry, account)
        return Worker(
            name=tools.name,
            folder=tools.folder,
            builds=tools.builds,
            blobs=tools.blobs,
            journal=tools.journal,
            clock=tools.clock,
            sandbox=sandbox,
            images=ImageStore(tools.folder / "images", registry, tools.ids),
            account=account,
            registry=settings.registry,
            address=tools.address,
            limits=Limits(settings.memory, settings.processes, settings.network == "host"),
        )


def _emptied(folder: Path) -> None:
    """Clear what an earlier process of this replica left half done; unpacked images stay."""
    for leftover in (folder / "builds", folder / "probe"):
        shutil.rmtree(leftover, ignore_errors=True)
    for name in ("builds", "probe", "images"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    for partial in (folder / "images").glob("*.partial"):
        shutil.rmtree(partial, ignore_errors=True)
