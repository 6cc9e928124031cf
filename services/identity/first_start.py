"""The first start: roles, the organisation, one project, one administrator with one key, and accounts for services.

Every step finds out by itself whether it was done, so that a start that was broken off is gone on with, and a second
start changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import structlog

from services.identity.accounts import Account, Key, new_unique_id
from services.identity.entries import Beginnings
from services.identity.key_files import KeyFile, key_file, new_pair
from services.identity.projects import Project, new_project_number, owned_by
from services.identity.roles import PREDEFINED
from services.identity.store import ORGANIZATION, Change, Store
from services.identity.vouching import Vouching
from shared.clock import Clock, Cpu, Ids, rfc3339
from shared.events import Cause
from shared.events.states import Binding, PolicyState
from shared.http.etags import etag_of
from shared.http.iam import Policies
from shared.identity.directory import Directory
from shared.identity.perimeters import SYSTEM_PROJECT
from shared.identity.policies import with_etag
from shared.secret_files import write_once
from shared.settings import SettingsWrong, secret
from shared.state import FieldIs, Put, PutField, ValueIs

ADMIN: Final = "admin"
AGENT_ROLES: Final[Mapping[str, str]] = {
    "builder": "roles/cloudbuild.builds.builder",
    "scanner": "roles/artifactregistry.reader",
    "attestor": "roles/artifactregistry.writer",
    "cleanup": "roles/artifactregistry.repoAdmin",
}
"""What a service's own account may do in all projects, where one is wished for."""

_ADMIN_ROLES: Final = (
    "roles/resourcemanager.organizationAdmin",
    "roles/resourcemanager.projectCreator",
    "roles/iam.organizationRoleAdmin",
    "roles/accesscontextmanager.policyAdmin",
    "roles/owner",
)
_CAUSE: Final = Cause(id="first start", actor="entrepot")

_log = structlog.get_logger("identity")


@dataclass(frozen=True)
class Wishes:
    """What the settings want the first start to make."""

    organization: str
    project: str
    domain: str
    admin_key: Path
    agents: Sequence[str]
    agent_keys: Path
    base_url: str


