"""The order of a build's steps: after the previous ones, or after those that `waitFor` names."""

from collections.abc import Sequence

from services.builder.buildfile import BuildStep
from services.builder.errors import BuildfileInvalid

AT_ONCE = "-"
"""In `waitFor`: begin with the build, whatever runs before."""


def predecessors(steps: Sequence[BuildStep]) -> list[frozenset[int]]:
    """For each step the positions of those that must have ended first.

    A step waits only for earlier ones, so there is no circle. Raises BuildfileInvalid for an id that is used twice,
    unknown, or of a later step.
    """
    positions = _positions(steps)
    return [_awaited(position, step, positions) for position, step in enumerate(steps)]


def _positions(steps: Sequence[BuildStep]) -> dict[str, int]:
    positions: dict[str, int] = {}
    for position, step in enumerate(steps):
        if step.id is None:
            continue
        if step.id in positions or step.id == AT_ONCE:
            raise BuildfileInvalid(f"steps.{position}.id: {step.id!r} is used twice or is a reserved word")
        positions[step.id] = position
    return positions


def _awaited(position: int, step: BuildStep, positions: dict[str, int]) -> frozenset[int]:
    if not step.wait_for:
        return frozenset(range(position))
    awaited: set[int] = set()
    for name in step.wait_for:
        if name == AT_ONCE:
            continue
        if positions.get(name, position) >= position:
            raise BuildfileInvalid(f"steps.{position}.waitFor: {name!r} is not the id of an earlier step")
        awaited.add(positions[name])
    return frozenset(awaited)
