# ruff: noqa: S311 - a seeded generator is the point
"""What the client of the real services wants done, drawn from a seed."""

import random
from dataclasses import dataclass
from typing import Literal

from tests.simulation.goods import IMAGES

PROJECTS = ("acme", "demo")
TAGS = ("v1", "v2", "v3")
SETUP = ("repository", "advisories", "attestor", "policy")
AFTER_THAT = 8
"""Intents in each project beside the setup."""
CHANGES = len(PROJECTS) * (len(SETUP) + AFTER_THAT)

Kind = Literal["repository", "advisories", "attestor", "policy", "push", "untag", "delete"]


@dataclass(frozen=True)
class Intent:
    """One thing that the client wants done in a project, and asks for until it is."""

    kind: Kind
    project: str
    tag: str = ""
    image: int = 0
    """For advisories: the edition."""
    attestor: str = ""
    chunked: bool = False
    look: bool = False
    """Pull and ask for admission afterwards."""


def intents_of(seed: int) -> list[Intent]:
    """Setup first, then pushes, moves of tags, removals, and in one of two projects what changes the judgement."""
    draw = random.Random(f"{seed} intents")
    made: list[Intent] = []
    for project in PROJECTS:
        made += [
            Intent("repository", project),
            Intent("advisories", project, image=1),
            Intent("attestor", project, attestor="quality"),
            Intent("policy", project),
        ]
        rest = [_drawn(draw, project) for _ in range(AFTER_THAT)]
        if draw.random() < 0.5:
            rest[draw.randrange(2, AFTER_THAT)] = Intent("advisories", project, image=2)
        if draw.random() < 0.4:
            rest[draw.randrange(2, AFTER_THAT)] = Intent("attestor", project, attestor="presence")
        made += rest
    return made


def _drawn(draw: random.Random, project: str) -> Intent:
    kind: Kind = draw.choices(("push", "untag", "delete"), (7, 2, 2))[0]
    tag, number = draw.choice(TAGS), draw.randrange(IMAGES)
    return Intent(kind, project, tag, number, chunked=draw.random() < 0.3, look=draw.random() < 0.3)
