"""The real services as a troupe: each built by its own `build` from faces behind the network, with nothing left out."""

import atexit
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from aiohttp import web_app

from services.attestor.app import build as build_attestor
from services.audit_log.app import build as build_audit_log
from services.cleanup.app import build as build_cleanup
from services.registry.app import build as build_registry
from services.scanner.app import build as build_scanner
from shared.bus import Message
from shared.events import Cause, Event, draft
from shared.events.states import Binding, PolicyState, ProjectState, RoleState
from shared.http.health import READY, Readiness
from shared.http.middleware import STRICT
from shared.identity.directory import Directory
from shared.outbox import Outbox
from shared.parts import Build, Parts
from shared.settings import Settings
from shared.state.keys import Keys
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Unexported
from tests.simulation.client import CLIENT, PROJECTS, Client
from tests.simulation.intents import Intent
from tests.simulation.oracle import Oracle
from tests.simulation.world import Faces, Replica, World
from tests.support.clock import at_once
from tests.support.parts import Tokens

BUILDS: Final[Mapping[str, Build]] = {
    "registry": build_registry,
    "scanner": build_scanner,
    "attestor": build_attestor,
    "cleanup": build_cleanup,
    "audit_log": build_audit_log,
}
REPLICAS: Final = ("registry-0", "registry-1", "scanner-0", "scanner-1", "attestor-0", "attestor-1", "cleanup-0",
                   "cleanup-1", "audit_log-0", "audit_log-1")  # fmt: skip
SERVERS: Final = ("bus", "state", "bucket")
MOST_STEPS: Final = 160_000
"""What failed five times in the storm comes again after ten minutes, and idling takes 150 steps a second."""
WITHIN: Final = 40.0
"""Virtual seconds in which most changes are made."""
PERMISSIONS: Final = (
    *(f"artifactregistry.repositories.{verb}Artifacts" for verb in ("download", "upload", "delete")),
    *(f"artifactregistry.repositories.{verb}" for verb in ("create", "get", "update")),
    *(f"binaryauthorization.attestors.{verb}" for verb in ("create", "get", "update")),
    *(f"binaryauthorization.policy.{verb}" for verb in ("get", "update", "evaluatePolicy")),
    "containeranalysis.notes.create",
)
READS_AUDITED: Final = ({"service": "allServices", "auditLogConfigs": [{"logType": "DATA_READ"}]},)


class House:
    """Plays one set of intents on all services."""

    replicas: Sequence[str] = REPLICAS
    most_steps = MOST_STEPS

    def __init__(self, intents: Sequence[Intent]) -> None:
        self._intents = intents
        self._clients: dict[int, Client] = {}

    def boot(self, world: World, replica: Replica, faces: Faces) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """Build the service as a process would."""
        if not world.witness.given:
            world.witness.given = _tell_facts(world)
        directory = Directory(faces.clock.now)
        directory.follow(faces.bus)
        built = BUILDS[replica.service](_parts(world, replica, faces, directory))
        assert not built.on_start
        views = faces.bus._views
        built.app[READY] = Readiness(list[str], lambda: all(view.caught_up for view in views))
        built.app[STRICT] = True
        built.app.freeze()
        replica.part = built.app
        return built.background

    async def play(self, world: World) -> None:
        """Let the client do all that it wants done."""
        self._client = Client(world)
        await self._client.make(self._intents)

    def rests(self, world: World) -> bool:
        """Cleanup comes round now and then: what it will take must be gone, and what is due looked at."""
        return Oracle(world, self._client).rests()

    async def judge(self, world: World) -> None:
        """Everything is as the acknowledged changes say."""
        await Oracle(world, self._client).judge()


def leave() -> None:
    """Let go of the applications, which aiohttp would keep for ever, and each of them its whole world."""
    web_app._cached_build_middleware.cache_clear()


def _parts(world: World, replica: Replica, faces: Faces, directory: Directory) -> Parts:
    service = replica.service
    return Parts(
        service=service,
        settings=Settings(),
        environment=_environment(),
        clock=faces.clock,
        ids=world.ids,
        cpu=at_once,
        state=faces.state,
        keys=Keys(service),
        bus=faces.bus,
        blobs=faces.blobs,
        outbox=Outbox(service, faces.clock),
        journal=faces.journal,
        directory=directory,
        verifier=Tokens(),
        metrics=Metrics(service),
        traces=Unexported(world.ids),
    )


@cache
def _environment() -> Mapping[str, str]:
    """Loops come round often enough for a run of a virtual minute; keys are the same after a restart."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    master, uploads = folder / "master", folder / "uploads"
    for file in (master, uploads):
        file.touch(mode=0o600)
        file.write_text("5e" * 32)
    return {
        "ENTREPOT_REGISTRY_UPLOAD_KEY_FILE": str(uploads),
        "ENTREPOT_REGISTRY_COLLECT_AFTER_SECONDS": "10",
        "ENTREPOT_REGISTRY_COLLECT_EVERY_SECONDS": "15",
        "ENTREPOT_REGISTRY_COLLECT_MARK_SECONDS": "60",
        "ENTREPOT_REGISTRY_SEARCH_EVERY_SECONDS": "45",
        "ENTREPOT_ATTESTOR_MASTER_KEY_FILE": str(master),
        "ENTREPOT_ATTESTOR_LOOK_AGAIN_SECONDS": "15",
        "ENTREPOT_SCANNER_CLEAR_SECONDS": "15",
        "ENTREPOT_SCANNER_CLEAR_UNUSED_SECONDS": "30",
        "ENTREPOT_CLEANUP_INTERVAL_SECONDS": "15",
        "ENTREPOT_CLEANUP_CHECK_SECONDS": "5",
    }


def _tell_facts(world: World) -> int:
    """What identity would have said before."""
    role = "roles/everything"
    facts: list[Event] = [RoleState(project="", role=role, permissions=PERMISSIONS)]
    for number, project in enumerate(PROJECTS, 1):
        facts.append(ProjectState(project=project, number=number))
        bindings = (Binding(role=role, members=(CLIENT,)),)
        name = f"projects/{project}"
        facts.append(PolicyState(project=project, full_name=name, bindings=bindings, audit_configs=READS_AUDITED))
    for position, fact in enumerate(facts):
        drafted = draft(fact, producer="identity", cause=Cause("first"), position=position, time="2026-01-01T00:00:00Z")
        world.broker.publish([Message(drafted.id, drafted.subject, drafted.finished(position, 1))])
    return len(facts)
