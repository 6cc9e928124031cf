"""Doing something: who does it, how it is written down, and the one way in which it becomes an atomic step."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.registry.layout import counter
from shared.clock import Clock
from shared.events import Cause, Event
from shared.http.errors import Aborted
from shared.names import partition_of
from shared.outbox import Outbox
from shared.state import Check, Done, Moved, State, Step, Write

ATTEMPTS = 24
"""How often a step is decided anew when others are faster: more than there are racing pushers in any sane build."""


@dataclass(frozen=True)
class Deed:
    """What was done, for the audit entry."""

    method: str
    """Such as `Docker-PutManifest`."""
    resource: str
    permission: str
    request: dict[str, Any] = field(default_factory=dict[str, Any])


Witness = Callable[[Deed], Sequence[Event]]
"""Writes the audit entry of a deed, which then goes into the step of the deed."""


@dataclass(frozen=True)
class Act:
    """Why something is done, and who writes it down."""

    cause: Cause
    witness: Witness
    key: str = ""
    """Tells apart the steps that one cause makes."""

    def part(self, name: str) -> "Act":
        """One of several steps of the same cause."""
        return Act(self.cause, self.witness, f"{self.key}/{name}")


@dataclass(frozen=True)
class Change:
    """What a step checks, writes and says."""

    project: str
    repository: str
    checks: Sequence[Check]
    writes: Sequence[Write]
    events: Sequence[Event]


@dataclass(frozen=True)
class Beside:
    """What a step checks, writes and says beside what it is made for."""

    checks: Sequence[Check] = ()
    writes: Sequence[Write] = ()
    events: Sequence[Event] = ()


NOTHING = Beside()


@dataclass(frozen=True)
class Steps:
    """Makes changes into atomic steps of the registry's state."""

    state: State
    outbox: Outbox
    clock: Clock

    async def make(self, act: Act, decide: Callable[[], Awaitable[Change | None]]) -> Done | None:
        """Apply what `decide` says, deciding anew when somebody was faster; None when there is nothing to do.

        Raises Aborted when others are always faster, and whatever `decide` raises.
        """
        for attempt in range(ATTEMPTS):
            change = await decide()
            if change is None:
                return None
            try:
                return await self.state.apply(self._step(act, change))
            except Moved:
                await self.clock.sleep(min(0.002 * attempt, 0.02))
        raise Aborted("others keep changing this at the same time; try again")

    def _step(self, act: Act, change: Change) -> Step:
        # The part belongs into the cause of the ids, or two steps of one cause would say their events under one id.
        cause = Cause(f"{act.cause.id}{act.key}", act.cause.actor, act.cause.traceparent)
        return Step(
            partition=partition_of(change.project),
            request=cause.id,
            checks=tuple(change.checks),
            writes=tuple(change.writes),
            drafts=self.outbox.drafts(change.events, cause),
            counter=counter(change.project, change.repository),
        )
