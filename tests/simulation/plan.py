# ruff: noqa: S311 - a seeded generator is the point
"""What a seed decides: the changes that the client makes, and the storm that they are made in."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.simulation.network import Odds

CHANGES = 20
LEAST_CRASHES = 3
PROJECTS = ("acme", "demo")
MODEL_REPLICAS = ("registry-0", "registry-1", "scanner-0", "scanner-1", "attestor-0", "attestor-1", "audit_log-0")


@dataclass(frozen=True)
class Change:
    """One thing that the client wants done, and asks for until it is."""

    request: str
    project: str
    tag: str
    digest: str
    """Empty: take the tag away."""


@dataclass(frozen=True)
class Blow:
    """At its k-th step a replica dies, or, with seconds, stands still."""

    replica: str
    step: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Absence:
    """A server cannot be reached for a while."""

    server: str
    at: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """The storm of one seed."""

    blows: tuple[Blow, ...] = ()
    absences: tuple[Absence, ...] = ()
    odds: Odds = field(default_factory=Odds)
    lane_limit: int = 1000
    stream_limit: int = 1000
    wall_jumps: Mapping[str, float] = field(default_factory=dict[str, float])


def changes_of(seed: int) -> list[Change]:
    """The client's changes: two projects, two tags each, pushes and a few removals."""
    draw = random.Random(f"{seed} changes")
    made: list[Change] = []
    for number in range(CHANGES):
        removes = draw.random() < 0.2
        digest = "" if removes else f"sha256:{draw.randrange(8):064x}"
        made.append(Change(f"change-{number}", draw.choice(PROJECTS), draw.choice(("v1", "v2")), digest))
    return made


def storm_of(
    seed: int,
    steps: Mapping[str, int],
    *,
    pauses: int = 2,
    servers: Sequence[str] = ("bus", "state"),
    within: float = 8,
) -> Plan:
    """Blows at steps that the calm run of the same seed took; the replica is drawn first, as most steps are idling.

    `servers` may be away, from some time `within` the first seconds on.
    """
    draw = random.Random(f"{seed} storm")
    replicas = tuple(steps)

    def blow(seconds: float = 0.0) -> Blow:
        replica = draw.choice(replicas)
        return Blow(replica, draw.randint(1, max(1, steps[replica])), seconds)

    crashes = [blow() for _ in range(draw.randint(LEAST_CRASHES, LEAST_CRASHES + 2))]
    stills = [blow(draw.uniform(0.5, 6.0)) for _ in range(draw.randint(0, pauses))]
    absences = [
        Absence(draw.choice(servers), draw.uniform(0, within), draw.uniform(0.3, 4.0))
        for _ in range(draw.randint(0, 2))
    ]
    return Plan(
        blows=(*crashes, *stills),
        absences=tuple(absences),
        odds=Odds(
            lost_request=draw.choice((0.0, 0.01, 0.04)),
            lost_answer=draw.choice((0.0, 0.02, 0.06)),
            late=draw.choice((0.0, 0.2, 0.5)),
            twice=draw.choice((0.0, 0.1, 0.3)),
            lost_wake=draw.choice((0.0, 0.3)),
        ),
        lane_limit=draw.choice((4, 1000, 1000)),
        stream_limit=draw.choice((3, 1000, 1000)),
        wall_jumps={replica: draw.choice((0.0, 0.0, -3600.0, 7200.0)) for replica in replicas},
    )
