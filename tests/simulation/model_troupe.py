"""The models as a troupe: a client that pushes and untags, two tags in each of two projects."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tests.simulation.loop import STEPS
from tests.simulation.model import MODELS, Attestor, Model, Node, Registry
from tests.simulation.plan import MODEL_REPLICAS, Change
from tests.simulation.world import Faces, Replica, World


class Models:
    """Plays one set of changes."""

    replicas: Sequence[str] = MODEL_REPLICAS
    most_steps = STEPS

    def __init__(self, changes: Sequence[Change]) -> None:
        self._changes = changes

    def boot(self, world: World, replica: Replica, faces: Faces) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """A model hears what it registers for, and has no loops."""
        node = Node(replica.service, faces.clock, world.ids, faces.state, faces.bus, faces.blobs, faces.journal)
        replica.part = world.fault.model(MODELS[replica.service])(node)
        return ()

    async def play(self, world: World) -> None:
        """What is done to one tag is done in order, so the end is the same whatever happened on the way."""
        lines = [[change for change in self._changes if change.tag == tag] for tag in ("v1", "v2")]
        await asyncio.gather(*(self._make(world, line) for line in lines))

    async def _make(self, world: World, changes: Sequence[Change]) -> None:
        for change in changes:
            await world.insist("registry", lambda model, change=change: _asked(model, change))
            world.counts["changes"] += 1
            if world.draw.random() < 0.2:
                await world.insist("attestor", lambda model, change=change: _decision(model, change))
                world.witness.decided(change.request)

    def rests(self, world: World) -> bool:
        """The world knows of all that models do."""
        del world
        return True

    async def judge(self, world: World) -> None:
        """Runs of models are compared with a calm one."""


async def _asked(model: Model, change: Change) -> None:
    assert isinstance(model, Registry)
    if change.digest:
        await model.push(change.request, change.project, change.tag, change.digest)
    else:
        await model.untag(change.request, change.project, change.tag)


async def _decision(model: Model, change: Change) -> None:
    assert isinstance(model, Attestor)
    await model.admit(change.request, change.project)
