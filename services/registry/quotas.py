"""How many bytes a repository and a project may hold, and refusing what would be too many.

Asked before bytes are taken, so that nobody uploads in vain; and checked once more by the step that counts them, so
that what is acknowledged never exceeds a quota, however many upload at once. Nothing is counted before that step.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from services.registry.errors import QuotaExceeded
from services.registry.layout import ALL
from services.registry.ledger import UNLIMITED, Limits
from services.registry.nearing import Nearing
from services.registry.records import Settings
from services.registry.store import Store
from shared.clock import Clock
from shared.identity.directory import Directory
from shared.state import DropField, PutField, Write

LABEL = "entrepot-quota-bytes"
"""Of a repository, and of a project where it is for all repositories together; `none` lifts the default."""
REMEMBERED_SECONDS = 10.0
"""A quota that is changed is kept to within this time."""
NEARLY = 0.9
_MOST = 4096
_LONGEST = 15
NO_QUOTA = "none"


def check_quota(value: str) -> None:
    """Raise ValueError for a label that is no quota."""
    if value != NO_QUOTA and not (value.isdecimal() and value.isascii() and len(value) <= _LONGEST):
        raise ValueError(f"the label {LABEL} is a number of bytes of at most {_LONGEST} digits, or {NO_QUOTA}")


def quota_beside(key: str, settings: Settings) -> Write:
    """A repository's quota beside its settings, where every push reads it."""
    quota = settings.labels.get(LABEL)
    return DropField(key, "quota") if quota is None else PutField(key, "quota", quota)


def _limit(text: str | None, default: int | None) -> int | None:
    """What a label says; one that makes no sense, where nobody could refuse it, says nothing."""
    if text is None:
        return default
    try:
        check_quota(text)
    except ValueError:
        return default
    return None if text == NO_QUOTA else int(text)


@dataclass
class Seen:
    """What is told of quotas as numbers."""

    refused: int = 0
    used: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict[tuple[str, str], float])
    """Which part of its quota, the one of the project included, a repository had used when it was last asked."""


@dataclass(frozen=True)
class Quotas:
    """Knows them, and refuses what exceeds them."""

    store: Store
    directory: Directory
    clock: Clock
    defaults: Limits
    nearing: Nearing
    seen: Seen = field(default_factory=Seen)
    kept: OrderedDict[tuple[str, str], tuple[float, int | None]] = field(
        default_factory=OrderedDict[tuple[str, str], tuple[float, int | None]]
    )

    async def of(self, project: str, repository: str) -> Limits:
        """The limits that are kept to at the moment."""
        known = self.kept.get((project, repository))
        if known is None or known[0] < self.clock.monotonic():
            key = self.store.layout.repository(project, repository)
            return self.learn(project, repository, await self.store.state.field(key, "quota"))
        return self._limits(project, known[1])

    def learn(self, project: str, repository: str, text: str | None) -> Limits:
        """Take note of what state says of a repository."""
        limit = _limit(text, self.defaults.repository)
        self.kept[project, repository] = (self.clock.monotonic() + REMEMBERED_SECONDS, limit)
        while len(self.kept) > _MOST:
            self.kept.popitem(last=False)
        return self._limits(project, limit)

    async def room(self, project: str, repository: str) -> int | None:
        """How many bytes more there is room for; None: no quota."""
        limits = await self.of(project, repository)
        if not limits.any:
            return None
        used = await self._used(project, repository)
        pairs = list(zip((limits.repository, limits.project), used, strict=True))
        self.seen.used[project, repository] = max(found / max(limit, 1) for limit, found in pairs if limit is not None)
        while len(self.seen.used) > _MOST:
            self.seen.used.popitem(last=False)
        return min(limit - found for limit, found in pairs if limit is not None)

    def nearly_full(self) -> int:
        """How many repositories, of those asked for lately, have used nine tenths of a quota."""
        return sum(used >= NEARLY for used in self.seen.used.values())

    async def require(self, project: str, repository: str, size: int, digest: str = "") -> None:
        """Raise QuotaExceeded where there is no room for so many bytes; a blob that is held already needs none."""
        room = await self.room(project, repository)
        if room is None or size <= max(room, 0):
            return
        if digest and await self.store.blob_size(project, repository, digest) is not None:
            return
        raise await self.exceeded(project, repository, size)

    async def exceeded(self, project: str, repository: str, size: int) -> QuotaExceeded:
        """The sentence that tells why not."""
        self.seen.refused += 1
        limits = await self.of(project, repository)
        used = await self._used(project, repository)
        full = limits.repository is not None and used[0] + size > limits.repository
        what = f"the repository {project}/{repository}" if full else f"the project {project}"
        limit, held = (limits.repository, used[0]) if full else (limits.project, used[1])
        return QuotaExceeded(
            f"the quota is exceeded: {what} holds {held} of {limit} bytes, {size} more do not fit; "
            "delete what is not needed, or ask for a larger quota"
        )

    async def _used(self, project: str, repository: str) -> tuple[int, int]:
        found = await self.store.state.fields(self.store.layout.sizes(project), (repository, ALL))
        return int(found[0] or "0"), int(found[1] or "0")

    def _limits(self, project: str, limit: int | None) -> Limits:
        fact = self.directory.project(project)
        whole = _limit(fact.labels.get(LABEL) if fact else None, self.defaults.project)
        return Limits(limit, whole) if limit is not None or whole is not None else UNLIMITED