@dataclass(frozen=True)
class FirstStart:
    """Makes what must be there before anybody can log in."""

    store: Store
    vouching: Vouching
    policies: Policies
    directory: Directory
    clock: Clock
    ids: Ids
    cpu: Cpu
    wishes: Wishes

    async def begin(self) -> None:
        """Make what is missing. Raises Moved where another replica does the same: try again."""
        await self._say_roles()
        if await self._begun():
            return
        await self._make_project(self.wishes.project)
        await self._make_account(self.wishes.project, ADMIN, self.wishes.admin_key)
        for agent in self.wishes.agents:
            await self._make_project(SYSTEM_PROJECT)
            await self._make_account(SYSTEM_PROJECT, agent, self.wishes.agent_keys / f"{agent}.json")
        await self._make_organization()

    async def _say_roles(self) -> None:
        """Say what each predefined role means, where that is new or has changed."""
        place = self.store.keys.of(ORGANIZATION, "predefined")
        told = await self.store.state.record(place)
        for name, role in PREDEFINED.items():
            fact = role.fact()
            mark = etag_of(fact.model_dump_json().encode())
            if told.get(name) == mark:
                self.directory.learn(fact)
                continue
            change = Change(
                project=ORGANIZATION,
                request=f"role {name} {mark}",
                checks=(FieldIs(place, name, told.get(name)),),
                writes=(PutField(place, name, mark),),
                events=(fact,),
            )
            await self.store.apply(change, Cause(id=f"role {name} {mark}", actor=_CAUSE.actor))

    async def _begun(self) -> bool:
        return await self.policies.of(self.wishes.organization) is not None

    async def _make_project(self, name: str) -> None:
        project, found = await self.store.project(name)
        if project is not None:
            return
        now = rfc3339(self.clock.now())
        project = Project(
            id=name,
            number=new_project_number(self.ids),
            name=name,
            parent=self.wishes.organization,
            created=now,
            updated=now,
        )
        policy = owned_by(name, self._member(self.wishes.project, ADMIN), await self._admin_id())
        check, write = self.policies.first(policy)
        cause = Cause(id=f"first start {name}", actor=_CAUSE.actor)
        entries = self._entries.project(project, cause), self._entries.policy(policy, cause)
        change = Change(
            project=name,
            request=cause.id,
            checks=(self.store.project_is(name, found), check),
            writes=(self.store.keep_project(project), write),
            events=(project.fact(), policy, *entries),
        )
        await self.store.apply(change, cause)

    async def _admin_id(self) -> str:
        """The unique id that the administrator has, or will have."""
        email = f"{ADMIN}@{self.wishes.project}.{self.wishes.domain}"
        account, _ = await self.store.account(self.wishes.project, email)
        if account is not None:
            return account.unique_id
        file = await self.cpu(lambda: self._key_file(self.wishes.project, email, self.wishes.admin_key))
        return file.client_id

    async def _make_account(self, project: str, name: str, path: Path) -> None:
        """An account with one key.

        The key is durable in its file before the account knows it: the other way round, a crash between the two would
        leave an account that nobody can use. A file that is there already, of a start that was broken off or of
        another replica's, is taken as it is.
        """
        email = f"{name}@{project}.{self.wishes.domain}"
        account, found = await self.store.account(project, email)
        if account is not None:
            return
        file = await self.cpu(lambda: self._key_file(project, email, path))
        key = Key(id=file.private_key_id, public_key=file.public_key(), created=rfc3339(self.clock.now()))
        account = Account(
            project=project,
            email=email,
            unique_id=file.client_id,
            display_name="Administrator" if name == ADMIN else f"Entrepot {name}",
        )
        account = self.vouching.added(account, key)
        cause = Cause(id=f"first start {email} {key.id}", actor=_CAUSE.actor)
        change = Change(
            project=project,
            request=cause.id,
            checks=(self.store.account_is(project, email, found),),
            writes=(self.store.keep_account(account),),
            events=(account.fact(), self._entries.account(account, cause), self._entries.key(account, key, cause)),
        )
        await self.store.apply(change, cause)
        _log.info("account made", account=email, key_file=str(path))

    def _key_file(self, project: str, email: str, path: Path) -> KeyFile:
        """The key file at that path, made where there is none."""
        if not path.exists():
            account = Account(project=project, email=email, unique_id=new_unique_id(self.ids))
            key = Key(id=self.ids.secret(20).hex(), public_key="", created="")
            file = key_file(account, key, new_pair().private, self.wishes.base_url)
            write_once(path, orjson.dumps(file, option=orjson.OPT_INDENT_2))
        found = KeyFile.parse(secret(path))
        if found.client_email != email:
            raise SettingsWrong(f"{path} holds the key of {found.client_email}, not of {email}")
        return found

    async def _make_organization(self) -> None:
        """The organisation's policy, last: it marks that the first start is done."""
        name, admin = self.wishes.organization, self._member(self.wishes.project, ADMIN)
        bindings = [Binding(role=role, members=(admin,)) for role in _ADMIN_ROLES]
        bindings += [
            Binding(role=AGENT_ROLES[agent], members=(self._member(SYSTEM_PROJECT, agent),))
            for agent in self.wishes.agents
            if agent in AGENT_ROLES
        ]
        policy = PolicyState(project=ORGANIZATION, full_name=name, bindings=tuple(bindings))
        policy = with_etag(policy.model_copy(update={"unique_ids": await self._unique_ids()}), "")
        key = self.policies.key(name)
        change = Change(
            project=ORGANIZATION,
            request="first start organization",
            checks=(ValueIs(key, None),),
            writes=(Put(key, policy.model_dump_json()),),
            events=(policy, self._entries.policy(policy, _CAUSE)),
        )
        await self.store.apply(change, _CAUSE)

    async def _unique_ids(self) -> dict[str, str]:
        """Of all accounts that the first start makes."""
        made = [(self.wishes.project, ADMIN), *((SYSTEM_PROJECT, agent) for agent in self.wishes.agents)]
        found: dict[str, str] = {}
        for project, name in made:
            account, _ = await self.store.account(project, f"{name}@{project}.{self.wishes.domain}")
            if account is not None and account.unique_id:
                found[account.member] = account.unique_id
        return found

    @property
    def _entries(self) -> Beginnings:
        return Beginnings(self.clock, self.directory)

    def _member(self, project: str, name: str) -> str:
        return f"serviceAccount:{name}@{project}.{self.wishes.domain}"
