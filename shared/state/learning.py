"""Facts folded into records: each handler reads what is known, and none of them undoes what another one learned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.state.face import Moved, State
from shared.state.questions import FieldOf
from shared.state.step import FieldIs, PutField, Step, Write

TRIES = 16


@dataclass(frozen=True)
class Fold:
    """A field of a hash that a fact changes."""

    key: str
    field: str
    become: Callable[[str | None], str | None]
    """What it holds after the fact, from what it held before; None: as before."""
    beside: tuple[Write, ...] = ()
    """Written with it."""


async def learn(state: State, partition: str, request: str, folds: Sequence[Fold]) -> None:
    """Fold facts in one step, again from the start when somebody else wrote one of the fields meanwhile.

    Raises Moved when that goes on.
    """
    for _ in range(TRIES):
        before = await state.look([FieldOf(fold.key, fold.field) for fold in folds])
        writes: list[Write] = []
        for fold, raw in zip(folds, before, strict=True):
            if (after := fold.become(raw)) is not None:
                writes += PutField(fold.key, fold.field, after), *fold.beside
        if not writes:
            return
        checks = tuple(FieldIs(fold.key, fold.field, raw) for fold, raw in zip(folds, before, strict=True))
        try:
            await state.apply(Step(partition, request, checks, tuple(writes)))
        except Moved:
            continue
        return
    raise Moved
