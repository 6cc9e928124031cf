"""Which objects of the bucket records stand on, so that the others can be cleared.

A name that was cleared once is taken by no step any more: whoever chose it meanwhile begins again.
"""

from dataclasses import dataclass

from shared.names import partition_of
from shared.state import Check, Index, IsEmpty, Keys, Put, State, Step, Unindex, ValueIs, Write

TOMBSTONE_SECONDS = 40 * 86_400
"""Longer than events are kept, and than any step takes."""


@dataclass(frozen=True)
class Objects:
    """The objects of one project are said and retired in its partition."""

    state: State
    keys: Keys

    async def is_used(self, project: str, name: str) -> bool:
        """Whether a record stands on an object."""
        return await self.state.size(self._users(project, name)) > 0

    async def is_retired(self, project: str, name: str) -> bool:
        """Whether an object was, or is about to be, cleared."""
        return await self.state.value(self._retired(project, name)) is not None

    async def retire(self, project: str, name: str, request: str) -> None:
        """From now on nothing can come to stand on an object. Raises Moved where something does."""
        marked = Put(self._retired(project, name), "1", TOMBSTONE_SECONDS)
        await self.state.apply(Step(partition_of(project), request, (IsEmpty(self._users(project, name)),), (marked,)))

    def instead(self, project: str, old: str, new: str, user: str) -> list[Write]:
        """What makes `user` stand on one object instead of another; empty names are none."""
        dropped: list[Write] = [Unindex(self._users(project, old), user)] if old and old != new else []
        return dropped + ([Index(self._users(project, new), user)] if new and old != new else [])

    def last(self, project: str, *names: str) -> list[Check]:
        """That these objects are not cleared: for the step that comes to stand on them."""
        return [ValueIs(self._retired(project, name), None) for name in names if name]

    def _users(self, project: str, name: str) -> str:
        return self.keys.of(project, "users", name)

    def _retired(self, project: str, name: str) -> str:
        return self.keys.of(project, "retired", name)
