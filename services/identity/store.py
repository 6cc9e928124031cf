"""What identity remembers: one record per thing, changed only together with what is said about it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import BaseModel

from services.identity.accounts import Account
from services.identity.custom_roles import CustomRole
from services.identity.groups import Group
from services.identity.perimeters import AccessPolicy
from services.identity.projects import Project
from shared.events import Cause, Event, Fact
from shared.identity.directory import Directory
from shared.names import partition_of
from shared.outbox import Outbox
from shared.state import Check, Drop, DropField, FieldIs, Keys, Moved, Put, PutField, State, Step, ValueIs, Write

ORGANIZATION: Final = ""
"""Where things lie that belong to no project, as a project's name."""

_ATTEMPTS: Final = 5

R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A record as it was read: what is written over it must find it so still."""

    stored: str | None


@dataclass(frozen=True)
class Change:
    """One atomic change in one project."""

    project: str
    request: str
    """The same for every attempt at the same change."""
    checks: tuple[Check, ...]
    writes: tuple[Write, ...]
    events: tuple[Event, ...]


class Store:
    """Identity's records. What belongs to a project lies in its partition."""

    def __init__(self, state: State, keys: Keys, outbox: Outbox, directory: Directory) -> None:
        """`directory` learns what this replica changes at once."""
        self.state = state
        self.keys = keys
        self._outbox = outbox
        self._directory = directory

    async def apply(self, change: Change, cause: Cause) -> None:
        """Make a change and say so, in one step. Raises Moved."""
        step = Step(
            partition=partition_of(change.project),
            request=change.request,
            checks=change.checks,
            writes=change.writes,
            drafts=self._outbox.drafts(change.events, cause),
            counter=counter_of(change.project),
        )
        done = await self.state.apply(step)
        for event in change.events:
            if isinstance(event, Fact) and not done.again:
                self._directory.learn(event, done.generation)

    async def settled(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do `attempt`, which reads, decides and applies, again while others are faster. Raises Moved in the end."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return await attempt()
            except Moved:
                continue
        return await attempt()

    # Projects.

    async def project(self, project: str) -> tuple[Project | None, Found]:
        """A project's record."""
        stored = await self.state.value(self.keys.of(project, "project"))
        return (Project.model_validate_json(stored) if stored else None), Found(stored)

    def project_is(self, project: str, found: Found) -> Check:
        """That nobody changed the project since."""
        return ValueIs(self.keys.of(project, "project"), found.stored)

    def keep_project(self, project: Project) -> Write:
        """Write a project."""
        return Put(self.keys.of(project.id, "project"), project.model_dump_json())

    # Accounts: one hash per project.

    async def account(self, project: str, email: str) -> tuple[Account | None, Found]:
        """An account's record."""
        return await self._field(project, "accounts", email, Account)

    async def accounts(self, project: str) -> list[Account]:
        """All accounts of a project, by address."""
        return await self._fields(project, "accounts", Account)

    def account_is(self, project: str, email: str, found: Found) -> Check:
        """That nobody changed the account since."""
        return FieldIs(self.keys.of(project, "accounts"), email, found.stored)

    def keep_account(self, account: Account) -> Write:
        """Write an account."""
        return PutField(self.keys.of(account.project, "accounts"), account.email, account.model_dump_json())

    def drop_account(self, account: Account) -> Write:
        """Forget an account."""
        return DropField(self.keys.of(account.project, "accounts"), account.email)

    # Groups and custom roles.

    async def group(self, email: str) -> tuple[Group | None, Found]:
        """A group's record."""
        return await self._field(ORGANIZATION, "groups", email, Group)

    async def groups(self) -> list[Group]:
        """All groups, by address."""
        return await self._fields(ORGANIZATION, "groups", Group)

    def group_is(self, email: str, found: Found) -> Check:
        """That nobody changed the group since."""
        return FieldIs(self.keys.of(ORGANIZATION, "groups"), email, found.stored)

    def keep_group(self, group: Group) -> Write:
        """Write a group."""
        return PutField(self.keys.of(ORGANIZATION, "groups"), group.email, group.model_dump_json())

    def drop_group(self, email: str) -> Write:
        """Forget a group."""
        return DropField(self.keys.of(ORGANIZATION, "groups"), email)

    async def role(self, project: str, name: str) -> tuple[CustomRole | None, Found]:
        """A custom role's record, by its full name."""
        return await self._field(project, "roles", name, CustomRole)

    async def roles(self, project: str) -> list[CustomRole]:
        """All custom roles of a project or, without one, of the organisation."""
        return await self._fields(project, "roles", CustomRole)

    def role_is(self, project: str, name: str, found: Found) -> Check:
        """That nobody changed the role since."""
        return FieldIs(self.keys.of(project, "roles"), name, found.stored)

    def keep_role(self, role: CustomRole) -> Write:
        """Write a custom role."""
        return PutField(self.keys.of(role.project, "roles"), role.name, role.model_dump_json())

    def drop_role(self, role: CustomRole) -> Write:
        """Forget a custom role."""
        return DropField(self.keys.of(role.project, "roles"), role.name)

    # The access policy, with all levels and perimeters.

    async def access_policy(self) -> tuple[AccessPolicy, Found]:
        """The organisation's; an empty one before there is any."""
        stored = await self.state.value(self.keys.of(ORGANIZATION, "perimeters"))
        return (AccessPolicy.model_validate_json(stored) if stored else AccessPolicy()), Found(stored)

    def access_policy_is(self, found: Found) -> Check:
        """That nobody changed it since."""
        return ValueIs(self.keys.of(ORGANIZATION, "perimeters"), found.stored)

    def keep_access_policy(self, policy: AccessPolicy) -> Write:
        """Write it."""
        return Put(self.keys.of(ORGANIZATION, "perimeters"), policy.model_dump_json())

    # Refresh tokens, by the hash of the token; they go by themselves when they have expired.

    async def refresh(self, project: str, token_hash: str) -> str | None:
        """What was stored with a refresh token."""
        return await self.state.value(self.keys.of(project, "refresh", token_hash))

    async def keep_refresh(self, project: str, token_hash: str, content: str, seconds: int) -> None:
        """Store a refresh token. Nothing is said about it: it changes nothing that others decide by."""
        write = Put(self.keys.of(project, "refresh", token_hash), content, seconds)
        await self.state.apply(Step(partition_of(project), f"refresh {token_hash}", writes=(write,)))

    async def drop_refresh(self, project: str, token_hash: str) -> None:
        """Forget a refresh token."""
        write = Drop(self.keys.of(project, "refresh", token_hash))
        await self.state.apply(Step(partition_of(project), f"unrefresh {token_hash}", writes=(write,)))

    async def _field(self, project: str, kind: str, name: str, model: type[R]) -> tuple[R | None, Found]:
        stored = await self.state.field(self.keys.of(project, kind), name)
        return (model.model_validate_json(stored) if stored else None), Found(stored)

    async def _fields(self, project: str, kind: str, model: type[R]) -> list[R]:
        records = await self.state.record(self.keys.of(project, kind))
        return [model.model_validate_json(records[name]) for name in sorted(records)]


def counter_of(project: str) -> str:
    """One generation counter for all that identity says of a project, so that no two facts of it can be confused."""
    return f"facts {project}"
